"""Writing model files, without holding their weights in memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import onnx_ir as ir

from qcompiler.errors import OutputError
from qcompiler.graph import weight_bytes
from qcompiler.weight_file import SMALLEST, write_tensor
from qcompiler.wire import write_model

EXTERNAL_BYTES = 1_500_000_000
"""Weights above this many bytes go beside the model: protobuf ends at 2 GiB, and the graph needs room too."""


def save_model(model: ir.Model, path: Path, *, external_above: int = EXTERNAL_BYTES) -> None:
    """Write `model`, its weights in `<name>.data` beside it where they exceed `external_above` bytes.

    The same model gives the same bytes; large weights are copied from where they are. `model` is left as it was, and
    stays usable where it was read lazily.

    Raises:
        OutputError: The file cannot be written.
    """
    import onnx

    copy = model.clone()
    try:
        if weight_bytes(model) > external_above:
            ir.save(copy, path, external_data=f"{path.name}.data")
            return
        large = _take_out_weights(copy)
        proto = ir.to_proto(copy)
        placed = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.name in large}
        kept = [tensor for tensor in proto.graph.initializer if tensor.name not in large]
        heads = [onnx.TensorProto(name=name, data_type=one.data_type, dims=one.dims) for name, one in placed.items()]
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(kept)
        weights = [(head, large[head.name].nbytes, partial(write_tensor, large[head.name])) for head in heads]
        with path.open("wb") as file:
            write_model(proto, weights, file)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error


def _take_out_weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Large initializers by name, replaced in the model by references to nothing; others on disk are read."""
    large: dict[str, ir.TensorProtocol] = {}
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is None:
                continue
            if graph is model.graph and tensor.nbytes >= SMALLEST and tensor.dtype.bitwidth >= 8:
                large[name] = tensor
                shape = ir.Shape(tensor.shape.numpy())
                value.const_value = ir.ExternalTensor("", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)
            elif isinstance(tensor, ir.ExternalTensor):
                value.const_value = _in_memory(tensor)
    return large


def _in_memory(tensor: ir.ExternalTensor) -> ir.LazyTensor:
    """Bytes that are read when the file is written, without the reference to the old file."""
    return ir.LazyTensor(
        lambda: ir.Tensor(tensor.numpy(), dtype=tensor.dtype),
        dtype=tensor.dtype,
        shape=ir.Shape(tensor.shape),
        name=tensor.name,
    )
