"""`qcompile bench` on small models and bundles: what is measured on which inputs, what is estimated and what isn't."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.cli import main
from qcompiler.registry import find_target
from qcompiler.result import CompileResult
from tests.conftest import FLOAT_TEXT, QDQ_TEXT


@pytest.fixture
def float_file(tmp_path: Path) -> Path:
    ir.save(ir.from_onnx_text(FLOAT_TEXT), tmp_path / "float.onnx")
    return tmp_path / "float.onnx"


@pytest.fixture
def orin_bundle(make_result: Callable[..., CompileResult], tmp_path: Path) -> Path:
    result = make_result(target=find_target("orin"))
    return replace(result, host=result.model.clone()).save(tmp_path / "m.orin")


def document(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main(["bench", *map(str, words), "--seconds", "0", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_bundle_against_its_float_model(
    orin_bundle: Path, float_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, orin_bundle, "--against", float_file)
    assert found["schema"] == "qcompile-bench/1"
    assert found["inputs"] == {"source": "golden", "shapes": {"x": [2, 4]}}
    assert [item["file"] for item in found["measured"]] == ["host.onnx", "float.onnx"]
    assert found["measured"][1]["speed"] == 1.0
    assert found["estimated"]["file"] == "model.onnx"
    agx = found["estimated"]["boards"][0]
    assert [item["board"] for item in found["estimated"]["boards"]] == ["agx", "nx", "nano", "nano-super"]
    assert not any(item["integer"] for item in agx["fp16"]["regions"])
    assert sum(item["ms"] for item in agx["int8"]["regions"]) == pytest.approx(agx["int8"]["ms"])
    assert any("no Jetson was measured" in note for note in found["notes"])


def test_pairs_make_a_product_an_integer_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = QDQ_TEXT.replace("h = MatMul(xd, w)", "wq = QuantizeLinear(w, s, z)\n wd = DequantizeLinear(wq, s, z)\n"
                            "[product] h = MatMul(xd, wd)").replace("[product] wq", "wq")  # fmt: skip
    ir.save(ir.from_onnx_text(text), tmp_path / "q.onnx")
    found = document(capsys, tmp_path / "q.onnx", "--board", "nano")
    (board,) = found["estimated"]["boards"]
    assert [item["integer"] for item in board["int8"]["regions"] if item["op"] == "MatMul"] == [True]
    assert not any("the graph has no Q/DQ" in note for note in found["notes"])


def test_a_float_model_alone_supposes_int8_and_says_so(float_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, float_file, "--shape", "x:7x4")
    assert found["inputs"] == {"source": "synthetic", "shapes": {"x": [7, 4]}}
    assert any("the graph has no Q/DQ" in note for note in found["notes"])
    np.savez(float_file.with_name("c.npz"), x=np.ones((5, 4), np.float32))
    found = document(capsys, float_file, "--calib", float_file.with_name("c.npz"))
    assert found["inputs"]["source"] == "calib"


def test_a_graph_of_onnxruntimes_own_operators_is_not_estimated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    m (uint8[N, 4] x) => (int32[N, 2] y) <int8[4, 2] w = {1,2,3,4,5,6,7,8}> { y = MatMulInteger(x, w) }"""
    ir.save(ir.from_onnx_text(text), tmp_path / "i.onnx")
    found = document(capsys, tmp_path / "i.onnx")
    assert found["estimated"]["boards"] == []
    assert any(note.startswith("no estimate") for note in found["notes"])


def test_text_fits_eighty_columns(orin_bundle: Path, float_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(orin_bundle), "--against", str(float_file), "--seconds", "0"]) == 0
    said = capsys.readouterr().out
    tables = said.partition("\n- ")[0].splitlines()
    assert max(map(len, tables)) <= 80
    assert "measured here" in said and "AGX Orin 64 GB" in said and "not measured" in said
    assert "m.orin/host.onnx" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.onnx"], "nothing.onnx: no such file or folder"),
        (["FLOAT", "--board", "xavier"], "--board: unknown board 'xavier'"),
        (["FLOAT", "--seconds", "soon"], "--seconds: expected seconds between 0 and 3600, got 'soon'"),
        (["FLOAT", "--against", "OTHER"], "has the input 'other', which the other model lacks"),
        (["FOLDER"], "is not a bundle: it has no manifest.json"),
    ],
)
def test_faults_are_one_line(
    words: list[str], message: str, float_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = float_file.with_name("other.onnx")
    ir.save(ir.from_onnx_text(FLOAT_TEXT.replace("4] x", "4] other").replace("(x,", "(other,")), other)
    places = {"FLOAT": float_file, "OTHER": other, "FOLDER": float_file.parent}
    assert main(["bench", *[str(places.get(word, word)) for word in words]]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
