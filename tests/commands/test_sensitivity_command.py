"""`qcompile sensitivity`: the table, JSON, the figure, and files that a compile takes back."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler import cli
from qcompiler.commands import sensitivity
from qcompiler.errors import ExitCode
from tests.building import build
from tests.sensitivity.planted import planted, samples

RUN = ["sensitivity", "m.onnx", "--calib", "c.npz", "--threads", "1", "--split-units", "none"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with m.onnx and c.npz."""
    monkeypatch.chdir(tmp_path)
    ir.save(planted(), "m.onnx")
    np.savez("c.npz", x=np.concatenate([feed["x"] for feed in samples(24)]))
    return tmp_path


def test_the_table_has_the_worst_first_within_80_columns(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*RUN, "--bits", "w4a4"]) == ExitCode.OK
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("3 layers at w4a4 on 3 samples; all quantized: ")
    assert next(line.split()[0] for line in lines[2:5]) == "second"
    assert all(len(line.rstrip()) <= 80 for line in lines[1:])
    assert err.startswith("PASSED qcompile sensitivity")
    assert sorted(path.name for path in place.iterdir()) == ["c.npz", "m.onnx"]


def test_json_is_the_documented_schema(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*RUN, "--bits", "w4a4", "--json", "--write", "b.toml", "--count", "1"]) == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "qcompile-sensitivity/1"
    assert next(layer["name"] for layer in document["layers"]) == "second"
    assert [layer["kept"] for layer in document["layers"]] == [True, False, False]
    assert document["all_quantized"] == document["layers"][0]["cumulative"]
    text = (Path(__file__).parent.parent.parent / "docs" / "sensitivity.md").read_text(encoding="utf-8")
    keys = {*document, *document["layers"][0], *document["all_quantized"], *document["written"]}
    assert not {key for key in keys if f"`{key}`" not in text}


def test_a_bits_file_makes_the_mixed_plan(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*RUN, "--bits", "w4a4", "--write", "b.toml", "--count", "1"]) == ExitCode.OK
    assert "b.toml: 1 of 3 at w8a8, 57.1% of the work; qcompile m.onnx --bits w4a4 --bits-file b.toml" in (
        capsys.readouterr().out
    )
    words = ["m.onnx", "--calib", "c.npz", "--bits", "w4a4", "--bits-file", "b.toml", "--float-share", "0", "-o", "out"]
    assert cli.main(words) == ExitCode.OK
    nodes = json.loads(Path("out/plan.json").read_text())["nodes"]
    bits = {name: entry["weights"]["1"].get("bits", 8) for name, entry in nodes.items()}
    assert bits == {"first": 4, "second": 8, "third": 4}


