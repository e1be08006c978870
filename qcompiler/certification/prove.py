"""Two graphs on the same inputs, and the certificate of what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.feeds import can_slice, slice_rows
from qcompiler.calibration.inputs import input_specs
from qcompiler.certification.bound import DOUBLE, HALF, SINGLE, rounding_bound
from qcompiler.certification.certificate import Arithmetic, Certificate, TensorDifference
from qcompiler.certification.difference import relative_difference
from qcompiler.certification.region import new_weights, settled_values
from qcompiler.certification.widen import WideWeights, wide_session
from qcompiler.errors import ModelError
from qcompiler.evaluation.pairing import common_values
from qcompiler.session import Arrays, Feeds, Session

HALF_BOUND = 2.0**-9
"""Outputs in float16: two results around a rounding boundary end 2^-10 apart."""

REGION_SLACK = 16.0
"""Times the bound, inner values may differ: an inner value may be a small difference of large ones."""

Labelled = tuple[str, Feeds]
Run = Callable[[Feeds], Arrays]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What both graphs run on.

    Attributes:
        calibration: Real samples. The model before must run on them.
        random: Seeded ones; those that the model before does not take are left out, with a note.
    """

    calibration: Sequence[Feeds]
    random: Sequence[Feeds] = ()

    def labelled(self) -> list[Labelled]:
        """Name and feeds, in the order in which they run."""
        return [(f"{kind} {index}", feeds)
                for kind, all_feeds in (("calibration", self.calibration), ("random", self.random))
                for index, feeds in enumerate(all_feeds)]  # fmt: skip


def prove(
    before: ir.Model, after: ir.Model, inputs: Inputs, *, double: bool, passes: tuple[str, ...] = (), threads: int = 0
) -> Certificate:
    """Run both graphs; outputs pair by position, inner values by name.

    Args:
        double: In float64 where onnxruntime can, and with the values behind the rewritten region, else in float32 with
            outputs alone. The outputs decide; a value behind the region that changes without an effect on them (before
            a softmax, a constant on every score) is a note, save where every output is an integer.

    Raises:
        CalibrationError: The model before does not run on a calibration sample.
        ModelError: onnxruntime refuses the model before.
    """
    if double:
        try:
            return _Proof(before, after, inputs, passes, threads, {}).in_double()
        except ModelError as error:
            single = _Proof(before, after, inputs, passes, threads, None).in_single()
            return replace(single, notes=(*single.notes, f"no float64: {error.message[:200]}"))
    return _Proof(before, after, inputs, passes, threads, None).in_single()


