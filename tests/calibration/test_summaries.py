"""Summaries of histograms: nothing is lost, and the share that is clipped is exact."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.summaries import BINS, summarise
from qcompiler.plan import QuantPlan
from qcompiler.scheme import INT8_ACTIVATION, QuantScheme, TensorQuant, int8_weight


def plan_with(scale: float, zero_point: int | None = None) -> QuantPlan:
    scheme = INT8_ACTIVATION if zero_point is None else QuantScheme(symmetric=False)
    zero = None if zero_point is None else np.asarray(zero_point, np.int8)
    return QuantPlan(tensors={"x": TensorQuant(scheme, np.asarray(scale, np.float32), zero)})


def test_counts_are_those_of_even_bins_and_no_outlier_is_lost() -> None:
    data = np.concatenate([np.random.default_rng(0).standard_normal(20_000), [-64.0]]).astype(np.float32)
    found = summarise({"x": Histogram().observe(data)}, plan_with(1.0), {})["x"]
    assert (found.low, found.high) == (-64.0, float(data.max()))
    assert sum(found.counts) == data.size and len(found.counts) == BINS
    assert found.counts[-1] == 1
    wanted, _ = np.histogram(np.abs(data), BINS, (0, 64.0))
    assert np.abs(np.asarray(found.counts) - wanted).sum() < 0.02 * data.size


def test_reach_and_share_clipped() -> None:
    data = np.linspace(0, 1, 10_001, dtype=np.float32)
    found = summarise({"x": Histogram().observe(data)}, plan_with(0.25 / 127), {})["x"]
    assert found.reach == pytest.approx((-0.25, 0.25))
    assert found.clipped == pytest.approx(0.75, abs=1e-3)
    found = summarise({"x": Histogram().observe(data)}, plan_with(1.2 / 255, -128), {})["x"]
    assert found.reach == pytest.approx((0.0, 1.2))
    assert found.clipped == 0.0


def test_tensors_without_a_scale_of_their_own_are_left_out() -> None:
    seen = Histogram().observe(np.ones(3, np.float32))
    plan = plan_with(1.0)
    plan.tensors["by_channel"] = TensorQuant(int8_weight(0), np.ones(3, np.float32))
    assert set(summarise({"x": seen, "other": seen, "by_channel": seen}, plan, {})) == {"x"}
    assert summarise({"x": Histogram()}, plan, {}) == {}
    assert set(summarise({"before": seen}, plan, {"x": "before"})) == {"x"}


def test_a_tensor_of_zeros() -> None:
    found = summarise({"x": Histogram().observe(np.zeros(5, np.float32))}, plan_with(1.0), {})["x"]
    assert (found.counts[0], sum(found.counts), found.clipped) == (5, 5, 0.0)
