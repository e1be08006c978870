"""One pass over a set: thresholds are those of the drawn samples, memory is flat, faults are named."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.analysis.analyze import analyze_model
from qcompiler.analysis.collect import collect
from qcompiler.analysis.draws import Draws
from qcompiler.analysis.options import AnalysisOptions
from qcompiler.analysis.prepare import prepare
from qcompiler.analysis.samples import CalibrationSet, survey
from qcompiler.calibration.data import input_specs, open_source
from qcompiler.errors import CalibrationError
from qcompiler.options import CompileOptions
from qcompiler.registry import find_target
from qcompiler.session import Feeds
from tests.building import build

TEXT = "m (float[N, S, 64] x) => (float[N, S, 8] y) { h = MatMul(x, w) [act] r = Relu(h) [second] y = MatMul(r, v) }"


def model_and_samples(count: int, length: int = 5) -> tuple[ir.Model, list[Feeds]]:
    random = np.random.default_rng(2)
    weights = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in (("w", (64, 16)), ("v", (16, 8)))
    }
    samples: list[Feeds] = [{"x": random.standard_normal((1, length, 64)).astype(np.float32)} for _ in range(count)]
    return build(TEXT, w=weights["w"], v=weights["v"]), samples


def test_thresholds_are_those_of_the_drawn_samples() -> None:
    model, samples = model_and_samples(10)
    options, target = CompileOptions(threads=1), find_target("ort-cpu")
    subject = prepare(model, target, options, samples[0])
    found = survey("s", open_source(samples, input_specs(subject.model)))
    data = CalibrationSet("s", found.source, found.digests, tuple(range(10)))
    draws = Draws(10, (3, 10), 4)
    statistics = collect(subject, data, draws, ("minmax",), qmax=127, threads=1)
    peaks = np.array([np.abs(sample["x"]).max() for sample in samples])
    for row, size in enumerate(draws.sizes):
        for seed in range(draws.seeds):
            drawn = draws.times()[row, seed] > 0
            assert statistics.thresholds["minmax"][size, seed]["x"] == peaks[drawn].max()
    assert statistics.tensors["x"].absmax == peaks.max()
    assert set(statistics.tensors) == set(subject.sources)


def test_an_activation_that_is_not_finite_is_named() -> None:
    model, samples = model_and_samples(8)
    samples[4]["x"][0, 0] = 3e38
    with pytest.raises(CalibrationError, match="tensor r: an activation is NaN or infinite"):
        analyze_model(model, AnalysisOptions({"s": samples}, CompileOptions(threads=1)))


def test_memory_does_not_grow_with_the_samples() -> None:
    model, samples = model_and_samples(4, length=4000)  # one megabyte each

    def peak(count: int) -> int:
        def make() -> Iterator[Feeds]:
            for index in range(count):
                yield {"x": samples[index % 4]["x"] * np.float32(1 + index / 100)}

        tracemalloc.start()
        options = AnalysisOptions(
            {"s": make}, CompileOptions(threads=1), sizes=(4,), seeds=1, methods=("minmax",), evaluated=1
        )
        analyze_model(model, options)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = peak(8), peak(32)
    assert few > 4 << 20, "samples of this size must show"
    assert many < few + (4 << 20), "24 more samples of one megabyte must not"
