"""Measuring: how often and in what order sessions run, percentiles, processors; never how fast."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.bench import measure
from qcompiler.errors import ModelError
from tests.conftest import FLOAT_TEXT

FEEDS = {"x": np.ones((2, 4), np.float32)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    ir.save(ir.from_onnx_text(FLOAT_TEXT), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


class FakeSession:
    """Advances a clock by its own time at every run."""

    log: list[str]

    def __init__(self, name: str, times: list[float], clock: list[float], log: list[str]) -> None:
        self.name, self.times, self.clock, self.log = name, times, clock, log

    def get_inputs(self) -> list[object]:
        return []

    def run(self, names: None, feeds: dict[str, np.ndarray]) -> None:
        self.log.append(self.name)
        self.clock[0] += self.times[min(self.log.count(self.name), len(self.times)) - 1]


def test_rounds_alternate_and_warm_up_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = [0.0], list[str]()
    slow = FakeSession("slow", [9.0, 9.0, 9.0, 0.004], clock, log)
    fast = FakeSession("fast", [7.0, 7.0, 7.0, *[0.001] * 9, 0.01], clock, log)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(measure, "_open", lambda path, threads: fast if path.name == "fast" else slow)
    monkeypatch.setattr(measure, "peak_memory", lambda *arguments: 1.5)
    found = measure.measure([Path("fast"), Path("slow")], [{}, {}], threads=1, seconds=0)
    rounds = [set(log[place : place + 2]) for place in range(0, len(log), 2)]
    assert rounds == [{"fast", "slow"}] * (measure.MIN_ROUNDS + measure.WARM_UP)
    assert len({tuple(log[place : place + 2]) for place in range(0, len(log), 2)}) == 2, "never in another order"
    one, other = found
    assert (one.first, one.rounds) == (7000.0, 10)
    assert (one.median, one.p90, one.p99) == pytest.approx((1.0, 1.0, 10.0))
    assert (one.speed, other.speed) == pytest.approx((4.0, 1.0))
    assert one.per_second == pytest.approx(1000.0)
    assert one.peak_mib == 1.5


def test_real_files_are_measured_and_processors_given_back(file: Path) -> None:
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    (found,) = measure.measure([file], [FEEDS], threads=1, seconds=0)
    assert found.rounds == measure.MIN_ROUNDS
    assert 0 < found.median <= found.p90 <= found.p99
    assert 0 < found.peak_mib < 500
    assert before is None or os.sched_getaffinity(0) == before


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no process")
def test_pinned_to_as_many_processors_as_threads() -> None:
    with measure.pinned(1):
        assert len(os.sched_getaffinity(0)) == 1


def test_memory_counts_the_weights(tmp_path: Path) -> None:
    model = ir.from_onnx_text('<ir_version: 8, opset_import: ["" : 17]> m (float[1, 4096] x) => (float[1, 4096] y) '
                              "{ y = Relu(x) }")  # fmt: skip
    ir.save(model, tmp_path / "small.onnx")
    weight = ir.Value(name="w", const_value=ir.tensor(np.ones((4096, 4096), np.float32), name="w"))
    model.graph.register_initializer(weight)
    node = ir.node("MatMul", [model.graph.outputs[0], weight])
    node.outputs[0].name, node.outputs[0].type = "z", ir.TensorType(ir.DataType.FLOAT)
    model.graph.append(node)
    model.graph.outputs[:] = node.outputs
    ir.save(model, tmp_path / "large.onnx", external_data="large.data")
    feeds = {"x": np.ones((1, 4096), np.float32)}
    small, large = (measure.peak_memory(tmp_path / name, feeds, 1) for name in ("small.onnx", "large.onnx"))
    assert large - small > 60


def test_a_file_that_does_not_run_is_one_line(file: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"bad\.onnx: onnxruntime refuses it") as caught:
        measure.measure([tmp_path / "bad.onnx"], [FEEDS], threads=1, seconds=0)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"m\.onnx: fails on the inputs"):
        measure.measure([file], [{"x": np.ones((2, 5), np.float32)}], threads=1, seconds=0)
