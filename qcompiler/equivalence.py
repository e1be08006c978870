"""The proof that float rewrites keep the function: both graphs run on the same real inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompiler.errors import ModelError
from qcompiler.session import Arrays, Feeds, Session

RELATIVE_BOUND = 2e-4
"""Largest difference allowed, as a share of the output's largest magnitude.

float32 has 2^-24 = 6e-8 per operation; sums reordered over a few thousand terms in a few hundred layers stay below
2^11.5 times that. A wrong rewrite is off by far more.
"""

HALF_BOUND = 2.0**-9
"""The same for outputs in float16: two results around a rounding boundary end 2^-10 apart."""


@dataclass(slots=True)
class EquivalenceGuard:
    """A `Guard` for `Pipeline`: compares all outputs of two models on a few samples.

    Attributes:
        worst: The largest relative difference seen by the last call that passed.
    """

    samples: Sequence[Feeds]
    threads: int = 0
    bound: float = RELATIVE_BOUND
    worst: float = 0.0
    _known: tuple[ir.Model, list[Arrays]] | None = field(default=None, repr=False)

    def reference(self, model: ir.Model) -> list[Arrays]:
        """Outputs of `model` on the samples, kept for later calls with the same object."""
        if self._known is None or self._known[0] is not model:  # not its id: a later model may get it
            session = Session(model, threads=self.threads)
            self._known = (model, [session.run_sample(sample) for sample in self.samples])
        return self._known[1]

    def __call__(self, before: ir.Model, after: ir.Model) -> str:
        expected = self.reference(before)
        try:
            session = Session(after, threads=self.threads)
            actual = [session.run(sample) for sample in self.samples]
        except ModelError as error:
            return f"the rewritten model does not run: {error.message}"
        except Exception as error:  # onnxruntime's run-time errors have no common base
            return f"the rewritten model does not run: {str(error).splitlines()[0][:200]}"
        worst = 0.0
        for one, other in zip(expected, actual, strict=True):
            for (name, wanted), found in zip(one.items(), other.values(), strict=True):
                difference = relative_difference(wanted, found)
                if not difference <= (max(self.bound, HALF_BOUND) if wanted.dtype == np.float16 else self.bound):
                    return f"output {name!r} differs by {difference:.2g} of its largest magnitude"
                worst = max(worst, difference)
        self.worst = worst
        return ""


def relative_difference(
    wanted: np.ndarray[tuple[int, ...], np.dtype[np.generic]], found: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
) -> float:
    """max |wanted - found| / max |wanted|; 0 where equal, NaN and infinities included.

    Integers count as different outright, save that up to 0.1% may move: an arg-max between equal scores.
    """
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return float("inf")
    if wanted.size == 0:
        return 0.0
    if wanted.dtype.kind not in "f":
        return 0.0 if np.mean(wanted != found) <= 1e-3 else float("inf")
    one, other = wanted.astype(np.float64), found.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(one - other)[~same].max()
    peak = np.abs(one[np.isfinite(one)]).max(initial=0.0)
    return float(difference / peak) if peak else float(difference)
