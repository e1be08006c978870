"""Rewrites at every site of a model, each with its certificate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompiler.equivalence import EquivalenceGuard
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Site
from qcompiler.pipeline import Pass, Pipeline
from qcompiler.session import Feeds


def proven(model: ir.Model, rewrite: Pass, count: int, feeds: Sequence[Feeds], *, double: bool = True) -> ir.Model:
    """The model behind a rewrite at `count` places that its certificate lets stand; the model given is changed.

    Args:
        double: The proof has to be in float64.
    """
    guard = EquivalenceGuard(feeds, threads=1, double=True)
    result, (run,) = Pipeline([rewrite], (), guard).run(model)
    assert not run.undone
    assert len(run.outcome.matched) == count
    assert guard.certificates[-1].holds and (not double or guard.certificates[-1].arithmetic != "float32")
    return result


def shifted_and_scaled(model: ir.Model, seed: int = 4) -> FoldShiftScale:
    """Random parameters for every site."""
    random = np.random.default_rng(seed)

    def moved(site: Site) -> ShiftScale:
        shift = random.standard_normal(site.sources) if site.shifts else np.zeros(site.sources)
        return ShiftScale(shift, np.exp(random.standard_normal(site.sources)))

    return FoldShiftScale({site.name: moved(site) for site in find_sites(model).sites})
