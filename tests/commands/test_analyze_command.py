"""`qcompile analyze`: words to options, one line per error, JSON, the folder that it writes."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler import cli
from qcompiler.commands import analyze
from qcompiler.errors import ExitCode, UsageError
from tests.building import build

QUICK = ("--seeds", "2", "--methods", "minmax,mse", "--threads", "1")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with m.onnx and two sets, a/ and b.npz."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    weight = random.standard_normal((8, 4)).astype(np.float32)
    ir.save(build("m (float[N, 6, 8] x) => (float[N, 6, 4] y) { y = MatMul(x, w) }", w=weight), "m.onnx")
    Path("a").mkdir()
    for index in range(6):
        np.savez(f"a/{index}.npz", x=random.standard_normal((2, 6, 8)).astype(np.float32))
    np.savez("b.npz", x=random.standard_normal((12, 6, 8)).astype(np.float32) * 3)
    return tmp_path


def test_table_and_verdicts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["analyze", "m.onnx", "--calib", "a", "--calib", "big=b.npz", *QUICK]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "sets, " in out
    assert "S = " in out
    assert "samples: " in out
    assert "effort: " in out
    assert all(len(line.rstrip()) <= 80 for line in out.splitlines())
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("a ", "big "))] == ["a", "big"]


def test_json_is_the_documented_schema(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["analyze", "m.onnx", "--calib", "a", "--json", *QUICK]) == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "qcompile-analysis/1"
    text = (Path(__file__).parent.parent.parent / "docs" / "analysis.md").read_text(encoding="utf-8")
    tensor = document["sets"]["a"]["tensors"]["x"]
    keys = {*document, *document["sets"]["a"], *tensor, *tensor["channels"], *document["fidelity"]}
    keys |= {*document["fidelity"]["rules"]["mse"], *document["fidelity"]["rules"]["mse"]["range_spread"]}
    assert not {key for key in keys if f"`{key}`" not in text}


def test_a_folder_is_whole_and_never_replaced_unasked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["analyze", "m.onnx", "--calib", "a", "-o", "out", "--no-plots", *QUICK]
    assert cli.main(words) == ExitCode.OK
    assert [path.name for path in Path("out").iterdir()] == ["analysis.json"]
    before = Path("out/analysis.json").read_bytes()
    assert cli.main(words) == ExitCode.USAGE
    assert "out: the output exists (--force replaces it)" in capsys.readouterr().err
    assert cli.main([*words, "--force"]) == ExitCode.OK
    assert Path("out/analysis.json").read_bytes() == before
    Path("out/mine.txt").write_text("keep")
    assert cli.main([*words, "--force"]) == ExitCode.USAGE
    assert "is no analysis of qcompile" in capsys.readouterr().err
    assert Path("out/mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        ([], ExitCode.CALIBRATION, "no calibration data (give --calib D, once for each set"),
        (["--calib", "nowhere"], ExitCode.CALIBRATION, "nowhere: no such file or folder"),
        (["--calib", "a", "--samples", "1,x"], ExitCode.USAGE, "--samples: expected whole numbers, got '1,x'"),
        (["--calib", "a", "--samples", "0"], ExitCode.USAGE, "--samples: 0 is out of range"),
        (["--calib", "a", "--samples", "999"], ExitCode.USAGE, "--samples: 999 samples are asked for"),
        (["--calib", "a", "--methods", "median"], ExitCode.USAGE, "--methods: unknown rule 'median'"),
        (["--calib", "a", "--tensors", "nowhere"], ExitCode.USAGE, "--tensors: 'nowhere' matches no tensor"),
        (["--calib", "n=a", "--calib", "n=b.npz"], ExitCode.USAGE, "--calib: two sets are called 'n'"),
        (["--calb", "a"], ExitCode.USAGE, "unknown option --calb (try --calib"),
    ],
)
def test_errors_are_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, line: str
) -> None:
    assert cli.main(["analyze", "m.onnx", *words]) == status
    err = capsys.readouterr().err
    assert line in err
    assert len(err.strip().splitlines()) == 1


def test_a_missing_model_is_a_usage_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["analyze", "no.onnx", "--calib", "a"]) == ExitCode.USAGE
    assert "no.onnx: no such file" in capsys.readouterr().err


def test_plots_without_matplotlib_are_refused_before_any_work(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analyze, "find_spec", lambda name: None)
    assert cli.main(["analyze", "m.onnx", "--calib", "a", "-o", "out", *QUICK]) == ExitCode.USAGE
    assert "plots need matplotlib (pip install 'qcompile-onnx[plots]'" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="the extra `plots` is not installed")
def test_plots_are_written_twice_alike(place: Path) -> None:
    words = ["analyze", "m.onnx", "--calib", "a", "--calib", "b.npz", "-o", "out", *QUICK]
    assert cli.main(words) == ExitCode.OK
    names = {
        "analysis.json",
        *(f"{name}.{kind}" for name in ("channels", "kurtosis", "ranges", "sets") for kind in ("png", "svg")),
    }
    first = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert set(first) == names
    assert all(content[:4] == b"\x89PNG" for name, content in first.items() if name.endswith("png"))
    assert cli.main([*words, "--force"]) == ExitCode.OK
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == first


def test_sets_are_named_by_path_or_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert analyze.named_sets(["x/a", "y/a.npz", "one=z/a/", "module:make"]) == {
        "a": "x/a", "a-2": "y/a.npz", "one": "z/a/", "module:make": "module:make",
    }  # fmt: skip
    Path("k=v").mkdir()
    assert analyze.named_sets(["k=v"]) == {"k=v": "k=v"}
    with pytest.raises(UsageError, match="two sets"):
        analyze.named_sets(["n=a", "n=b"])
