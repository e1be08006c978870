"""The passes that every compile runs on the float model, in their order: what analyses run too, so that names agree."""

from __future__ import annotations

from qcompiler import registry
from qcompiler.passes.canonical.pipeline import canonical_passes
from qcompiler.passes.normalize.pipeline import normalize_passes
from qcompiler.passes.recurrence.pipeline import recurrence_passes, scan_passes
from qcompiler.pipeline import Pass
from qcompiler.target import Target


def form_passes(target: Target) -> list[Pass]:
    """Normal and canonical forms, and recurrences in the target's form; the folds come behind them."""
    return [
        *scan_passes(), *normalize_passes(target.opset, target.native_ops),
        *canonical_passes(target.opset, target.native_ops),
        *recurrence_passes(target.scan_form),
        *(registry.find_pass(name)() for name in target.spellings),
    ]  # fmt: skip
