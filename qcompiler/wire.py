"""The little of protobuf's wire format that keeps large weights out of memory: to cut them out, to write them in.

A protobuf library holds a whole message at once, and twice while it parses. Of an ONNX file nearly all bytes are the
`raw_data` of initializers, which nothing here needs as a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_NAME, _TENSOR_RAW_DATA = 7, 5, 8, 9
_BOUND = 1 << 63

Span = tuple[int, int]


def cut_weights(data: memoryview, smallest: int) -> tuple[bytes, dict[str, Span]]:
    """A serialized ModelProto without the `raw_data` of at least `smallest` bytes of the main graph's initializers.

    Returns:
        The rest, a valid ModelProto, and where in `data` each weight that was cut out begins and ends, by name.

    Raises:
        ValueError: `data` is not a sequence of protobuf fields.
    """
    found: dict[str, Span] = {}
    model: list[bytes] = []
    for number, start, payload, end in _fields(data, 0, len(data)):
        if number == _MODEL_GRAPH:
            graph = b"".join(_graph_without_weights(data, payload, end, smallest, found))
            model += [_tag(_MODEL_GRAPH, len(graph)), graph]
        else:
            model.append(bytes(data[start:end]))
    return b"".join(model), found


def write_model(
    proto: onnx.ModelProto,
    weights: Iterable[tuple[onnx.TensorProto, int, Callable[[IO[bytes]], object]]],
    file: IO[bytes],
) -> None:
    """Write `proto` with more initializers at the end of its graph, whose bytes are never in a message.

    Args:
        weights: Each initializer without its data, the number of its bytes, and what writes them.
    """
    import onnx

    heads = []
    for tensor, size, write in weights:
        head = tensor.SerializeToString() + _tag(_TENSOR_RAW_DATA, size)
        heads.append((_tag(_GRAPH_INITIALIZER, len(head) + size) + head, size, write))
    graph = proto.graph.SerializeToString(deterministic=True)
    rest = onnx.ModelProto()
    rest.CopyFrom(proto)
    rest.ClearField("graph")
    file.write(rest.SerializeToString(deterministic=True))
    file.write(_tag(_MODEL_GRAPH, len(graph) + sum(len(head) + size for head, size, _ in heads)))
    file.write(graph)
    for head, _, write in heads:
        file.write(head)
        write(file)


def _graph_without_weights(
    data: memoryview, start: int, end: int, smallest: int, found: dict[str, Span]
) -> Iterator[bytes]:
    copied = start
    for number, begin, payload, stop in _fields(data, start, end):
        if number != _GRAPH_INITIALIZER or stop - payload < smallest:
            continue
        name, raw, others = "", None, []
        for field, field_start, field_payload, field_end in _fields(data, payload, stop):
            if field == _TENSOR_RAW_DATA:
                raw = (field_payload, field_end)
                continue
            if field == _TENSOR_NAME:
                name = bytes(data[field_payload:field_end]).decode("utf-8", "replace")
            others.append(bytes(data[field_start:field_end]))
        if raw is None or raw[1] - raw[0] < smallest or name in found:
            continue
        found[name] = raw
        tensor = b"".join(others)
        yield bytes(data[copied:begin])
        yield _tag(_GRAPH_INITIALIZER, len(tensor)) + tensor
        copied = stop
    yield bytes(data[copied:end])


def _fields(data: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Field number, where the field starts, where its payload starts, where both end."""
    at = start
    while at < end:
        key, payload = _varint(data, at, end)
        kind = key & 7
        if kind == _LENGTH_DELIMITED:
            size, payload = _varint(data, payload, end)
            stop = payload + size
        elif kind == 0:
            _, stop = _varint(data, payload, end)
        elif kind in _FIXED:
            stop = payload + _FIXED[kind]
        else:
            raise ValueError(f"unknown wire type {kind}")
        if stop > end:
            raise ValueError("a field reaches beyond its message")
        yield key >> 3, at, payload, stop
        at = stop


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if value >= _BOUND:
            break
    raise ValueError("a number has no end")


def _tag(number: int, size: int) -> bytes:
    """The key of a length-delimited field and the length that follows it."""
    encoded = bytearray([number << 3 | _LENGTH_DELIMITED])
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)
