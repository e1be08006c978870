"""A model as lines that depend on neither the order of its lists nor the machine: one for each node and each weight.

For `git diff`, through a textconv: nodes in the order of a walk from the outputs, weights by name, as type, shape and a
hash of their content. External weights are named and not read, since git hands over the .onnx file alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from qcompiler.errors import ModelError
from qcompiler.lfs_pointer import read_pointer
from qcompiler.reading import parse_with_spans

if TYPE_CHECKING:
    import onnx

_FEW = 8
_HASH = 12
Weigh = Callable[["onnx.TensorProto"], str]


def stable_text(path: Path) -> Iterator[str]:
    """Lines of the model in `path`; of a git-LFS pointer its own.

    Raises:
        QcompileError: As `load_model`, where the file is not an ONNX model.
    """
    pointer = read_pointer(path)
    if pointer is not None:
        yield from pointer.text.decode().splitlines()
        return
    with parse_with_spans(path) as (proto, data, spans):

        def weigh(tensor: onnx.TensorProto) -> str:
            span = spans.get(tensor.name) if not tensor.HasField("raw_data") else None
            try:
                return _tensor(tensor, None if span is None else data[span[0] : span[1]])
            except (ValueError, TypeError) as error:
                raise ModelError("its content does not fit its type and shape", where=f"{path}: tensor {tensor.name!r}",
                                 hint="the file is damaged; download or export it again") from error  # fmt: skip

        yield f"ir_version {proto.ir_version}"
        for item in sorted(proto.opset_import, key=lambda item: item.domain):
            yield f"opset {item.domain or 'ai.onnx'} {item.version}"
        yield from _graph(proto.graph, "", weigh)
        for function in sorted(proto.functions, key=lambda item: (item.domain, item.name, item.overload)):
            yield f"function {function.domain}::{function.name}({', '.join(function.input)})"
            for node in _walk(function.node, function.output):
                yield from _node(node, "  ", weigh)
            yield f"  return {', '.join(function.output)}"


def _graph(graph: onnx.GraphProto, indent: str, weigh: Weigh) -> Iterator[str]:
    held = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name not in held:
            yield f"{indent}input {value.name} {_type(value)}"
    for node in _walk(graph.node, [value.name for value in graph.output]):
        yield from _node(node, indent, weigh)
    for value in graph.output:
        yield f"{indent}output {value.name} {_type(value)}"
    for tensor in sorted(graph.initializer, key=lambda item: item.name):
        yield f"{indent}weight {tensor.name} {weigh(tensor)}"


def _node(node: onnx.NodeProto, indent: str, weigh: Weigh) -> Iterator[str]:
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}::"
    words = [f"{', '.join(node.output)} = {domain}{node.op_type}({', '.join(node.input)})"]
    inner = []
    for attribute in sorted(node.attribute, key=lambda item: item.name):
        if attribute.HasField("g") or attribute.graphs:
            graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            inner += [(attribute.name, graph) for graph in graphs]
        else:
            words.append(f"{attribute.name}={_attribute(attribute, weigh)}")
    yield indent + " ".join(words) + (f" [{node.name}]" if node.name else "")
    for name, graph in inner:
        yield f"{indent}  {name}:"
        yield from _graph(graph, indent + "    ", weigh)


def _walk(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """Nodes, each behind what it reads, by a walk from the outputs along the inputs; unread ones last, by output."""
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    unread = sorted(range(len(nodes)), key=lambda place: list(nodes[place].output))
    order: list[int] = []
    seen: set[int] = set()
    for root in (*(makers[name] for name in outputs if name in makers), *unread):
        stack: list[tuple[int, Iterator[str]]] = []
        if root not in seen:
            seen.add(root)
            stack.append((root, iter(_reads(nodes[root]))))
        while stack:
            place, names = stack[-1]
            following = next((makers[name] for name in names if makers.get(name, place) not in seen), None)
            if following is None:
                order.append(place)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(_reads(nodes[following]))))
    return [nodes[place] for place in order]


def _reads(node: onnx.NodeProto) -> list[str]:
    names = list(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names += [name for inner in graph.node for name in _reads(inner)]
    return names


def _type(value: onnx.ValueInfoProto) -> str:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return str(kind or "any").removesuffix("_type")
    tensor = value.type.tensor_type
    name = ir.DataType(tensor.elem_type).name.lower()
    if not tensor.HasField("shape"):
        return name
    sizes = [str(getattr(size, size.WhichOneof("value") or "", "?")) for size in tensor.shape.dim]
    return f"{name}[{', '.join(sizes)}]"


def _attribute(attribute: onnx.AttributeProto, weigh: Weigh) -> str:
    import onnx

    if attribute.ref_attr_name:
        return f"@{attribute.ref_attr_name}"
    if attribute.type == onnx.AttributeProto.TENSOR:
        return weigh(attribute.t)
    value: Any = onnx.helper.get_attribute_value(attribute)
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)) or type(value).__name__.startswith("Repeated"):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    if isinstance(value, bytes):
        return repr(value.decode(errors="replace"))
    if isinstance(value, float):
        return f"{value:.9g}"
    return str(value) if isinstance(value, int) else type(value).__name__


def _tensor(tensor: onnx.TensorProto, raw: memoryview | None) -> str:
    import onnx

    head = f"{ir.DataType(tensor.data_type).name.lower()}[{', '.join(map(str, tensor.dims))}]"
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        entries = {item.key: item.value for item in tensor.external_data}
        place = f"at {entries.get('offset', 0)}, {entries.get('length', 'all')} bytes"
        return f"{head} in {entries.get('location')} {place}"
    if raw is not None:
        return f"{head} #{_digest(raw)}"
    array = onnx.numpy_helper.to_array(tensor)
    if array.size <= _FEW and array.dtype != object:
        return f"{head} {_plain(array.tolist())}"
    content = repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes()
    return f"{head} #{_digest(content)}"


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:_HASH]
