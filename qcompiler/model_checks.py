"""What a model file must satisfy before it is turned into a graph: names, operators, weights, external data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from qcompiler.errors import ModelError, UnsupportedError

if TYPE_CHECKING:
    import onnx

_AGAIN = "export the model again"
_STANDARD = ("", "ai.onnx")


def check_model(proto: onnx.ModelProto, path: Path, *, any_domain: bool = False) -> None:
    """Check names, operators and weights of the main graph, its subgraphs and its functions.

    Raises:
        UnsupportedError: A domain that is not standard and not defined in the model, unless `any_domain`.
        ModelError: Anything invalid; the message names the node, tensor or file.
    """
    where = str(path)
    graph = proto.graph
    if not graph.output:
        raise ModelError("the graph has no outputs", where=where, hint=_AGAIN)
    opset = next(item.version for item in proto.opset_import if item.domain in _STANDARD)
    for value in (*graph.input, *graph.output):
        kind = value.type.WhichOneof("value")
        if kind not in (None, "tensor_type") and not any_domain:
            raise UnsupportedError(
                f"{value.name!r} is a {kind.removesuffix('_type')}, inputs and outputs must be tensors", where=where,
                hint="export the model so that it returns its tensors one by one",
            )  # fmt: skip
    functions = {(item.domain, item.name) for item in proto.functions}
    _check_graph(graph, frozenset(), where)
    for owner in (graph.node, *(item.node for item in proto.functions)):
        for node in walk_nodes(owner):
            if node.domain in _STANDARD or not any_domain:
                _check_operator(node, opset, functions, where)
            for attribute in node.attribute:
                for tensor in (attribute.t, *attribute.tensors):
                    if tensor.data_type:
                        _check_tensor(tensor, path)
    for one in walk_graphs(graph):
        for tensor in one.initializer:
            _check_tensor(tensor, path)


def walk_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs included."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from walk_nodes(graph.node)


def walk_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and its subgraphs."""
    yield graph
    for node in walk_nodes(graph.node):
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def node_label(node: onnx.NodeProto) -> str:
    """How messages call a node: its name, else its first output, with the operator."""
    name = node.name or next(iter(node.output), "")
    return f"{node.op_type} node {name!r}"


def _check_operator(node: onnx.NodeProto, opset: int, functions: set[tuple[str, str]], where: str) -> None:
    import onnx

    if (node.domain, node.op_type) in functions:
        return
    if node.domain not in _STANDARD:
        hint = "export with standard ONNX operators, without a runtime's own optimizations"
        raise UnsupportedError(
            f"{node_label(node)} is of domain {node.domain!r}, which is not supported", where=where, hint=hint
        )
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        raise ModelError(f"{node_label(node)} does not exist in opset {opset}", where=where, hint=_AGAIN) from None
    if not schema.min_input <= len(node.input) <= schema.max_input:
        wanted = f"{schema.min_input} to {schema.max_input}"
        raise ModelError(
            f"{node_label(node)} has {len(node.input)} inputs, opset {opset} takes {wanted}", where=where, hint=_AGAIN
        )
    present = {attribute.name for attribute in node.attribute}
    for name, attribute in schema.attributes.items():
        if attribute.required and name not in present:
            raise ModelError(f"{node_label(node)} lacks the attribute {name!r}", where=where, hint=_AGAIN)


def _check_graph(graph: onnx.GraphProto, outer: frozenset[str], where: str) -> None:
    defined: set[str] = set()
    for value in graph.input:
        _define(defined, value.name, "graph input", where)
    feedable = set(defined)
    for tensor in graph.initializer:
        if tensor.name not in feedable:  # before IR 4 every initializer is listed as an input too
            _define(defined, tensor.name, "initializer", where)
        feedable.discard(tensor.name)
    for sparse in graph.sparse_initializer:
        _define(defined, sparse.values.name, "initializer", where)
    for node in graph.node:
        for name in node.output:
            if name:
                _define(defined, name, node_label(node), where)
    known = outer | defined
    for node in graph.node:
        for name in node.input:
            if name and name not in known:
                raise ModelError(f"{node_label(node)} reads {name!r}, which nothing produces", where=where, hint=_AGAIN)
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                _check_graph(inner, frozenset(known), where)
    for value in graph.output:
        if value.name not in known:
            raise ModelError(f"the graph returns {value.name!r}, which nothing produces", where=where, hint=_AGAIN)
    _check_order(graph, where)


