"""`qcompile passes --explain`: the table of sites."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.cli import main
from tests.architectures import bert
from tests.building import build


def test_explain_names_matches_and_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bert.onnx"
    ir.save(bert(1), path)
    assert main(["passes", "--explain", str(path)]) == 0
    text = capsys.readouterr().out
    assert "y is an output of the model" in text
    assert "residual edge to r_0" in text
    assert text.splitlines()[-1] == "matched: 1 activation, 2 norm, 1 value-output; skipped: 1"
    assert "can be rotated: 1 heads, 1 down, 1 scores; skipped: 3" in text.splitlines()
    assert "post-LN" in text
    assert "units  matched  e4_0  32 units" in text.splitlines()
    assert "units can be split off: 1; skipped: 0" in text.splitlines()
    assert main(["passes", "--explain", str(path), "--json", "--target", "orin"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {"norm": 2, "value-output": 1, "activation": 1}
    assert document["matched"][0]["edges"] == ["r_0"]
    assert document["rotations"]["counts"] == {"heads": 1, "down": 1, "scores": 1}
    assert {item["kind"] for item in document["rotations"]["skipped"]} == {"residual"}
    assert document["units"]["matched"] == [{"site": "e4_0", "units": 32, "readers": ["d0_0"]}]
    assert document["units"]["skipped"] == []
    assert document["skipped"][0]["reason"] == "y is an output of the model"


def test_explain_says_why_no_unit_can_be_split_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "m (float[N, 4] x) => (float[N, 4] y) { c = Concat<axis = -1>(x, x) h = Relu(c) y = MatMul(h, w) }"
    path = tmp_path / "m.onnx"
    ir.save(build(text, 18, w=np.eye(8, 4, dtype=np.float32)), path)
    assert main(["passes", "--explain", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "units  skipped  h  Concat may mix channels" in lines
    assert "units can be split off: 0; skipped: 1" in lines


def test_a_model_that_is_not_there_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "--explain", "absent.onnx"]) == 2
    assert "absent.onnx: no such file" in capsys.readouterr().err