def test_options_of_a_compile_are_followed_wherever_they_stand(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*words: str) -> dict[str, Any]:
        assert cli.main([*RUN, "--json", *words]) == ExitCode.OK
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    Path("c.toml").write_text('equalize = "os_plus"\nmin-sqnr = 90\n')  # a gate of the compile is none here
    plain, flag, config = measured(), measured("--equalize", "os_plus"), measured("--config", "c.toml")
    monkeypatch.setenv("QCOMPILE_EQUALIZE", "os_plus")
    for found in (flag, config, measured()):
        assert found["rewrites"] == {"equalize": 2}
        assert found["all_quantized"] == flag["all_quantized"] != plain["all_quantized"]
    assert cli.main([*RUN, "--write", "b.toml", "--bits", "w6a6", "--count", "1"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "measured with 2 sites equalized" in out
    assert "--bits w6a6 --bits-file b.toml --equalize os_plus" in out
    assert cli.main([*RUN, "--rounding", "gptq", "--softmax", "tan", "--rotate", "all"]) == ExitCode.OK


def test_a_config_keeps_the_layer_float(place: Path) -> None:
    assert cli.main([*RUN, "--write", "f.toml", "--count", "1"]) == ExitCode.OK
    assert cli.main(["m.onnx", "--calib", "c.npz", "--config", "f.toml", "--float-share", "0", "-o", "out"]) == 0
    plan = json.loads(Path("out/plan.json").read_text())
    assert set(plan["nodes"]) == {"first", "third"}


def test_files_are_never_replaced_unasked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.toml").write_text("mine")
    words = [*RUN, "--bits", "w4a4", "--count", "1", "--write", "b.toml"]
    assert cli.main(words) == ExitCode.USAGE
    assert "b.toml: the output exists (--force replaces it)" in capsys.readouterr().err
    assert Path("b.toml").read_text() == "mine"
    assert cli.main([*words, "--force"]) == ExitCode.OK
    assert '"^second$" = "w8a8"' in Path("b.toml").read_text()


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="the extra `plots` is not installed")
def test_a_figure(place: Path) -> None:
    for name, start in (("p.png", b"\x89PNG"), ("p.svg", b"<?xml")):
        assert cli.main([*RUN, "--bits", "w6a6", "--plot", name]) == ExitCode.OK
        assert Path(name).read_bytes().startswith(start)


def test_without_matplotlib_a_figure_is_refused_before_any_work(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity, "find_spec", lambda name: None)
    assert cli.main([*RUN, "--plot", "p.png"]) == ExitCode.USAGE
    assert "--plot: plots need matplotlib (pip install 'qcompile-onnx[plots]')" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (["--calib", "nowhere"], ExitCode.CALIBRATION, "nowhere: no such file or folder"),
        (["--bits", "w5a5"], ExitCode.USAGE, "--bits: 'w5a5' is no precision"),
        (["--by", "block"], ExitCode.USAGE, "--by: unknown value 'block' (one of node, group)"),
        (["--metric", "psnr"], ExitCode.USAGE, "--metric: unknown value 'psnr' (one of sqnr, cosine, kl)"),
        (["--samples", "0"], ExitCode.USAGE, "--samples: 0 is out of range"),
        (["--samples", "x"], ExitCode.USAGE, "--samples: expected a whole number, got 'x'"),
        (["--share", "0.5"], ExitCode.USAGE, "--share: says what to write, and nothing is written (give --write FILE)"),
        (["--write", "b.toml", "--share", "1.5"], ExitCode.USAGE, "--share: 1.5 is out of range"),
        (["--write", "b.toml", "--share", "nan"], ExitCode.USAGE, "--share: nan is out of range"),
        (["--write", "b.toml", "--share", "0.01"], ExitCode.USAGE, "--share: no layer is as small as 0.01"),
        (["--write", "b.toml", "--keep", "8"], ExitCode.USAGE, "--keep: 8 bits are no more than w8a8"),
        (["--write", "no/b.toml"], ExitCode.USAGE, "cannot write to no"),
        (["--plot", "p.gif"], ExitCode.USAGE, "--plot: .gif is no kind of figure (name a .png or .svg file)"),
        (["--plot", "c.npz"], ExitCode.USAGE, "c.npz: the output exists"),
        (["--equalize", "much"], ExitCode.USAGE, "--equalize: unknown value 'much' (one of recipe, none"),
        (["--bits-file", "no.toml"], ExitCode.USAGE, "no.toml: cannot read the bits: No such file"),
        (["--config", "no.toml"], ExitCode.USAGE, "no.toml: cannot read the settings: No such file"),
        (["--plan", "p.json"], ExitCode.USAGE, "unknown option --plan"),
        (["--bitz", "w4a4"], ExitCode.USAGE, "unknown option --bitz (try --bits"),
    ],
)
def test_errors_are_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, line: str
) -> None:
    before = sorted(place.iterdir())
    assert cli.main([*RUN, *words]) == status
    err = capsys.readouterr().err
    assert line in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(place.iterdir()) == before


def test_options_that_concern_all_layers_together_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCOMPILE_BIAS_CORRECTION", "auto")
    assert cli.main(RUN) == ExitCode.USAGE
    assert "--bias-correction: corrections are made for all layers together" in capsys.readouterr().err


def test_models_and_data_at_fault(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ir.save(build("m (float[N, 16] x) => (float[N, 16] y) { y = Relu(x) }"), "plain.onnx")
    assert cli.main(["sensitivity", "plain.onnx", "--calib", "c.npz"]) == ExitCode.MODEL
    assert "plain.onnx: nothing here would be quantized (the model has no MatMul" in capsys.readouterr().err
    assert cli.main(["sensitivity", "m.onnx"]) == ExitCode.CALIBRATION
    assert "no calibration data (give --calib D" in capsys.readouterr().err
    assert cli.main(["sensitivity", "no.onnx", "--calib", "c.npz"]) == ExitCode.USAGE
    assert "no.onnx: no such file" in capsys.readouterr().err
