"""Constants that decide the order of hidden channels: weights, biases and factors in front of a down projection."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph import is_constant
from qcompiler.passes.rotate.stream_steps import layer_writers
from qcompiler.passes.sites.records import Operand

_ELEMENTWISE = frozenset({
    "Abs", "Add", "Cast", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Max", "Min", "Mish", "Mul", "Neg", "Pow", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Swish",
    "Tanh",
})  # fmt: skip


def hidden_makers(value: ir.Value, channels: int) -> tuple[Operand, ...] | None:
    """Every constant with an entry for each channel of `value` [.., channels], up to the layers that make them.

    What stands between works on each element alone, so that another order of these constants is another order of the
    value and changes nothing else. None where another operator stands there or reads what is reordered, or where no
    layer makes it.
    """
    made: dict[tuple[int, int], Operand] = {}
    seen, waiting, passed = {value}, [value], set[ir.Node]()
    while waiting:
        current = waiting.pop()
        node = current.producer()
        if node is None or node.domain != "" or current.is_graph_output():
            return None
        passed.add(node)
        written = layer_writers(node, current, -1) if node.op_type in ("MatMul", "Gemm") else None
        if written is None and node.op_type not in _ELEMENTWISE:
            return None
        for item in written or ():
            shape = item.value.shape
            if shape is None or shape[item.axis] != channels:
                return None  # a bias that is one number for all
            made[id(node), item.index] = item
        for index, operand in enumerate(node.inputs if written is None else ()):
            size = _last(operand)
            if operand is None or (size == 1 and is_constant(operand)):
                continue
            if size != channels:
                return None
            if is_constant(operand):
                made[(id(node), index)] = Operand(node, index, -1)
            elif operand not in seen:
                seen.add(operand)
                waiting.append(operand)
    if any(use.node not in passed for inner in seen if inner is not value for use in inner.uses()):
        return None
    return tuple(made.values())


def _last(value: ir.Value | None) -> int | None:
    if value is None or value.shape is None:
        return None
    size = value.shape[-1] if len(value.shape) else 1
    return size if isinstance(size, int) else None
