"""Percentiles of a list that a reader can check by hand."""

from __future__ import annotations

import pytest

from qcompiler.runtime.latency import Latency


def test_percentiles_are_nearest_rank() -> None:
    latency = Latency()
    latency.add(9.0)
    for milliseconds in (5, 1, 4, 2, 3):
        latency.add(milliseconds / 1e3)
    report = latency.report()
    assert report == {
        "runs": 6, "first_ms": 9000.0, "median_ms": pytest.approx(3.0), "p90_ms": pytest.approx(5.0),
        "p99_ms": pytest.approx(5.0), "max_ms": pytest.approx(5.0),
    }  # fmt: skip
    assert latency.percentile(20) == pytest.approx(1.0)


def test_memory_is_bounded() -> None:
    latency = Latency()
    for number in range(3000):
        latency.add(float(number))
    assert latency.runs == 3000
    assert latency.percentile(0) == pytest.approx(2000e3)
