"""model.ort: the same numbers as the ONNX file, the operators of a minimal build, no trace of this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from qcompiler import ort_format
from qcompiler.errors import UnsupportedError, VerificationError
from qcompiler.options import CompileOptions
from qcompiler.result import CompileResult


def test_bundle_has_the_file_and_its_operators(make_result: Callable[..., CompileResult], tmp_path: Path) -> None:
    folder = make_result(options=CompileOptions(format="ort")).save(tmp_path / "out")
    assert (folder / "model.ort").read_bytes()[4:8] == b"ORTM"
    operators = (folder / "required_operators.config").read_text()
    assert "ai.onnx;13;" in operators
    assert "ArgMax" in operators
    assert str(tmp_path) not in operators
    with np.load(folder / "golden/0.inputs.npz") as inputs, np.load(folder / "golden/0.outputs.npz") as outputs:
        session = ort.InferenceSession(str(folder / "model.ort"))
        assert np.array_equal(session.run(["y"], dict(inputs))[0], outputs["y"])
    check = [sys.executable, str(folder / "run_ort.py"), "--check", "--file"]
    assert subprocess.run([*check, "model.ort"], capture_output=True, check=False).returncode == 0
    refused = subprocess.run([*check, "plan.json"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("run_ort.py: onnxruntime")
    assert refused.stderr.count("\n") == 1


def test_without_the_option_there_is_none(make_result: Callable[..., CompileResult], tmp_path: Path) -> None:
    folder = make_result().save(tmp_path / "out")
    assert not (folder / "model.ort").exists()


def test_no_layout_of_this_processor(tmp_path: Path) -> None:
    """A Conv of 16 channels gets a blocked layout in an ordinary session on x86."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    m (float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y)
      <float[16,16,1,1] w = {KERNEL}> { y = Conv(x, w) }""".replace("KERNEL", ",".join(["0.5"] * 256))
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    ort_format.write_ort(tmp_path / "m.onnx", tmp_path, [{"x": np.ones((1, 16, 8, 8), np.float32)}])
    assert "com.microsoft.nchwc" not in (tmp_path / "required_operators.config").read_text()


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(UnsupportedError, match=r"--format ort: onnxruntime [0-9.]+ can't write model\.ort") as caught:
        ort_format.write_ort(tmp_path / "m.onnx", tmp_path, [])
    assert "\n" not in str(caught.value)


def test_a_file_that_computes_something_else_is_refused(
    make_result: Callable[..., CompileResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ort_format._run
    calls: list[int] = []

    def wrong(session: object, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        calls.append(1)
        return {name: array + len(calls) for name, array in run(session, feeds).items()}

    monkeypatch.setattr(ort_format, "_run", wrong)
    with pytest.raises(VerificationError, match="computes something else"):
        make_result(options=CompileOptions(format="ort")).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
