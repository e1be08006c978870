"""`qcompile export`: factories of every kind, one line for every fault."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from qcompiler.cli import main
from qcompiler.commands.export import parse_dynamic
from qcompiler.errors import UsageError

FACTORIES = """
import torch
from torch import nn
ready = nn.Linear(4, 3)
number = 3
def module(): return nn.Linear(4, 3)
def pair(): return nn.Linear(4, 3), torch.ones(2, 4)
def mapping(): return {"module": nn.Linear(4, 3), "example_inputs": (torch.ones(2, 4),), "output_names": ["y"]}
def typo(): return {"module": nn.Linear(4, 3), "example_input": 1}
def empty(): return {}
def a_class(): return nn.Linear
def fails(): raise RuntimeError("no weights\\nhere")
"""
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="the extra `torch` is not installed")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"factories_{tmp_path.name}.py").write_text(FACTORIES)
    return tmp_path


def run(factory: str, *words: str) -> int:
    return main(["export", f"factories_{Path.cwd().name}:{factory}", "--exporter", "torchscript", *words])


@needs_torch
@pytest.mark.parametrize(
    ("factory", "words", "output"),
    [
        ("pair", [], "output"), ("mapping", [], "y"), ("module", ["--inputs", "input:2x4:float32"], "output"),
        ("ready", ["--inputs", "input:2x4", "--dynamic", "input:0=rows"], "output"),
    ],
)  # fmt: skip
def test_factories(factory: str, words: list[str], output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(factory, "--json", "--opset", "17", *words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == f"{factory}.onnx" and Path(document["path"]).is_file()
    assert (document["opset"], document["outputs"][0]["name"]) == (17, output)
    assert document["inputs"][0]["shape"] == ["rows" if "--dynamic" in words else "batch_size", 4]
    assert max(row["difference"] for row in document["parity"]) <= document["tolerance"]


@needs_torch
def test_table_and_refusal_to_replace(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("pair", "-o", "m.onnx") == 0
    said = capsys.readouterr()
    assert "batch_size=3" in said.out and "torchscript exporter" in said.out and "PASSED qcompile export" in said.err
    assert run("pair", "-o", "m.onnx") == 2
    assert "m.onnx: the output exists" in capsys.readouterr().err
    assert run("pair", "-o", "m.onnx", "--force", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


@needs_torch
@pytest.mark.parametrize(
    ("factory", "words", "message"),
    [
        ("module", [], "no example inputs (give --inputs"),
        ("number", [], "a int is no factory"),
        ("a_class", [], "the factory returned the class Linear"),
        ("fails", [], "the factory raised RuntimeError: no weights"),
        ("missing", [], "has no attribute 'missing'"),
        ("typo", [], "unknown key 'example_input' (try example_inputs"),
        ("empty", [], "no key 'module'"),
        ("pair", ["--dynamic", "input=0"], "'input=0' is no axis"),
        ("pair", ["--opset", "x"], "--opset: expected a number"),
        ("module", ["--inputs", "input:2xx4"], "'2xx4' is not a shape"),
        ("module", ["--inputs", "input:2x5"], "the module cannot run the example inputs"),
    ],
)
def test_faults_are_one_line(
    factory: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert run(factory, *words) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
    assert not [file for file in folder.iterdir() if file.suffix in (".onnx", ".partial")]


@needs_torch
def test_words_without_a_factory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "model.py"]) == 2
    assert "names no factory" in capsys.readouterr().err
    assert main(["export", "no_such_module_here:build"]) == 2
    assert "no module 'no_such_module_here'" in capsys.readouterr().err


def test_without_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from qcompiler.torch_export import requirement

    monkeypatch.setattr(requirement, "find_spec", lambda name: None)
    assert main(["export", "model:build"]) == 2
    assert "pip install 'qcompile-onnx[torch]'" in capsys.readouterr().err


def test_axes_as_text() -> None:
    assert parse_dynamic(["none"]) is None and parse_dynamic(["batch"]) == "batch"
    assert parse_dynamic(["a:0=n,b:1:-1=past + new", "a:2=w"]) == {"a": {0: "n", 2: "w"}, "b:1": {-1: "past + new"}}
    with pytest.raises(UsageError, match="'x:y=n' is no axis"):
        parse_dynamic(["x:y=n"])
