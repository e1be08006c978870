"""The percentile of scan inputs: by role, from pooled counts, taken where the outputs gain."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.calibration.runner import calibrate
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.scan_inputs import PERCENTILES, ScanInputs, clip_scan_inputs
from qcompiler.passes.quant.select_sites import Sites, select_sites
from qcompiler.passes.quant.switched_model import SwitchedModel
from qcompiler.passes.recurrence.pipeline import recurrence_passes
from qcompiler.pipeline import Pipeline
from qcompiler.plan import QuantPlan
from qcompiler.registry import find_target
from qcompiler.session import Feeds
from tests.architectures import canonical
from tests.mamba_blocks import MODEL, mamba2_block, mamba_block

TARGET = find_target("ort-cpu")
RANDOM = np.random.default_rng(7)
FEEDS: list[Feeds] = [{"u": RANDOM.standard_normal((300, MODEL)).astype(np.float32)} for _ in range(6)]


def chosen(rare: float, model: ir.Model | None = None) -> tuple[ScanInputs, Sites, QuantPlan]:
    """What is chosen where calibration, unlike the samples measured on, held one token `rare` times as large."""
    source = Pipeline(recurrence_passes(TARGET.scan_form)).run(canonical(model or mamba_block(), 21))[0]
    sites = select_sites(source, TARGET.placement)
    seen = [*FEEDS, {"u": FEEDS[0]["u"][:1] * np.float32(rare)}]
    table = calibrate(source, sorted(set(sites.sources.values())), seen, threads=1)
    plan = make_plan(source, TARGET, sites, {name: item.absmax for name, item in table.tensors.items()})
    scales = {name: float(quant.scale) for name, quant in plan.tensors.items()}
    switched = SwitchedModel(source, plan, FEEDS, threads=1)
    only: Any = [name for name, places in plan.nodes.items() if places and "dbc" in name]
    return clip_scan_inputs(source, sites, table.tensors, switched, only, scales), sites, plan


def test_a_rare_large_value_is_clipped() -> None:
    found, sites, plan = chosen(30.0)
    source = sites.sources["x"]
    assert found.facts["percentile"] in PERCENTILES
    assert 0 < found.thresholds[source] < 0.5 * float(plan.tensors["x"].scale) * 127
    assert list(found.thresholds) == [source]  # nothing but the role


def test_nothing_is_taken_without_a_gain() -> None:
    found, _, _ = chosen(1.0)
    assert found.thresholds == {} or found.facts["percentile"] != 100.0
    levels: Any = found.facts["sqnr"]
    assert set(levels) == {"rule", *map(str, PERCENTILES)}


@pytest.mark.parametrize("kind", ["heads", "no scan"])
def test_tensors_without_the_role_are_left_alone(kind: str) -> None:
    if kind == "heads":  # the scan reads x, no layer does
        source = Pipeline(recurrence_passes(TARGET.scan_form)).run(canonical(mamba2_block(), 21))[0]
        sites = select_sites(source, TARGET.placement)
        assert "x" not in sites.sources
    else:
        empty: Any = None
        assert clip_scan_inputs(canonical(mamba_block(), 21), Sites(), {}, empty, (), {}) == ScanInputs()
