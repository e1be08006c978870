"""Reading model files, and a fingerprint that depends on content only.

External weights stay on disk until something reads them, so models over 2 GB load without a flag.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from qcompiler.errors import ModelError, UnsupportedError, UsageError
from qcompiler.model_checks import check_model
from qcompiler.weight_file import SMALLEST, fits, forget_pages, move_out
from qcompiler.wire import Span, cut_weights

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 7
_SMALL_BYTES = 4096

_SIGNATURES = (
    (b"version https://git-lfs", "a git-LFS pointer, not the model itself", "run `git lfs pull`"),
    (b"PK\x03\x04", "a zip archive or a PyTorch checkpoint", "export the model to ONNX first"),
    (b"\x80\x02", "a Python pickle (PyTorch checkpoint)", "export the model with torch.onnx.export"),
    (b"\x80\x03", "a Python pickle", "export the model to ONNX"),
    (b"\x80\x04", "a Python pickle", "export the model to ONNX"),
    (b"\x80\x05", "a Python pickle", "export the model to ONNX"),
    (b"\x89HDF", "an HDF5 file (Keras)", "export the model with tf2onnx"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x93NUMPY", "a NumPy array", "pass the model here and the data with --calib"),
    (b"ftrt", "a TensorRT engine", "compile from the ONNX file"),
)


def load_model(path: Path, *, any_domain: bool = False) -> ir.Model:
    """The model in `path`, checked for what later steps take for granted; weights are not read.

    Args:
        any_domain: Take operators of other domains as they are: for graphs that are run or linted, not compiled.

    Raises:
        UsageError: No such file, or a folder.
        UnsupportedError: An IR version, opset, domain or operator that this version cannot take.
        ModelError: Damaged, not ONNX, unsafe or missing external data, or not a valid graph.
    """
    with _opened(path) as data:
        proto, spans = _parse(data, str(path))
        model = _checked(proto, path, any_domain)
        move_out(model, data, spans)
    return model


def parse_without_weights(path: Path) -> onnx.ModelProto:
    """The file's message, large inline weights left out; nothing is checked.

    Raises:
        QcompileError: As `load_model`, where the file is not an ONNX model.
    """
    with _opened(path) as data:
        return _parse(data, str(path))[0]


@contextmanager
def parse_with_spans(path: Path) -> Iterator[tuple[onnx.ModelProto, memoryview, dict[str, Span]]]:
    """The file's message without large inline weights, the file's bytes, and where in these each of the weights lies.

    Raises:
        QcompileError: As `parse_without_weights`.
    """
    with _opened(path) as data:
        proto, spans = _parse(data, str(path))
        yield proto, data, spans


def as_model(model: str | Path | onnx.ModelProto | ir.Model, *, any_domain: bool = False) -> ir.Model:
    """What a caller holds as a graph: a path is read, a proto is checked like a file, a graph is given back.

    External weights of a proto are looked for below the current folder.

    Raises:
        UsageError: It is none of these.
        QcompileError: As `load_model`.
    """
    import onnx

    if isinstance(model, ir.Model):
        return model
    if isinstance(model, onnx.ModelProto):
        return _checked(model, Path("ModelProto"), any_domain)
    if isinstance(model, (str, os.PathLike)):
        return load_model(Path(model), any_domain=any_domain)
    message = f"a model cannot be of type {type(model).__name__}"
    raise UsageError(message, hint="give a path, an onnx.ModelProto or an onnx_ir.Model")


def _checked(proto: onnx.ModelProto, path: Path, any_domain: bool) -> ir.Model:
    where = str(path)
    _check_versions(proto, where)
    check_model(proto, path, any_domain=any_domain)
    try:
        model = ir.serde.deserialize_model(proto)
    except Exception as error:  # onnx_ir raises many unrelated types on malformed protos
        raise ModelError(f"cannot be read: {_one_line(error)}", where=where, hint="export the model again") from error
    for graph in model.graphs():
        ir.external_data.set_base_dir(graph, path.parent.resolve())
    _read_small_weights(model)
    _forget_negative_sizes(model)
    return model


def model_fingerprint(model: ir.Model) -> str:
    """sha256 over structure and weights: equal for one graph however it is stored, whoever produced it."""
    digest = hashlib.sha256()
    for name, version in sorted(model.opset_imports.items()):
        digest.update(f"opset {name} {version}\n".encode())
    for key, function in sorted(model.functions.items(), key=lambda item: str(item[0])):
        digest.update(f"function {key}\n".encode())
        _hash_graph(digest, function)
    _hash_graph(digest, model.graph)
    return digest.hexdigest()


def _read_small_weights(model: ir.Model) -> None:
    """External shape operands, and whatever subgraphs and attributes hold: inference and runtimes want those inline."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and (graph is not model.graph or tensor.nbytes <= _SMALL_BYTES):
                value.const_value = ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                held = attribute.value
                if isinstance(held, ir.ExternalTensor):
                    copy = ir.Tensor(held.numpy().copy(), dtype=held.dtype, name=held.name)
                    node.attributes[name] = ir.AttrTensor(name, copy)


def _forget_negative_sizes(model: ir.Model) -> None:
    """Paddle's exporter writes -1 for a size that varies; ONNX has none at all for that."""
    for graph in model.graphs():
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
            sizes = value.shape
            if sizes is not None and any(isinstance(size, int) and size < 0 for size in sizes):
                value.shape = ir.Shape([None if isinstance(size, int) and size < 0 else size for size in sizes])


