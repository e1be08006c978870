"""The runner: the same statistics however batches are cut, flat memory, reasons for what cannot be observed."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.runner import calibrate
from qcompiler.errors import CalibrationError
from qcompiler.session import Session

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
toy (int64[b, s] input_ids, int64[b, s] attention_mask) => (float[b, s, 4] y)
<float[7, 4] table = VALUES, float[4, 4] w = VALUES, float[4] shift = VALUES>
{
    x = Gather (table, input_ids)
    q = MatMul (x, w)
    a = Add (q, shift)
    flat_shape = Constant <value_ints = [-1, 4]> ()
    flat = Reshape (a, flat_shape)
    h = Relu (a)
    y = Add (h, x)
}"""

IMAGE = """<ir_version: 8, opset_import: ["" : 17]>
cnn (float[n, 3, 16, 16] x) => (float[n, 8, 16, 16] y)
<float[8, 3, 3, 3] w = VALUES>
{
    scaled = Mul (x, x)
    c = Conv <pads = [1, 1, 1, 1]> (scaled, w)
    y = Relu (c)
}"""

SCAN = """<ir_version: 8, opset_import: ["" : 17]>
loop (float[s, 4] x) => (float[s, 4] y)
<float[4] start = VALUES>
{
    before = Relu (x)
    last, y = Scan <num_scan_inputs = 1, body = step (float[4] h, float[4] u) => (float[4] h2, float[4] o) {
        inner = Add (h, u)
        h2 = Tanh (inner)
        o = Identity (h2)
    }> (start, before)
}"""


def _filled(text: str) -> str:
    """The text with seeded numbers for each VALUES, as many as the declared shape holds."""
    random = np.random.default_rng(0)

    def fill(match: re.Match[str]) -> str:
        count = math.prod(int(size) for size in match[1].split(","))
        return match[0].replace(
            "VALUES", "{" + ", ".join(f"{item:.6f}" for item in random.standard_normal(count)) + "}"
        )

    return re.sub(r"\[([\d, ]+)\] \w+ = VALUES", fill, text)


def _model(text: str) -> ir.Model:
    return ir.from_onnx_text(_filled(text))


def _tokens(lengths: list[int], width: int, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    ids = np.full((len(lengths), width), 6, np.int64)
    mask = np.zeros((len(lengths), width), np.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = random.integers(0, 6, length)
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask}


ALL = ["x", "q", "a", "flat", "h", "y"]


def test_statistics_are_those_of_the_tensors() -> None:
    model = _model(TEXT)
    batches = [_tokens([5, 5], 5, seed) for seed in range(3)]
    done: list[int] = []
    table = calibrate(model, ALL, batches, progress=done.append, fingerprint="f")
    assert (table.samples, done, table.model) == (6, [2, 4, 6], "f")
    session = Session(model, ALL)
    outputs = [session.run(batch) for batch in batches]
    for name in ALL:
        everything = np.concatenate([item[name].reshape(-1) for item in outputs])
        assert np.array_equal(table.tensors[name].counts, Histogram().observe(everything).counts)
        assert table.tensors[name].range() == (everything.min(), everything.max())


def test_several_rounds_give_the_same_table_and_say_so() -> None:
    model = _model(IMAGE)
    batches = [{"x": np.random.default_rng(i).standard_normal((1 + i % 3, 3, 16, 16), np.float32)} for i in range(5)]
    whole = calibrate(model, ["x", "scaled", "c", "y"], batches)
    rounds = calibrate(model, ["x", "scaled", "c", "y"], batches, memory_bound=10_000)
    assert not whole.notes
    assert "times" in rounds.notes[0]
    for name, histogram in whole.tensors.items():
        assert histogram.count == rounds.tensors[name].count
        assert histogram.range() == pytest.approx(rounds.tensors[name].range(), rel=1e-5)


def test_padding_does_not_change_the_table() -> None:
    model = _model(TEXT)
    tight = [_tokens([3], 3, 7), _tokens([5], 5, 8)]
    padded = [_tokens([3], 9, 7), _tokens([5], 9, 8)]
    together = [{name: np.concatenate([padded[0][name], padded[1][name]]) for name in ("input_ids", "attention_mask")}]
    expected = calibrate(model, ALL, tight)
    for batches in (padded, together):
        table = calibrate(model, ALL, batches)
        for name in ALL:
            assert np.array_equal(table.tensors[name].counts, expected.tensors[name].counts), name
    counted = calibrate(model, ALL, padded, mask_input=None)
    assert counted.tensors["x"].count == 2 * 9 * 4 > expected.tensors["x"].count == 8 * 4
    with pytest.raises(CalibrationError, match="no input 'nope'"):
        calibrate(model, ALL, padded, mask_input="nope")


def test_what_cannot_be_observed_has_a_reason() -> None:
    table = calibrate(
        _model(SCAN), ["x", "before", "inner", "start", "none", "y"], [{"x": np.ones((3, 4), np.float32)}]
    )
    assert table.tensors.keys() == {"x", "before", "y"}
    assert "body of a Scan" in table.unobserved["inner"]
    assert "constant" in table.unobserved["start"]
    assert "no such tensor" in table.unobserved["none"]
    assert "no floats" in calibrate(_model(TEXT), ["input_ids"], [_tokens([2], 2)]).unobserved["input_ids"]


def test_a_stream_is_read_once_and_lazily() -> None:
    model = _model(TEXT)
    asked: list[int] = []
    done: list[int] = []

    def stream() -> Any:
        for index in range(6):
            asked.append(index)
            yield _tokens([4], 4, index)
            assert len(done) >= index  # the previous batch was run before the next was asked for

    assert calibrate(model, ["q"], stream(), progress=done.append).samples == 6
    assert asked == list(range(6))


def test_non_finite_activations_name_the_tensor() -> None:
    batch = {"x": np.full((1, 3, 16, 16), 1e30, np.float32)}
    with pytest.raises(CalibrationError, match="tensor scaled: an activation is NaN or infinite"):
        calibrate(_model(IMAGE), ["x", "scaled"], [batch])


def test_batches_that_do_not_run_and_no_batches_are_calibration_errors() -> None:
    with pytest.raises(CalibrationError, match="cannot run a batch of input_ids"):
        calibrate(_model(TEXT), ["q"], [{**_tokens([2], 2), "input_ids": np.full((1, 2), 99, np.int64)}])
    with pytest.raises(CalibrationError, match="no samples"):
        calibrate(_model(TEXT), ["q"], [])


_MEMORY = """
import sys
from pathlib import Path
import onnx_ir as ir
from qcompiler.calibration.data import input_specs, open_source
from qcompiler.calibration.runner import calibrate
model = ir.from_onnx_text(Path(sys.argv[1]).read_text())
source = open_source(sys.argv[2], input_specs(model))
table = calibrate(model, ["x", "scaled", "c", "y"], source, threads=1)
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(table.samples, peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak that Linux keeps per process")
def test_peak_memory_is_flat_from_8_to_512_samples(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text(_filled(IMAGE).replace("16, 16", "128, 128"))
    peaks = {}
    for samples in (8, 512):
        np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((samples, 3, 128, 128), np.float32))
        command = [sys.executable, "-c", _MEMORY, str(tmp_path / "model.txt"), str(tmp_path / "data.npz")]
        count, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(count) == samples
        peaks[samples] = int(peak) >> 10
    # 512 samples are 96 MiB of input and 608 MiB of activations; one batch of 8 in flight is 11 MiB
    assert peaks[512] - peaks[8] < 48, peaks
