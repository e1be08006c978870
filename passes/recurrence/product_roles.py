"""Roles of the factors of a recurrence that is written for all steps at once."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qcompiler.graph import constant_array
from qcompiler.passes.recurrence.roles import TensorRole
from qcompiler.passes.recurrence.step_roles import factors_of


def product_roles(
    decay: ir.Value, given: Sequence[ir.Value], b: ir.Value | None, c: ir.Value | None
) -> dict[TensorRole, ir.Value]:
    """dt and A of the log decay dt A, x of the products `given` (dt x, or dt x and B), and B and C."""
    found: dict[TensorRole, ir.Value] = {}
    leaves = factors_of(decay)
    steps = [value for value in leaves if constant_array(value) is None]
    rates = [value for value in leaves if constant_array(value) is not None]
    if len(steps) == 1:
        found[TensorRole.STEP] = steps[0]
    if len(rates) == 1:
        found[TensorRole.DECAY] = rates[0]
    inputs = [leaf for value in given for leaf in factors_of(value) if leaf not in steps]
    if len(inputs) == 1:
        found[TensorRole.SCAN_INPUT] = inputs[0]
    found |= {role: value for role, value in ((TensorRole.INPUT_GATE, b), (TensorRole.OUTPUT_GATE, c)) if value is not None}
    return found