@contextmanager
def _opened(path: Path) -> Iterator[memoryview]:
    """The bytes of the file, mapped."""
    where = str(path)
    if path.is_dir():
        raise UsageError("this is a folder, not a model", where=where, hint="name the .onnx file in it")
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ModelError("the file is empty", where=where, hint="download or export it again")
            # not closed by hand: that fails while an error's traceback holds a part of it
            yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise UsageError("no such file", where=where, hint="check the path") from None
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=where) from error


def _parse(data: memoryview, where: str) -> tuple[onnx.ModelProto, dict[str, Span]]:
    """The model without its large weights, and where in `data` these are; with them where that cannot be told."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    _refuse_other_formats(bytes(data[:512]), len(data), where)
    try:
        rest, spans = cut_weights(data, SMALLEST)
        proto: onnx.ModelProto = onnx.ModelProto.FromString(rest)
        tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
        if all(fits(tensors[name], end - begin) for name, (begin, end) in spans.items()):
            return proto, spans
    except (ValueError, DecodeError):
        pass  # damaged: the whole file is parsed, for one message whatever is wrong with it
    try:
        return onnx.ModelProto.FromString(bytes(data)), {}
    except DecodeError as error:
        hint = "download or export it again"
        raise ModelError("not an ONNX model, or damaged or cut short", where=where, hint=hint) from error


def _refuse_other_formats(data: bytes, size: int, where: str) -> None:
    for signature, kind, hint in _SIGNATURES:
        if data.startswith(signature):
            raise ModelError(f"this is {kind}", where=where, hint=hint)
    if data[4:8] == b"TFL3":
        raise ModelError("this is a TensorFlow Lite model", where=where, hint="export the model to ONNX")
    if data[8:10] in (b'{"', b"{ ") and int.from_bytes(data[:8], "little") < size:
        raise ModelError(
            "this is a safetensors file: weights without a graph", where=where, hint="export the model to ONNX"
        )
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in data):
        raise ModelError("this is a text file, not an ONNX model", where=where, hint="name the .onnx file")


def _check_versions(proto: onnx.ModelProto, where: str) -> None:
    import onnx

    if not proto.HasField("graph") or not proto.ir_version:
        raise ModelError("not an ONNX model, or cut short: it holds no graph", where=where, hint="export it again")
    if proto.ir_version > onnx.IR_VERSION:
        message = f"IR version {proto.ir_version} is newer than the installed onnx reads ({onnx.IR_VERSION})"
        raise UnsupportedError(message, where=where, hint="upgrade the onnx package or export with an older IR version")
    if proto.ir_version < 3:
        raise UnsupportedError(
            f"IR version {proto.ir_version} is older than 3", where=where, hint="export the model again"
        )
    opsets = {item.domain or "": item.version for item in proto.opset_import}
    version = opsets.get("", opsets.get("ai.onnx"))
    if version is None:
        raise ModelError("the model imports no ai.onnx opset", where=where, hint="export the model again")
    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        message = f"opset {version} is newer than the installed onnx knows ({newest})"
        raise UnsupportedError(message, where=where, hint=f"upgrade onnx, or export with opset {newest} or lower")
    if version < OLDEST_OPSET:
        message = f"opset {version} is older than {OLDEST_OPSET}"
        raise UnsupportedError(message, where=where, hint="export the model with opset 13 or higher")


def _hash_graph(digest: Any, graph: ir.Graph | ir.Function) -> None:
    for label, values in (("in", graph.inputs), ("out", graph.outputs)):
        for value in values:
            digest.update(f"{label} {value.name} {value.type} {value.shape}\n".encode())
    initializers = graph.initializers if isinstance(graph, ir.Graph) else {}
    for name in sorted(initializers):
        tensor = initializers[name].const_value
        if tensor is not None:
            digest.update(f"initializer {name}\n".encode())
            _hash_tensor(digest, tensor)
    for node in graph:
        ins = [None if value is None else value.name for value in node.inputs]
        outs = [value.name for value in node.outputs]
        digest.update(f"node {node.domain} {node.op_type} {node.overload} {ins} {outs}\n".encode())
        for name, attribute in sorted(node.attributes.items()):
            digest.update(f"attribute {name} {attribute.type}\n".encode())
            for item in _parts(attribute):
                if isinstance(item, ir.Graph):
                    _hash_graph(digest, item)
                elif isinstance(item, ir.TensorProtocol):
                    _hash_tensor(digest, item)
                else:
                    digest.update(f"{item!r}\n".encode())


def _parts(attribute: ir.Attr) -> Iterator[Any]:
    if attribute.is_ref():
        yield attribute.ref_attr_name
    elif attribute.type in (ir.AttributeType.GRAPHS, ir.AttributeType.TENSORS):
        yield from attribute.value
    elif isinstance(attribute.value, (list, tuple)):
        yield list(attribute.value)
    else:
        yield attribute.value


def _hash_tensor(digest: Any, tensor: ir.TensorProtocol) -> None:
    digest.update(f"{tensor.dtype} {list(tensor.shape)}\n".encode())
    if tensor.dtype == ir.DataType.STRING:
        digest.update(repr(tensor.numpy().tolist()).encode())
        return
    digest.update(tensor.tobytes())
    forget_pages(tensor)


def _one_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300] or type(error).__name__
