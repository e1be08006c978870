"""Which float inputs and outputs of a node go together, read from the ONNX operator schemas.

Operators name their types by variables: `Add` has one, T, so both inputs and the output agree; `Resize` takes X and roi
as variables and its scales as float32 whatever X is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import onnx_ir as ir

_HALF, _FLOAT = "tensor(float16)", "tensor(float)"


@dataclass(frozen=True, slots=True)
class Slots:
    """Types of one operator: the type variable of each input and output, and the variables that may be float16.

    The last input (output) stands for all further ones where the operator is variadic.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    half: frozenset[str]

    def input(self, index: int) -> str:
        """The type variable (or concrete type) of an input."""
        return self.inputs[min(index, len(self.inputs) - 1)] if self.inputs else ""

    def output(self, index: int) -> str:
        """The type variable (or concrete type) of an output."""
        return self.outputs[min(index, len(self.outputs) - 1)] if self.outputs else ""


@cache
def slots_of(op_type: str, domain: str, opset: int) -> Slots | None:
    """The slots of an operator; None where no schema is known."""
    import onnx

    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    half = frozenset(item.type_param_str for item in schema.type_constraints if _HALF in item.allowed_type_strs)
    return Slots(
        tuple(item.type_str for item in schema.inputs), tuple(item.type_str for item in schema.outputs), half
    )


def takes_half(node: ir.Node, opset: int) -> bool:
    """Whether every float operand of the node that isn't float32 by definition may be float16."""
    slots = slots_of(node.op_type, node.domain, opset)
    if slots is None:
        return False
    variables = {slots.input(index) for index, value in enumerate(node.inputs) if is_carried(value)}
    return all(variable in slots.half for variable in variables if variable != _FLOAT)


def is_carried(value: ir.Value | None) -> bool:
    """Whether the value is of a float type that the carrier decides: float32 or float16."""
    return value is not None and value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)
