"""`qcompile certify` and `--strict`: exit statuses, one line per error, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler import cli
from qcompiler.errors import ExitCode
from tests.building import build

TEXT = "m (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }"
WEIGHT = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a.onnx, the same as same.onnx, and c.npz."""
    monkeypatch.chdir(tmp_path)
    put("a", TEXT)
    put("same", TEXT.replace("b = Relu(a)", "d = Identity(a) b = Relu(d)"))
    np.savez("c.npz", x=np.ones((3, 8), np.float32))
    return tmp_path


def put(name: str, text: str, factor: float = 1.0, opset: int = 21) -> None:
    ir.save(build(text, opset, w=(WEIGHT * np.float32(factor))), f"{name}.onnx")


def test_equal_models(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["certify", "a.onnx", "same.onnx", "--calib", "c.npz", "--threads", "1"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert out.startswith("1 calibration and 2 random samples, float64, bound ")
    assert "equal within the bound" in out
    assert "PASSED qcompile certify" in err


def test_a_weight_scaled_by_a_thousandth_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("b", TEXT, 1.001)
    assert cli.main(["certify", "a.onnx", "b.onnx", "--threads", "1"]) == ExitCode.GATE
    out, err = capsys.readouterr()
    assert "first    a: 1.0e-03 of its largest magnitude (random 0)" in out
    assert "qcompile: gate missed: output 'y' differs by 0.002 of its largest magnitude" in err


def test_json_is_documented(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("b", TEXT, 1.001)
    found = []
    for _ in range(2):
        assert cli.main(["certify", "a.onnx", "b.onnx", "--json", "--threads", "1", "--samples", "3"]) == ExitCode.GATE
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]
    document = json.loads(found[0])
    assert document["schema"] == "qcompile-certificate/1"
    assert document["samples"] == {"calibration": 0, "random": 3}
    assert (document["holds"], document["first"]["name"], document["arithmetic"]) == (False, "a", "float64")
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    assert not {key for key in document if f"`{key}`" not in text}


@pytest.mark.parametrize(
    ("other", "words", "status", "says"),
    [
        ("m (float[N, 8] z) => (float[N, 8] y) { y = Relu(z) }", "", ExitCode.USAGE, "the inputs differ: x in"),
        ("m (float[N, 8] x) => (float[N, 8] z) { z = Relu(x) }", "", ExitCode.USAGE, "the outputs differ: y in"),
        ("m (float[N, 9] x) => (float[N, 9] y) { y = Relu(x) }", "", ExitCode.USAGE, "input 'x' has shape"),
        ("m (float[N, 8, 1] x) => (float[N, 8] y) { y = Squeeze(x) }", "", ExitCode.USAGE, "input 'x' has shape"),
        ("m (float16[N, 8] x) => (float[N, 8] y) { y = Cast <to = 1> (x) }", "", ExitCode.USAGE, "input 'x' is FLOAT"),
        ("", "none.onnx", ExitCode.USAGE, "none.onnx"),
        ("", "bad.onnx", ExitCode.MODEL, "bad.onnx"),
        ("", "a.onnx --samples x", ExitCode.USAGE, "--samples: expected a whole number, got 'x'"),
        ("", "a.onnx --samples 0", ExitCode.USAGE, "runs on none of the inputs"),
        ("", "a.onnx --calib none.npz", ExitCode.CALIBRATION, "none.npz"),
        ("", "a.onnx --shape q:1x2", ExitCode.CALIBRATION, "no input 'q'"),
    ],
)  # fmt: skip
def test_errors_are_one_line(
    other: str, words: str, status: int, says: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.onnx").write_bytes(b"no model")
    if other:
        ir.save(build(other), "other.onnx")
    assert cli.main(["certify", "a.onnx", *(words or "other.onnx").split()]) == status
    out, err = capsys.readouterr()
    assert says in err
    assert len(err.splitlines()) == 1
    assert out == ""


def test_a_second_model_that_does_not_run_is_different(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "m (float[N, 8] x) => (float[N, 8] y) { a = Reshape(x, s) y = Relu(a) }"
    ir.save(build(text, s=np.array([1, 8])), "b.onnx")
    ir.save(build("m (float[N, 8] x) => (float[N, 8] y) { y = Relu(x) }"), "c.onnx")
    assert cli.main(["certify", "c.onnx", "b.onnx"]) == ExitCode.GATE
    assert "does not run on random 1" in capsys.readouterr().err  # the one with two rows


def test_what_float64_does_not_take_is_compared_in_float32(place: Path) -> None:
    body = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Relu(d)"
    coded = build(f"m (float[N, 8] x) => (float[N, 8] y) {{ {body} }}", s=np.float32(0.05), z=np.int8(0))
    found = qcompiler.certify(build("m (float[N, 8] x) => (float[N, 8] y) { y = Relu(x) }"), coded, threads=1)
    assert (found.holds, found.failure, found.arithmetic) == (False, "", "float32")
    assert found.outputs is not None
    assert 1e-3 < found.outputs.difference < 1
    assert qcompiler.certify(coded, coded, threads=1).holds


def test_the_python_function(place: Path) -> None:
    assert qcompiler.certify("a.onnx", "same.onnx", {"x": np.ones((3, 8), np.float32)}, threads=1).holds
    put("b", TEXT, 1.001)
    assert qcompiler.certify("a.onnx", "b.onnx", samples=1).reason.startswith("output 'y' differs")


def test_different_opsets_can_be_equal(place: Path) -> None:
    put("old", TEXT, opset=13)
    assert qcompiler.certify("a.onnx", "old.onnx").holds
