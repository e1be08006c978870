"""Faulty files and options that would be ignored: one line with the place, the right exit status, nothing changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompiler import cli
from qcompiler.errors import ExitCode
from tests.conftest import FLOAT_TEXT, QDQ_TEXT

USAGE, MODEL = ExitCode.USAGE, ExitCode.MODEL


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models, samples, a plan and a bundle b/."""
    monkeypatch.chdir(tmp_path)
    ir.save(ir.from_onnx_text(FLOAT_TEXT), "m.onnx")
    ir.save(ir.from_onnx_text(QDQ_TEXT), "q.onnx")
    ir.save(ir.from_onnx_text(FLOAT_TEXT.replace("float[N, 4] x", "float[B, N, 4] x")), "rank.onnx")
    ir.save(ir.from_onnx_text(FLOAT_TEXT.replace("MatMul(x, w)", "Conv(x, w)")), "refused.onnx")
    proto = onnx.load("m.onnx")
    weight = next(item for item in proto.graph.initializer if item.name == "w")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight), "w"))
    weight.raw_data = weight.raw_data[:-4]
    onnx.save(proto, "short.onnx")
    np.savez("c.npz", x=np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32))
    assert cli.main(["m.onnx", "--calib", "c.npz", "--method", "minmax", "-o", "b", "-q"]) == 0
    shutil.copy("b/plan.json", "plan.json")
    Path("mine.txt").write_text("mine")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        ("diff m.onnx q.onnx -o mine.txt", USAGE, "mine.txt: the output exists (--force replaces it)"),
        ("diff m.onnx q.onnx -o m.onnx --force", USAGE, "m.onnx: is read by this command"),
        ("diff m.onnx q.onnx -o b", USAGE, "b: is a folder"),
        ("diff m.onnx q.onnx -o no/d.html", USAGE, "no/d.html: cannot write to no"),
        ("diff m.onnx q.onnx --format md --json", USAGE, "--json: asks for another format than --format md"),
        ("diff m.onnx q.onnx --quant-only --calib c.npz", USAGE, "--calib: the models are not run for --quant-only"),
        ("diff plan.json plan.json --calib c.npz", USAGE, "--calib: a plan alone can't be run"),
        ("diff m.onnx q.onnx --max-samples 3", USAGE, "--max-samples: is about the samples of --calib, and there are"),
        ("diff m.onnx q.onnx --seed 1", USAGE, "unknown option --seed"),
        ("certify m.onnx m.onnx --max-samples 3", USAGE, "--max-samples: is about the samples of --calib"),
        ("verify m.onnx q.onnx --preprocess imagenet", USAGE, "--preprocess: is about the samples of --calib"),
        ("bench m.onnx --preprocess imagenet", USAGE, "--preprocess: is about the samples of --calib"),
        ("bench m.onnx --shape x:1x4 --calib c.npz", USAGE, "--shape: is for synthetic inputs, and --calib gives real"),
        ("bench m.onnx --max-samples 3", USAGE, "unknown option --max-samples"),
        ("passes --target orin", USAGE, "--target: the list of passes is that of all targets (give --explain MODEL)"),
        ("show m.onnx --stable --json", USAGE, "--json: a model as text has no JSON form"),
        ("bench m.onnx --log-file m.onnx", USAGE, "--log-file: is another file of this command"),
        ("verify m.onnx q.onnx --log-file ./q.onnx", USAGE, "--log-file: is another file of this command"),
        ("sensitivity m.onnx --calib c.npz --write=", USAGE, "--write: expected the name of a file"),
        ("verify m.onnx rank.onnx", USAGE, "the input 'x' has the shape [N,4] in the first model and [B,N,4] in the s"),
        ("verify m.onnx refused.onnx", MODEL, "the candidate: onnxruntime refuses the model: "),
        ("lint refused.onnx", MODEL, "refused.onnx: onnxruntime refuses the model: "),
        ("show short.onnx --stable", MODEL, "short.onnx: tensor 'w': its content does not fit its type and shape"),
    ],
)
def test_one_line_and_nothing_changed(
    place: Path, words: str, status: int, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = contents(place)
    assert cli.main(words.split()) == status
    error = capfd.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert contents(place) == before


@pytest.mark.parametrize("damage", [b"", b"no zip", b"PK\x03\x04" + b"x" * 40])
def test_damaged_golden_inputs(place: Path, damage: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    Path("b/golden/0.inputs.npz").write_bytes(damage)
    assert cli.main(["bench", "b", "--seconds", "0"]) == MODEL
    assert "b/golden/0.inputs.npz: the golden inputs are damaged (compile again, or give" in capfd.readouterr().err
    assert cli.main(["bench", "b", "--seconds", "0", "--calib", "c.npz", "-q"]) == ExitCode.OK
    np.savez("b/golden/0.inputs.npz", x=np.ones((1, 4), np.int8))
    assert cli.main(["bench", "b", "--seconds", "0"]) == USAGE
    assert "takes the input 'x' as float32, golden/0.inputs.npz as int8" in capfd.readouterr().err


def test_a_damaged_manifest(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    document = json.loads(Path("b/manifest.json").read_bytes())
    Path("b/manifest.json").write_text(json.dumps(document | {"options": 7}))
    assert cli.main(["diff", "b", "b"]) == MODEL
    assert "b/manifest.json: 'options' is no table (compile again)" in capfd.readouterr().err


def test_diff_writes_whole_files_and_devices(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diff", "m.onnx", "m.onnx", "-o", "mine.txt", "--force", "-q"]) == ExitCode.OK
    assert "the same graph" in Path("mine.txt").read_text()
    if Path("/dev/full").exists():
        assert cli.main(["diff", "m.onnx", "m.onnx", "-o", "/dev/full"]) == USAGE
        assert "/dev/full: cannot be written: No space left on device" in capfd.readouterr().err
    assert cli.main(["diff", "m.onnx", "m.onnx", "-o", "/dev/null", "-q"]) == ExitCode.OK


def test_models_that_take_other_inputs_are_a_note_of_diff(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diff", "m.onnx", "rank.onnx", "--calib", "c.npz", "--json"]) == ExitCode.GATE
    document = json.loads(capfd.readouterr().out)
    assert "not run: the input 'x' has the shape" in json.dumps(document)