@dataclass(slots=True)
class _Proof:
    before: ir.Model
    after: ir.Model
    inputs: Inputs
    passes: tuple[str, ...]
    threads: int
    weights: WideWeights | None
    """Not None: float64."""

    def in_single(self) -> Certificate:
        half = any(value.dtype == ir.DataType.FLOAT16 for value in self.before.graph.initializers.values())
        bound = rounding_bound(self.before, self.after, HALF if half else SINGLE)
        inner = () if _has_float_output(self.before) else settled_values(self.before, self.after)
        known = Session(self.before, inner, threads=self.threads)
        expected, notes = self._expected(known.run, known.run_sample)
        del known
        return self._judge(expected, notes, "float32", lambda _: bound, inner)

    def in_double(self) -> Certificate:
        inner = settled_values(self.before, self.after)
        wide = wide_session(self.before, inner, weights=self.weights, threads=self.threads)
        expected, notes = self._expected(wide.run, wide.run)
        rounded = wide.narrow_terms
        fresh = new_weights(self.before, self.after)
        half = any(value.dtype == ir.DataType.FLOAT16 for value in self.after.graph.initializers.values())
        if wide.narrow:
            notes.append(f"in float32: {', '.join(wide.narrow)}")
        arithmetic: Arithmetic = "mixed" if wide.narrow else "float64"
        del wide

        def bound_of(terms: float) -> float:
            return rounding_bound(self.before, self.after, DOUBLE, new_weights=fresh, rounded=rounded + terms,
                                  weight_unit=HALF if half else SINGLE)  # fmt: skip

        return self._judge(expected, notes, arithmetic, bound_of, inner)

    def _expected(self, run: Run, run_sample: Run) -> tuple[list[tuple[Labelled, Arrays]], list[str]]:
        expected, notes = [], []
        specs = input_specs(self.before)
        for label, feeds in self.inputs.labelled():
            if label.startswith("calibration"):
                expected.append(((label, feeds), run_sample(feeds)))
                continue
            tries = [feeds, slice_rows(feeds, specs, 0, 1)] if can_slice(feeds, specs) else [feeds]
            for choice in tries:
                try:
                    expected.append(((label, choice), run(choice)))
                    break
                except Exception as error:  # onnxruntime's run-time errors have no common base
                    what = "with more than one row" if len(tries) > 1 and choice is feeds else "at all"
                    notes.append(f"the model does not take {label} {what}: {_first_line(error)}")
        return expected, notes

    def _judge(
        self, expected: list[tuple[Labelled, Arrays]], notes: list[str], arithmetic: Arithmetic,
        bound_of: Callable[[float], float], inner: Sequence[str],
    ) -> Certificate:  # fmt: skip
        count = len(self.before.graph.outputs)
        random = sum(label.startswith("random") for (label, _), _ in expected)
        made = Certificate(self.passes, len(expected) - random, random, arithmetic, bound_of(0.0), None, None, False)
        try:
            run, terms = self._candidate(inner)
        except ModelError as error:
            if self.weights is not None:
                raise  # perhaps float64's fault: float32 decides
            return replace(made, failure=f"the rewritten model does not run: {error.message}", notes=tuple(notes))
        bound = bound_of(terms)
        names = [str(value.name) for value in self.before.graph.outputs]
        outputs, values, guilty = None, None, None
        blind, changed = set(names), dict[str, float]()
        all_integers = not _has_float_output(self.before)
        for (label, feeds), wanted in expected:
            try:
                found = run(feeds)
            except Exception as error:  # onnxruntime's run-time errors have no common base
                line = f"the rewritten model does not run on {label}: {_first_line(error)}"
                return replace(made, failure=line, notes=tuple(notes))
            pairs = list(zip(names, list(wanted.values())[:count], list(found.values())[:count], strict=False))
            pairs += [(name, wanted[name], found[name]) for name in inner if name in wanted and name in found]
            for place, (name, one, other) in enumerate(pairs):
                item = TensorDifference(name, _difference(one, other), label)
                is_output = place < count
                if is_output:
                    outputs = _larger(outputs, item)
                    if _says_something(one):
                        blind.discard(name)
                values = _larger(values, item)
                if item.difference <= _allowed(bound, one, is_output=is_output):
                    continue
                if is_output or all_integers:
                    guilty = guilty or (label, feeds)
                else:
                    changed[name] = max(changed.get(name, 0.0), item.difference)
        notes += [f"output {name!r} is nowhere a number: nothing is proven of it" for name in names if name in blind]
        notes += [f"tensor {name!r} is another one, {difference:.1e} away, with no effect on the outputs"
                  for name, difference in changed.items() if guilty is None]  # fmt: skip
        made = replace(made, bound=bound, outputs=outputs, worst=values, holds=guilty is None, notes=tuple(notes))
        return made if guilty is None else self._blame(made, guilty)

    def _candidate(self, inner: Sequence[str]) -> tuple[Run, float]:
        if self.weights is None:
            return Session(self.after, inner, threads=self.threads).run, 0.0
        wide = wide_session(self.after, inner, weights=self.weights, threads=self.threads)
        return wide.run, wide.narrow_terms

    def _blame(self, certificate: Certificate, guilty: Labelled) -> Certificate:
        """The first tensor over the bound and the worst, among all values that both graphs have."""
        label, feeds = guilty
        names = common_values(self.before, self.after)
        try:
            one, other = (self._values(model, names, feeds) for model in (self.before, self.after))
        except Exception:  # a report without the inner tensor is better than none
            return certificate
        first, worst = None, certificate.worst
        for name in names:
            if name in one and name in other and isinstance(one[name], np.ndarray):
                item = TensorDifference(name, _difference(one[name], other[name]), label)
                worst = _larger(worst, item)
                if first is None and not item.difference <= certificate.bound:
                    first = item
        return replace(certificate, first=first, worst=worst)

    def _values(self, model: ir.Model, names: Sequence[str], feeds: Feeds) -> Mapping[str, Any]:
        if self.weights is None:
            return Session(model, names, threads=self.threads).run(feeds)
        return wide_session(model, names, weights=self.weights, threads=self.threads).run(feeds)


def _difference(wanted: Any, found: Any) -> float:
    """Sequences, which come as lists, element by element."""
    if isinstance(wanted, np.ndarray) and isinstance(found, np.ndarray):
        return relative_difference(wanted, found)
    if not isinstance(wanted, list) or not isinstance(found, list) or len(wanted) != len(found):
        return float("inf")
    return max((_difference(*pair) for pair in zip(wanted, found, strict=True)), default=0.0)


def _says_something(array: Any) -> bool:
    is_float = isinstance(array, np.ndarray) and array.dtype.kind == "f"
    return not is_float or not array.size or bool(np.isfinite(array).any())


def _has_float_output(model: ir.Model) -> bool:
    return any(value.dtype is None or value.dtype.is_floating_point() for value in model.graph.outputs)


def _allowed(bound: float, wanted: Any, *, is_output: bool) -> float:
    half = isinstance(wanted, np.ndarray) and wanted.dtype == np.float16
    return (1.0 if is_output else REGION_SLACK) * (max(bound, HALF_BOUND) if half else bound)


def _larger(one: TensorDifference | None, other: TensorDifference) -> TensorDifference:
    return other if one is None or other.difference > one.difference else one


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
