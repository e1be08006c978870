"""The same inputs for models with float states, states in codes, and other float widths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.api import diff, verify
from qcompiler.bench.measure import Timing
from qcompiler.bench.run import run_bench
from qcompiler.cli import main
from qcompiler.errors import UsageError
from qcompiler.evaluation.shared_inputs import feeds_for, with_equal_states
from qcompiler.golden import write_npz
from qcompiler.options import CompileOptions
from qcompiler.session import Feeds
from qcompiler.state_codes import decode_states, states_in_codes

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
FLOAT = f"""{HEAD}
m (float[B, 4] x, float[B, 4] past_h) => (float[B, 4] y, float[B, 4] present_h) {{
  present_h = Add(x, past_h)
  y = Relu(present_h)
}}"""


def coded(scale: float = 0.5, out: float | None = None, zero: int = 0) -> ir.Model:
    return ir.from_onnx_text(f"""{HEAD}
m (float[B, 4] x, int8[B, 4] past_h) => (float[B, 4] y, int8[B, 4] present_h)
  <float s = {{{scale}}}, float t = {{{out or scale}}}, int8 z = {{{zero}}}> {{
  h = DequantizeLinear(past_h, s, z)
  new = Add(x, h)
  y = Relu(new)
  present_h = QuantizeLinear(new, t, z)
}}""")


ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
FEEDS: dict[str, Any] = {"x": ROWS - 3, "past_h": ROWS / 2}


def test_scales_are_read_off_the_graph() -> None:
    (name,) = states = states_in_codes(coded(0.25))
    assert (name, states[name].next, float(states[name].quant.scale)) == ("past_h", "present_h", 0.25)
    assert not states_in_codes(ir.from_onnx_text(FLOAT))
    assert not states_in_codes(coded(0.25, out=0.5)), "the two ends differ"
    assert not states_in_codes(coded(zero=3))


def test_each_model_gets_its_own_form() -> None:
    half = ir.from_onnx_text(FLOAT.replace("float[B, 4] x", "float16[B, 4] x"))
    given = feeds_for(coded(0.5), FEEDS, "m.onnx")
    assert given["past_h"].dtype == np.int8 and given["past_h"].tolist() == np.arange(8).reshape(2, 4).tolist()
    assert feeds_for(half, FEEDS, "m.onnx")["x"].dtype == np.float16
    assert decode_states(given, states_in_codes(coded(0.5)))["past_h"].tolist() == FEEDS["past_h"].tolist()


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("float[B, 4] past_h", "int64[B, 4] past_h", "m.onnx: takes the input 'past_h' as int64, the other"),
        ("float[B, 4] x", "float[B, 5] x", r"m.onnx: takes x float32\[B, 5\], and the other model \[2, 4\]"),
        ("float[B, 4] x", "float[4] x", r"m.onnx: takes x float32\[4\], and the other model \[2, 4\]"),
        ("past_h", "other_h", "m.onnx: has the input 'other_h', which the other model lacks"),
    ],
)
def test_what_cannot_be_fed_is_one_line(old: str, new: str, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        feeds_for(ir.from_onnx_text(FLOAT.replace(old, new, 1 if "[" in old else -1)), FEEDS, "m.onnx")


def test_only_states_that_differ_become_floats() -> None:
    def types(*models: ir.Model) -> list[str]:
        return [str(value.dtype) for model in models for value in model.graph.inputs if value.name == "past_h"]

    assert types(*with_equal_states(coded(), ir.from_onnx_text(FLOAT))) == ["FLOAT", "FLOAT"]
    assert types(*with_equal_states(coded(0.5), coded(0.25))) == ["FLOAT", "FLOAT"]
    assert types(*with_equal_states(coded(), coded())) == ["INT8", "INT8"]


def feeds() -> list[Feeds]:
    random = np.random.default_rng(0)
    return [{name: random.integers(-40, 40, (2, 4)).astype(np.float32) / 2 for name in ("x", "past_h")}] * 2


def test_verify_and_diff_compare_what_codes_stand_for() -> None:
    """Whole multiples of the scale: the two graphs compute the same."""
    for first, second in ((ir.from_onnx_text(FLOAT), coded(0.5)), (coded(0.5), ir.from_onnx_text(FLOAT))):
        found = verify(first, second, feeds())
        assert [item.sqnr for item in found.comparison.outputs] == [np.inf, np.inf] and not found.missed
    notes = next(item for item in diff(ir.from_onnx_text(FLOAT), coded(0.5), calibration=feeds()).sections
                 if item.name == "numeric").notes  # fmt: skip
    assert [note.partition(",")[0] for note in notes[1:]] == ["y: bit-equal", "present_h: bit-equal"]


def test_verify_takes_other_float_widths_and_names_other_types() -> None:
    half = ir.from_onnx_text(FLOAT.replace("float[", "float16["))
    assert not verify(ir.from_onnx_text(FLOAT), half, feeds()).missed
    whole = ir.from_onnx_text(FLOAT.replace("float[", "int64["))
    with pytest.raises(UsageError, match="the input 'x' is float in the first model and int64 in the second"):
        verify(ir.from_onnx_text(FLOAT), whole, feeds())


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    ir.save(ir.from_onnx_text(FLOAT), tmp_path / "float.onnx")
    ir.save(coded(), tmp_path / "codes.onnx")
    return tmp_path / "codes.onnx", tmp_path / "float.onnx"


@pytest.mark.parametrize("turned", [False, True])
def test_bench_feeds_codes_to_one_and_floats_to_the_other(
    files: tuple[Path, Path], turned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = reversed(files) if turned else files
    np.savez(first.with_name("c.npz"), **FEEDS)
    for words in ([], ["--calib", str(first.with_name("c.npz"))]):
        assert main(["bench", str(first), "--against", str(second), "--seconds", "0", "--json", *words]) == 0
        document = json.loads(capsys.readouterr().out)
        assert [item["file"] for item in document["measured"]] == [first.name, second.name]
        assert all(item["peak_mib"] > 0 for item in document["measured"])
        words = [f"{'1' if path is files[0] else 'none'} in {path.name}" for path in (first, second)]
        assert document["notes"][-1] == f"states as int8: {', '.join(words)}"


@pytest.mark.parametrize("source", ["calib", "golden"])
def test_bench_gives_both_the_same_numbers(
    files: tuple[Path, Path], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes of the one stand for the floats of the other; golden inputs of a bundle hold codes, --calib floats."""
    given: list[Feeds] = []

    def kept(paths: list[Path], feeds: list[Feeds], **more: object) -> list[Timing]:
        given.extend(feeds)
        return []

    monkeypatch.setattr("qcompiler.bench.run.measure", kept)
    first, options = files[0], CompileOptions(calib=[FEEDS])
    if source == "golden":
        first, options = files[0].parent, CompileOptions()
        files[0].rename(first / "model.onnx")
        (first / "manifest.json").write_text('{"schema": "qcompile-manifest/1"}')
        (first / "golden").mkdir()
        write_npz(first / "golden" / "0.inputs.npz", feeds_for(coded(), FEEDS, ""))
    run_bench(first, files[1], options, (), seconds=0)
    codes, floats = (feeds["past_h"] for feeds in given)
    assert codes.dtype == np.int8 and floats.dtype == np.float32
    assert (codes * np.float32(0.5)).tolist() == floats.tolist() == FEEDS["past_h"][: len(floats)].tolist()
