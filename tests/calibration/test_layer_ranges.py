"""Channel ranges of layers' inputs, before and after a rewrite of the float model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.calibration import range_watch
from qcompiler.calibration.data import input_specs, open_source
from qcompiler.calibration.layer_ranges import channel_changes, layer_ranges
from qcompiler.calibration.range_watch import RangeWatch
from qcompiler.driver import compile_model
from qcompiler.options import CompileOptions
from tests.building import build
from tests.small_models import block_batches, small_cnn, transformer_block

TEXT = """g (float[N, 3] x, float[3, N] t) => (float[N, 2] y, float[N, 2] z) {
    h = Mul(x, s) [first] a = MatMul(h, w) [second] b = MatMul(h, w) y = Add(a, b)
    [gemm] z = Gemm<transA = 1>(t, w) }"""


def model(scale: list[float]) -> ir.Model:
    return build(TEXT, s=np.array(scale, np.float32), w=np.ones((3, 2), np.float32))


FEEDS = [{"x": np.array([[1, -2, 4], [-1, 3, 0]], np.float32), "t": np.array([[1, 2], [0, -5], [7, 8]], np.float32)}]


def test_ranges_lie_along_the_summed_axis() -> None:
    found = layer_ranges(model([1, 1, 2]), FEEDS)
    assert (found["first"].tensor, found["gemm"].tensor) == ("h", "t")
    assert found["second"].ranges.low.tolist() == [-1, -2, 0]
    assert found["second"].ranges.high.tolist() == [1, 3, 8]
    assert found["gemm"].ranges.low.tolist() == [0, -5, 0]
    assert found["gemm"].ranges.high.tolist() == [2, 0, 8]
    conv = layer_ranges(small_cnn(), [{"x": np.ones((1, 3, 16, 16), np.float32)}])
    assert {name: item.ranges.high.size for name, item in conv.items()} == {
        "stem": 3, "deep": 16, "point": 16, "mid": 16, "fc": 24,
    }  # fmt: skip


def test_changes_name_a_tensor_once_with_all_its_readers() -> None:
    before, after = layer_ranges(model([1, 1, 2]), FEEDS), layer_ranges(model([1, 1, 1]), FEEDS)
    (change,) = channel_changes(before, after)
    assert change.readers == ("first", "second")
    assert change.before.ranges.high.tolist() == [1, 3, 8]
    assert change.after.ranges.high.tolist() == [1, 3, 4]
    assert channel_changes(before, before) == ()
    assert channel_changes(before, layer_ranges(model([1.00001, 1, 2]), FEEDS)) == ()


def test_a_compile_that_equalizes_tells_what_changed() -> None:
    made = transformer_block()
    batches = block_batches()
    options = CompileOptions("orin", batches, equalize="os_plus", build_check="off", verify=False)
    result = compile_model(made, options)
    assert result.plan.equalize
    assert {name for change in result.rewritten for name in change.readers} <= {node.name for node in made.graph}
    spread = [(c.before.ranges.peaks, c.after.ranges.peaks) for c in result.rewritten]
    assert spread and all(np.ptp(after / after.max()) < np.ptp(before / before.max()) for before, after in spread)
    again = compile_model(made, CompileOptions(calib=batches, equalize="none", build_check="off", verify=False))
    assert again.rewritten == () and again.histograms.keys() == again.plan.tensors.keys()


def test_nothing_runs_where_no_rewrite_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("was run")

    monkeypatch.setattr(range_watch, "layer_ranges", fail)
    made = transformer_block()
    source = open_source(block_batches(), input_specs(made))
    assert RangeWatch(made, source, CompileOptions(equalize="none", rotate="none")).changes(made) == ()
    with pytest.raises(AssertionError, match="was run"):
        RangeWatch(made, source, CompileOptions(equalize="none", rotate="heads"))


def test_nan_in_a_layer_stops_nothing() -> None:
    made = build("g (float[N, 3] x) => (float[N, 2] y) { h = Log(x) y = MatMul(h, w) }", w=np.ones((3, 2), np.float32))
    batches = [{"x": -np.ones((2, 3), np.float32)} for _ in range(4)]
    watch = RangeWatch(made, open_source(batches, input_specs(made)), CompileOptions(equalize="smooth"))
    assert watch.changes(made) == ()