def _define(defined: set[str], name: str, what: str, where: str) -> None:
    if not name:
        raise ModelError(f"a {what} has no name", where=where, hint=_AGAIN)
    if name in defined:
        raise ModelError(f"{what}: the name {name!r} is defined twice", where=where, hint=_AGAIN)
    defined.add(name)


def _check_order(graph: onnx.GraphProto, where: str) -> None:
    """Refuse cycles; a graph that is merely unsorted is fine, normalization sorts it."""
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    reads = [
        {producers[name] for inner in walk_nodes([node]) for name in inner.input if name in producers} - {index}
        for index, node in enumerate(graph.node)
    ]
    for index, node in enumerate(graph.node):
        if any(name in node.output for name in node.input if name):
            raise ModelError(f"{node_label(node)} reads its own output", where=where, hint=_AGAIN)
        reads[index].discard(index)
    if all(max(wanted, default=-1) < index for index, wanted in enumerate(reads)):
        return
    readers: dict[int, list[int]] = {}
    for index, wanted in enumerate(reads):
        for producer in wanted:
            readers.setdefault(producer, []).append(index)
    missing = [len(wanted) for wanted in reads]
    ready = [index for index, count in enumerate(missing) if count == 0]
    done = 0
    while ready:
        done += 1
        for reader in readers.get(ready.pop(), ()):
            missing[reader] -= 1
            if missing[reader] == 0:
                ready.append(reader)
    if done < len(missing):
        stuck = next(index for index, count in enumerate(missing) if count)
        raise ModelError(f"{node_label(graph.node[stuck])} lies on or behind a cycle", where=where, hint=_AGAIN)


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    import onnx
    import onnx_ir as ir

    where, label = str(path), f"tensor {tensor.name!r}"
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        raise ModelError(f"{label} has the unknown type {tensor.data_type}", where=where, hint=_AGAIN) from None
    if dtype == ir.DataType.UNDEFINED or any(size < 0 for size in tensor.dims):
        raise ModelError(f"{label} has no valid type or shape", where=where, hint=_AGAIN)
    if dtype == ir.DataType.STRING:
        return
    needed = math.ceil(math.prod(tensor.dims) * dtype.bitwidth / 8)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(tensor, needed, path)
    elif tensor.HasField("raw_data") and len(tensor.raw_data) != needed:
        message = f"{label} holds {len(tensor.raw_data)} bytes, its shape {list(tensor.dims)} needs {needed}"
        raise ModelError(message, where=where, hint="the file is damaged; download or export it again")


def _check_external(tensor: onnx.TensorProto, needed: int, path: Path) -> None:
    entries = {item.key: item.value for item in tensor.external_data}
    label, where, location = f"tensor {tensor.name!r}", str(path), entries.get("location", "")
    if not location:
        raise ModelError(f"{label} is external but names no file", where=where, hint=_AGAIN)
    pure, windows = PurePosixPath(location), PureWindowsPath(location)
    folder = path.parent.resolve()
    inside = "keep weight files in the model's folder"
    if pure.is_absolute() or windows.is_absolute() or windows.drive or ".." in pure.parts or ".." in windows.parts:
        raise ModelError(f"{label} points outside the model's folder: {location!r}", where=where, hint=inside)
    file = folder / location
    if not file.resolve().is_relative_to(folder):
        raise ModelError(f"{label}: {location!r} is a link that leaves the model's folder", where=where, hint=inside)
    if not file.is_file():
        hint = f"put {PurePosixPath(location).name} beside the model, where it was exported"
        raise ModelError(f"{label}: its weight file {location!r} is missing", where=where, hint=hint)
    if file.stat().st_nlink > 1:  # onnx and onnxruntime refuse to read it: the other name may lie outside
        hint = f"copy it: cp {PurePosixPath(location).name} copy && mv copy {PurePosixPath(location).name}"
        raise ModelError(f"{label}: its weight file {location!r} has several hard links", where=where, hint=hint)
    try:
        offset, length = int(entries.get("offset", 0) or 0), int(entries.get("length", needed) or 0)
    except ValueError:
        raise ModelError(f"{label}: offset and length must be integers", where=where, hint=_AGAIN) from None
    if offset < 0 or length != needed:
        shape = list(tensor.dims)
        message = (
            f"{label}: offset {offset} and length {length} do not fit its shape {shape}, which needs {needed} bytes"
        )
        raise ModelError(message, where=where, hint=_AGAIN)
    size = file.stat().st_size
    if offset + length > size:
        message = f"{label} needs bytes {offset} to {offset + length} of {location!r}, which has {size}"
        raise ModelError(message, where=where, hint="the weight file is cut short; download or export it again")
