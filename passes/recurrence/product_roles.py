"""Roles of the factors of a recurrence that is written for all steps at once."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph import constant_array
from qcompiler.passes.recurrence.roles import TensorRole
from qcompiler.passes.recurrence.step_roles import factors_of, parted


def product_roles(
    decay: ir.Value, given: ir.Value, b: ir.Value | None, c: ir.Value | None
) -> dict[TensorRole, ir.Value]:
    """dt and A of the log decay dt A, x (and B, where it is None) of the product dt x B, and C."""
    found: dict[TensorRole, ir.Value] = {}
    leaves = factors_of(decay)
    steps = [value for value in leaves if constant_array(value) is None]
    rates = [value for value in leaves if constant_array(value) is not None]
    along, across = parted(given, -1) if b is None else ([], [given])
    sides = {TensorRole.STEP: steps, TensorRole.DECAY: rates}
    for role, side in ((TensorRole.INPUT_GATE, along), (TensorRole.SCAN_INPUT, across)):
        sides[role] = [leaf for value in side for leaf in factors_of(value) if leaf not in steps]
    found |= {role: values[0] for role, values in sides.items() if len(values) == 1}
    found |= {role: value for role, value in ((TensorRole.INPUT_GATE, b), (TensorRole.OUTPUT_GATE, c)) if value}
    return found
