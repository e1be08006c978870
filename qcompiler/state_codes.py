"""Models whose states are int8 codes, beside models that take the same states as floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.dither import dither
from qcompiler.graph import FreshNames, add_initializer, make_node, scalar_constant
from qcompiler.state_names import next_values

if TYPE_CHECKING:
    import onnx_ir as ir

    from qcompiler.plan import StateQuant
    from qcompiler.scheme import FloatArray
    from qcompiler.session import Arrays, Feeds

Array = np.ndarray[Any, Any]


def states_in_codes(model: ir.Model) -> dict[str, StateQuant]:
    """The states that a graph takes and gives as int8, told from the graph itself, with the scale of their codes.

    Input (int8) -> DequantizeLinear, and QuantizeLinear -> output (int8) of the name that `next_values` pairs with it,
    both with one constant scale. Whether they are dithered is not told.
    """
    import onnx_ir as ir

    from qcompiler.plan import StateQuant
    from qcompiler.scheme import INT8_ACTIVATION, TensorQuant

    codes = ir.DataType.INT8
    inputs = {str(value.name): _scale_behind(value) for value in model.graph.inputs if value.dtype == codes}
    outputs = {str(value.name): _scale_before(value) for value in model.graph.outputs if value.dtype == codes}
    found = {}
    for name, last in next_values(inputs, outputs).items():
        scale = inputs[name]
        if scale is not None and scale == outputs[last]:
            found[name] = StateQuant(last, TensorQuant(INT8_ACTIVATION, np.asarray(scale, np.float32)))
    return found


def _scale_behind(value: ir.Value) -> float | None:
    """Of codes that are fed, where every reader takes them for the same reals."""
    readers = [use.node for use in value.uses()]
    scales = {_scale_of(node, "DequantizeLinear") for node in readers}
    return scales.pop() if len(scales) == 1 else None


def _scale_before(value: ir.Value) -> float | None:
    maker = value.producer()
    return None if maker is None else _scale_of(maker, "QuantizeLinear")


def _scale_of(node: ir.Node, op_type: str) -> float | None:
    """Its one constant scale, where the zero point is none or 0."""
    if node.op_type != op_type or (len(node.inputs) > 2 and node.inputs[2] is not None
                                   and scalar_constant(node.inputs[2]) != 0):  # fmt: skip
        return None
    return scalar_constant(node.inputs[1])


def decode_states(feeds: Feeds, states: Mapping[str, StateQuant]) -> Arrays:
    """The feeds with the floats that codes stand for; states that are floats already stay."""
    return {name: array.astype(np.float32) * states[name].quant.scale if name in states and array.dtype.kind != "f"
            else array for name, array in feeds.items()}  # fmt: skip


def encode_states(feeds: Feeds, states: Mapping[str, StateQuant]) -> Arrays:
    """The feeds with codes in place of the float states, rounded half to even, as QuantizeLinear does."""
    return {name: state_codes(array, states[name].quant.scale) if name in states else array
            for name, array in feeds.items()}  # fmt: skip


def state_codes(array: Array, scale: FloatArray | float) -> Array:
    """clip(round(x / scale), -128, 127) as int8."""
    codes: Array = np.clip(np.rint(array.astype(np.float32) / np.float32(scale)), -128, 127).astype(np.int8)
    return codes


def dequantized(array: Array, scale: float, *, dithered: bool = False) -> Array:
    """What is left of a state that goes through codes."""
    moved = array + dither(array, scale) * np.float32(scale) if dithered else array
    real: Array = state_codes(moved, scale).astype(np.float32) * np.float32(scale)
    return real


def with_float_states(model: ir.Model, states: Mapping[str, StateQuant]) -> ir.Model:
    """A copy that takes and gives floats: Q in front of each state of codes, DQ behind its next value.

    What comes out is what the codes stand for, so the copy compares with a float model.
    """
    import onnx_ir as ir

    copy = model.clone()
    graph, names = copy.graph, FreshNames(copy)
    inputs = {value.name: index for index, value in enumerate(graph.inputs)}
    outputs = {value.name: index for index, value in enumerate(graph.outputs)}
    for name, state in states.items():
        scheme = state.quant.scheme
        scale = add_initializer(graph, state.quant.scale, names(f"{name}_edge_scale"), ir.DataType.FLOAT)
        zero = add_initializer(graph, np.zeros((), scheme.dtype.numpy()), names(f"{name}_edge_zero"), scheme.dtype)
        old = graph.inputs[inputs[name]]
        real = ir.Value(name=name, shape=old.shape, type=ir.TensorType(ir.DataType.FLOAT))
        uses = tuple(old.uses())
        old.name = names(f"{name}_codes")
        graph.inputs[inputs[name]] = real
        node = make_node("QuantizeLinear", [real, scale, zero], output=names(f"{name}_edge"), dtype=scheme.dtype,
                         shape=old.shape)  # fmt: skip
        for use in uses:
            use.node.replace_input_with(use.idx, node.outputs[0])
        graph.insert_before(graph[0], node)
        last = graph.outputs[outputs[state.next]]
        last.name = names(f"{state.next}_codes")
        node = make_node("DequantizeLinear", [last, scale, zero], output=state.next, dtype=ir.DataType.FLOAT,
                         shape=last.shape, name=names(f"{state.next}_edge"))  # fmt: skip
        graph.append(node)
        graph.outputs[outputs[state.next]] = node.outputs[0]
    return copy
