"""Q/DQ graphs of small models, the way the driver makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.runner import calibrate
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.make_plan import CHANNEL_AXIS, make_plan
from qcompiler.passes.quant.quantize_weights import QuantizeWeights
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.registry import find_target
from qcompiler.session import Feeds, Session
from qcompiler.target import Placement, Target
from tests.building import build
from tests.equivalence import random_feeds

EVERYTHING = Placement(weights_pair_safe=True)


def quantized(
    text: str,
    feeds: Sequence[Feeds] | None = None,
    *,
    placement: Placement = EVERYTHING,
    clip: float = 1.0,
    zero_points: Mapping[str, int] = MappingProxyType({}),
    **constants: Any,
) -> tuple[ir.Model, Feeds]:
    """The int8 Q/DQ graph of the model that `text` describes, scales from `feeds`; and the first of them.

    Args:
        clip: Share of the largest magnitude that maps to qmax; below 1 activations saturate.
        zero_points: Tensor to zero point, for those that have one.
    """
    model = build(text, **constants)
    given = list(feeds or [random_feeds(model)])
    target: Target = replace(find_target("ort-cpu"), placement=placement)
    sites = select_sites(model, target.placement)
    sites.zero_points = dict(zero_points)
    axes = dict.fromkeys(sites.outputs.values(), CHANNEL_AXIS)
    table = calibrate(model, sorted(set(sites.sources.values())), given, channel_axes=axes, mask_input=None)
    thresholds = {name: item.absmax * clip for name, item in table.tensors.items()}
    peaks = {name: item.peaks for name, item in table.channels.items()}
    plan = make_plan(model, target, sites, thresholds, channel_peaks=peaks)
    QuantizeWeights(plan).run(model)
    InsertQdq(plan).run(model)
    return model, given[0]


def outputs(model: ir.Model, feeds: Feeds, *, optimize: bool = False) -> list[np.ndarray[Any, Any]]:
    """What the graph returns, each node by its own kernel."""
    return list(Session(model, optimize=optimize).run(feeds).values())


def same(found: ir.Model, wanted: ir.Model, feeds: Feeds, bound: float = 2e-6) -> None:
    """All outputs agree to `bound` of their largest magnitude: float32 rounding of rescaled exact integers."""
    for one, other in zip(outputs(found, feeds), outputs(wanted, feeds), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=bound * max(float(np.abs(other).max(initial=0)), 1e-30))
