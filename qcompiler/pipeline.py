"""Passes, their outcomes, and the pipeline that runs them.

A pass is a frozen dataclass whose fields are its options; `str(pass)` is `name{option=value}`. Its `call` edits the
model and returns an `Outcome`: what it matched, what it skipped and why. `PassManager` of onnx_ir offers no hook
between passes and wraps errors twice, so the loop here is our own.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar

import onnx_ir as ir

from qcompiler.diagnostics import Diagnostic, Severity


@dataclass(frozen=True, slots=True)
class Skip:
    """A site that looked right and was left alone."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a pass did.

    Attributes:
        matched: Names of the sites (nodes or tensors) that were rewritten.
        skipped: Near misses with their reasons.
    """

    modified: bool
    matched: tuple[str, ...] = ()
    skipped: tuple[Skip, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Pass:
    """Base of all passes. Subclasses are frozen dataclasses with a `name`.

    `keeps_float` is a claim: the float function before and after is the same up to rounding. The pipeline's guard
    proves it on real inputs in each compile.
    """

    name: ClassVar[str]
    keeps_float: ClassVar[bool] = True

    @abstractmethod
    def run(self, model: ir.Model) -> Outcome:
        """Edit `model` in place and say what was done."""

    def meant_for(self, model: ir.Model) -> bool:
        """Whether matching nothing on this model deserves a warning."""
        return False

    def __str__(self) -> str:
        options = ",".join(f"{item.name}={_stable(getattr(self, item.name))}" for item in fields(self) if item.repr)
        return f"{self.name}{{{options}}}" if options else self.name


def _stable(value: object) -> str:
    """`repr`, with sets in order: their own order changes from process to process."""
    return f"{{{', '.join(map(repr, sorted(value)))}}}" if isinstance(value, (set, frozenset)) else repr(value)


@dataclass(frozen=True, slots=True)
class PassRun:
    """A line of the report: one pass, what it did, how long it took.

    Attributes:
        undone: Why the pass was taken back; empty where it stands.
    """

    name: str
    options: str
    seconds: float
    outcome: Outcome
    undone: str = ""


Hook = Callable[[Pass, ir.Model], None]
Guard = Callable[[ir.Model, ir.Model, Sequence[str]], str]
"""Compares the model before and after the passes so called; returns the reason of a difference, empty where none is."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Runs passes in order on one model.

    Attributes:
        after_each: Called after each pass with the pass and the model (dumps, progress).
        guard: Proves that passes with `keeps_float` keep the float function. The whole run is compared once; only
            where that fails are the passes run again one by one, and the culprit is undone and reported.
    """

    passes: Sequence[Pass]
    after_each: Sequence[Hook] = field(default=())
    guard: Guard | None = None

    def run(self, model: ir.Model) -> tuple[ir.Model, tuple[PassRun, ...]]:
        """Run every pass; the model that comes back is a new object where a pass was undone."""
        if self.guard is None:
            return model, tuple(self._run_one(item, model) for item in self.passes)
        before = model.clone()
        runs = tuple(self._run_one(item, model) for item in self.passes)
        acted = tuple(dict.fromkeys(run.name for run in runs if run.outcome.modified))
        if not acted or not self.guard(before, model, acted):
            return model, runs
        return self._run_guarded(before)

    def _run_guarded(self, model: ir.Model) -> tuple[ir.Model, tuple[PassRun, ...]]:
        assert self.guard is not None
        runs: list[PassRun] = []
        for item in self.passes:
            before = model.clone()
            run = self._run_one(item, model)
            reason = self.guard(before, model, (item.name,)) if run.outcome.modified and item.keeps_float else ""
            if reason:
                model = before
                finding = Diagnostic("QC401", Severity.WARNING, item.name, f"undone: {reason}", "report this model")
                run = PassRun(run.name, run.options, run.seconds, Outcome(False, diagnostics=(finding,)), reason)
            runs.append(run)
        return model, tuple(runs)

    def _run_one(self, item: Pass, model: ir.Model) -> PassRun:
        meant = item.meant_for(model)
        start = time.perf_counter()
        outcome = item.run(model)
        seconds = time.perf_counter() - start
        if meant and not outcome.matched:
            finding = Diagnostic(
                "QC402", Severity.WARNING, item.name, "matched nothing on a model that it is meant for"
            )
            outcome = Outcome(outcome.modified, (), outcome.skipped, (*outcome.diagnostics, finding))
        for hook in self.after_each:
            hook(item, model)
        return PassRun(item.name, str(item), seconds, outcome)


def diagnostics_of(runs: Iterable[PassRun]) -> list[Diagnostic]:
    """All diagnostics of these runs, in order."""
    return [finding for run in runs for finding in run.outcome.diagnostics]
