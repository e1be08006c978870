"""The passes that every compile runs on the float model, in their order: what analyses run too, so that names agree."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qcompiler import registry
from qcompiler.equivalence import EquivalenceGuard
from qcompiler.errors import UsageError
from qcompiler.passes.canonical.pipeline import canonical_passes
from qcompiler.passes.fold.pipeline import fold_passes
from qcompiler.passes.normalize.inline_functions import InlineFunctions
from qcompiler.passes.normalize.pipeline import normalize_passes
from qcompiler.passes.precision.carry_float32 import CarryFloat32
from qcompiler.passes.recurrence.pipeline import recurrence_passes, scan_passes
from qcompiler.pipeline import Hook, Pass, PassRun, Pipeline
from qcompiler.target import Target


def form_passes(target: Target) -> list[Pass]:
    """Normal and canonical forms, and recurrences in the target's form; the folds come behind them."""
    return [
        *scan_passes(), *normalize_passes(target.opset, target.native_ops),
        *canonical_passes(target.opset, target.native_ops),
        *recurrence_passes(target.scan_form),
        *(registry.find_pass(name)() for name in target.spellings),
    ]  # fmt: skip


def float_passes(target: Target, edits: Sequence[str] = ()) -> tuple[list[Pass], list[Pass]]:
    """Forms, and what computes new weights: folds, and what the user adds.

    Args:
        edits: "+name" adds, "-name" removes.

    Raises:
        UsageError: An edit that is neither, or names no pass.
    """
    forms = form_passes(target)
    passes = [*forms, *fold_passes()]
    for edit in edits:
        sign, name = edit[:1], edit[1:]
        if sign == "-":
            if name not in {item.name for item in passes}:
                raise registry.unknown("pass", name, [item.name for item in passes])
            passes = [item for item in passes if item.name != name]
        elif sign == "+":
            passes.append(registry.find_pass(name)())
        else:
            raise UsageError(f"{edit!r} is neither +name nor -name", where="--passes")
    of_forms = {id(item) for item in forms}
    return [item for item in passes if id(item) in of_forms], [item for item in passes if id(item) not in of_forms]


def run_float_passes(
    model: ir.Model, target: Target, guard: EquivalenceGuard, *, edits: Sequence[str] = (), hooks: Sequence[Hook] = ()
) -> tuple[ir.Model, tuple[PassRun, ...]]:
    """Carry float16 in float32, normalize, canonical forms, folds; all but the first proven on inputs.

    What folds or comes from the user computes new weights: proven apart, in float64 where that is affordable.
    """
    forms, others = float_passes(target, edits)
    model, inlined = Pipeline([InlineFunctions()], hooks, guard).run(model)
    model, carried = Pipeline([CarryFloat32()], hooks).run(model)
    model, formed = Pipeline(forms, hooks, guard).run(model)
    guard.double = True
    model, folded = Pipeline(others, hooks, guard).run(model)
    return model, (*inlined, *carried, *formed, *folded)
