"""An affine function of a layer's output channels goes into the layer's weight and bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, rank, sole_consumer
from qcompiler.passes.canonical.forms import form_of

Array = np.ndarray[Any, Any]

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_DTYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


class OutputChannels:
    """y = scale * layer(x) + shift becomes one layer, for the members of `LAYERS` with constant weights.

    A MatMul of two matrices that gets a shift becomes a Gemm. Products are taken in float64 and rounded once to the
    type of the weight. Weights are never written in place; a weight that layers share, scaled alike, stays shared.
    """

    def __init__(self, model: ir.Model) -> None:
        self._names = FreshNames(model)
        self._made: dict[tuple[object, ...], ir.Value] = {}

    def refusal(self, layer: ir.Node, follower: ir.Node) -> str:
        """Why `follower` cannot go into `layer`, whose output it reads; empty where it can."""
        if layer.graph is not follower.graph or sole_consumer(layer.outputs[0]) is not follower:
            return "the layer's output is read elsewhere too"
        if form_of(layer) is not None or form_of(follower) is not None:
            return "part of a recognised form"
        if channels_of(layer) is None:
            return "the layer's weight is computed at run time"
        if len(layer.inputs) > 2 and layer.inputs[2] is not None and self._bias(layer) is None:
            return "the layer's bias is computed at run time or has rows"
        return ""

    def absorb(self, layer: ir.Node, scale: Array | None, shift: Array | None) -> str:
        """Change the layer; `scale` and `shift` are float64 [channels], None for 1 and 0. Returns a refusal or ""."""
        channels = channels_of(layer)
        weight = layer.inputs[1]
        assert channels is not None and weight is not None and weight.const_value is not None
        dtype = weight.const_value.dtype.numpy()
        old = self._bias(layer)
        bias = np.zeros(channels) if old is None else old.astype(np.float64)
        beta = layer.attributes.get_float("beta", 1.0) if old is not None else 1.0
        bias = bias * (1.0 if scale is None else scale) + (0.0 if shift is None else shift / beta)
        with np.errstate(over="ignore"):
            rounded = bias.astype(dtype)
            scaled = None if scale is None else _scaled(layer, weight.const_value.numpy(), scale)
        if not np.isfinite(rounded).all() or (scaled is not None and not np.isfinite(scaled).all()):
            return "the folded weights are not finite"
        if scaled is not None and scale is not None:
            layer.replace_input_with(1, self._constant(layer, weight, "scaled", scale.tobytes(), scaled))
        if old is None and shift is None:
            return ""
        if len(layer.inputs) < 3:
            layer.resize_inputs(3)
            layer.op_type = "Gemm" if layer.op_type == "MatMul" else layer.op_type
        layer.replace_input_with(2, self._constant(layer, weight, "bias", rounded.tobytes(), rounded))
        if old is None and layer.op_type == "Gemm":
            layer.attributes.pop("beta", None)
        return ""

    def _constant(self, layer: ir.Node, weight: ir.Value, suffix: str, key: bytes, array: Array) -> ir.Value:
        assert layer.graph is not None
        kind = (layer.op_type, layer.attributes.get_int("group", 1), layer.attributes.get_int("transB", 0))
        place = (id(layer.graph), id(weight), suffix, key, *kind)
        if place not in self._made:
            graph = layer.graph
            assert isinstance(graph, ir.Graph)
            self._made[place] = add_initializer(graph, array, self._names(f"{weight.name}_{suffix}"))
        return self._made[place]

    def _bias(self, layer: ir.Node) -> Array | None:
        """The constant bias as [channels]; None where there is none, or one that is not of that form."""
        array = constant_array(layer.inputs[2]) if len(layer.inputs) > 2 else None
        channels = channels_of(layer)
        if array is None or channels is None or not layer.attributes.get_float("beta", 1.0):
            return None
        return per_channel(array, channels, 0, 2)


def channels_of(layer: ir.Node) -> int | None:
    """Output channels of such a layer with a constant float weight; None for all else."""
    if layer.domain not in ("", "ai.onnx") or layer.op_type not in LAYERS:
        return None
    if layer.op_type == "MatMul" and (rank(layer.inputs[0]), rank(layer.inputs[1])) != (2, 2):
        return None  # the channels of BatchNormalization are axis 1
    weight = layer.inputs[1]
    if weight is None or weight.const_value is None or weight.is_graph_input():
        return None
    tensor = weight.const_value
    if tensor.dtype not in _DTYPES:
        return None
    sizes = tensor.shape.numpy()
    if layer.op_type == "Conv":
        return sizes[0]
    if layer.op_type == "ConvTranspose":
        return sizes[1] * layer.attributes.get_int("group", 1)
    return sizes[0 if layer.attributes.get_int("transB", 0) else 1]


def spatial_axes(layer: ir.Node) -> int:
    """How many axes follow that of the output channels."""
    weight = layer.inputs[1]
    return 0 if weight is None or weight.const_value is None else len(weight.const_value.shape) - 2


def per_channel(array: Array, channels: int, behind: int, dims: int) -> Array | None:
    """A constant operand as float64 [channels]; None where it differs along another axis or widens the result.

    Args:
        behind: Axes behind the channels.
        dims: Axes of the result.
    """
    if array.size not in (1, channels) or array.ndim > dims or array.dtype.kind != "f":
        return None
    if array.size != 1 and array.shape[array.ndim - 1 - behind : array.ndim - behind] != (channels,):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,))


def _scaled(layer: ir.Node, weight: Array, scale: Array) -> Array:
    wide = weight.astype(np.float64)
    if layer.op_type == "Conv":
        wide *= scale.reshape(-1, *[1] * (wide.ndim - 1))
    elif layer.op_type == "ConvTranspose":  # [inputs, channels of one group, ...]: groups lie along the inputs
        group = layer.attributes.get_int("group", 1)
        grouped = wide.reshape(group, -1, *wide.shape[1:])
        grouped *= scale.reshape(group, 1, -1, *[1] * (wide.ndim - 2))
    else:
        wide *= scale.reshape((-1, 1) if layer.attributes.get_int("transB", 0) else (1, -1))
    return wide.astype(weight.dtype)


def drop_follower(layer: ir.Node, follower: ir.Node) -> None:
    """The layer's output takes the place of the follower's, and its name where the graph returns it."""
    output, kept = follower.outputs[0], layer.outputs[0]
    name = output.name if output.is_graph_output() else None
    kept.shape = kept.shape or output.shape
    kept.type = kept.type or output.type
    output.replace_all_uses_with(kept, replace_graph_outputs=True)
    assert follower.graph is not None
    follower.graph.remove(follower, safe=True)
    if name is not None:
        output.name = None
        kept.name = name
