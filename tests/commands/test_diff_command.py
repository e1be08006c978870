"""`qcompile diff`: exit statuses, formats, external data, bundles and plans."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler import cli
from qcompiler.diffing.markdown import plain_markdown
from qcompiler.errors import ExitCode
from tests.building import build
from tests.diffing.pairs import edited, renamed, scaled

TEXT = "m (float[N, 8] x) => (float[N, 8] y) { [fc1] a = MatMul(x, w) [act] b = Relu(a) [fc2] y = MatMul(b, w2) }"
WEIGHT = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
ROOT = Path(__file__).parent.parent.parent
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a.onnx, new.onnx under other names, heavier.onnx with another weight, c.npz."""
    monkeypatch.chdir(tmp_path)
    model = build(TEXT, w=WEIGHT, w2=WEIGHT.T)
    ir.save(model, "a.onnx")
    ir.save(renamed(model), "new.onnx")
    ir.save(edited(model, scaled("w2", 1.5)), "heavier.onnx")
    np.savez("c.npz", x=np.ones((3, 8), np.float32))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ("a.onnx a.onnx", ExitCode.OK, "the same graph, weights and names"),
        ("a.onnx new.onnx", ExitCode.OK, "the same graph and weights under other names (names "),
        ("a.onnx new.onnx --fail-on names", ExitCode.GATE, "3 nodes renamed: fc1 -> n"),
        ("a.onnx heavier.onnx", ExitCode.GATE, "differs in weights (weights 1)"),
        ("a.onnx heavier.onnx --fail-on scales", ExitCode.OK, "differs in weights (weights 1)"),
        ("a.onnx heavier.onnx --ignore weights", ExitCode.OK, "the same graph, weights and names"),
        ("a.onnx heavier.onnx --ignore weights,names", ExitCode.OK, "the same graph, weights and names"),
    ],
)
def test_exit_statuses(place: Path, capsys: Capture, words: str, status: int, says: str) -> None:
    assert cli.main(["diff", *words.split()]) == status
    out, err = capsys.readouterr()
    assert says in out
    assert max(map(len, out.splitlines())) <= 80
    assert ("PASSED" if status == ExitCode.OK else "FAILED") in err


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ("a.onnx none.onnx", ExitCode.USAGE, "none.onnx: no such file"),
        ("a.onnx .", ExitCode.USAGE, "this folder is no bundle"),
        ("a.onnx a.onnx --fail-on precison", ExitCode.USAGE, "--fail-on: unknown level 'precison' (try precision"),
        ("a.onnx a.onnx --ignore all", ExitCode.USAGE, "--ignore: unknown level 'all'"),
        ("a.onnx a.onnx --format yaml", ExitCode.USAGE, "one of text, json, md, html"),
        ("a.onnx a.onnx --rtol-scale -1", ExitCode.USAGE, "--rtol-scale: expected a number from 0 on"),
        ("a.onnx a.onnx --target nowhere", ExitCode.USAGE, "nowhere"),
        ("a.onnx c.npz", ExitCode.MODEL, "c.npz"),
        ("a.onnx heavier.onnx --calib none.npz", ExitCode.CALIBRATION, "none.npz"),
        ("plan.json a.onnx", ExitCode.USAGE, "a.onnx: has no plan to compare"),
    ],
)
def test_faults_are_one_line(place: Path, capsys: Capture, words: str, status: int, says: str) -> None:
    plan = {"schema": "qcompile-plan/1", "tensors": {}, "nodes": {}, "float": {}, "groups": []}
    Path("plan.json").write_text(json.dumps(plan), encoding="utf-8")
    assert cli.main(["diff", *words.split()]) == status
    out, err = capsys.readouterr()
    assert says in err
    assert len(err.splitlines()) == 1
    assert out == ""


def test_json_is_documented_and_repeats(place: Path, capsys: Capture) -> None:
    found = []
    for _ in range(2):
        assert cli.main(["diff", "a.onnx", "heavier.onnx", "--json", "--calib", "c.npz"]) == ExitCode.GATE
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]
    document = json.loads(found[0])
    assert document["schema"] == "qcompile-diff/1"
    assert document["verdict"] == {"words": "differs in weights (weights 1)", "level": "weights", "fail_on": "weights",
                                   "fails": True, "counts": {"weights": 1}}  # fmt: skip
    names = [section["name"] for section in document["sections"]]
    assert names == ["interface", "operators", "quantization", "weights", "structure", "names", "lint", "numeric"]
    (change,) = document["sections"][3]["changes"]
    assert change["level"] == "weights"
    assert change["facts"]["relative_change"] == 0.5
    text = (ROOT / "docs" / "diff.md").read_text(encoding="utf-8")
    keys = {*document, *document["verdict"], *document["sections"][0], *change, *names, *change["facts"]}
    assert not {key for key in keys if f"`{key}`" not in text}


def test_the_numeric_section(place: Path, capsys: Capture) -> None:
    assert cli.main(["diff", "a.onnx", "heavier.onnx", "--calib", "c.npz"]) == ExitCode.GATE
    out = capsys.readouterr().out
    assert "y: SQNR 6.0 dB, cosine 1.00000, agreement 100.00%" in out  # 1.5 y: an error of half the signal
    cli.main(["diff", "a.onnx", "new.onnx", "--calib", "c.npz"])
    assert "y: bit-equal, agreement 100.00%" in capsys.readouterr().out


def test_markdown_opens_what_decides(place: Path, capsys: Capture) -> None:
    assert cli.main(["diff", "a.onnx", "heavier.onnx", "--format", "md"]) == ExitCode.GATE
    out = capsys.readouterr().out
    assert out.startswith("### ❌ `heavier.onnx`\n\n**differs in weights (weights 1)**")
    assert "<details open><summary>weights: 1 change</summary>" in out
    assert out.count("<details") == out.count("</details>") == 1


@pytest.mark.parametrize("sign", ["+", "-"])
def test_a_sign_before_a_finding_is_no_list_in_markdown(sign: str) -> None:
    assert plain_markdown(f"{sign} QC501 a-b + c") == f"\\{sign} QC501 a-b + c"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_whole_and_needs_nothing_else(place: Path, capsys: Capture) -> None:
    odd = edited(build(TEXT, w=WEIGHT, w2=WEIGHT.T), scaled("w2", 1.5))
    odd.graph.initializers["w2"].name = "<script>w"
    ir.save(odd, "odd.onnx")
    assert cli.main(["diff", "a.onnx", "odd.onnx", "--format", "html", "-o", "d.html"]) == ExitCode.GATE
    assert capsys.readouterr().out == ""
    page = Path("d.html").read_text(encoding="utf-8")
    parsed = _Page()
    parsed.feed(page)
    assert parsed.open == []
    assert parsed.links == []
    assert "url(" not in page
    assert "<script" not in page
    assert "w2 of fc2" in page


def test_external_weights_are_followed(place: Path, capsys: Capture) -> None:
    model = onnx.load("heavier.onnx")
    onnx.save(model, "far.onnx", save_as_external_data=True, location="far.data", size_threshold=0)
    assert cli.main(["diff", "heavier.onnx", "far.onnx"]) == ExitCode.OK
    assert cli.main(["diff", "a.onnx", "far.onnx"]) == ExitCode.GATE
    assert "differs in weights" in capsys.readouterr().out
    Path("far.data").unlink()
    assert cli.main(["diff", "a.onnx", "far.onnx"]) == ExitCode.MODEL
    assert "far.data" in capsys.readouterr().err


def compiled(name: str, **options: Any) -> Path:
    data = {"x": np.random.default_rng(1).standard_normal((6, 8)).astype(np.float32)}
    result = qcompiler.compile("a.onnx", "orin", data, build_check="off", **options)
    return result.save(name)


def test_bundles_compare_models_plans_and_recipes(place: Path, capsys: Capture) -> None:
    compiled("one", method="minmax")
    compiled("same", method="minmax")
    compiled("other", method="percentile", percentile=80.0)
    assert cli.main(["diff", "one", "same"]) == ExitCode.OK
    capsys.readouterr()
    assert cli.main(["diff", "one", "other"]) == ExitCode.GATE
    out = capsys.readouterr().out
    assert "differs in scales" in out.splitlines()[0]
    assert re.search(r"scales    plan: \S+: scale", out)
    assert "recipe: method minmax -> percentile" in out
    assert "integer MatMul  2 of 2 -> 2 of 2" in out
    assert cli.main(["diff", "one/plan.json", "other/plan.json", "--fail-on", "precision"]) == ExitCode.OK
    assert "differs in scales" in capsys.readouterr().out
    assert cli.main(["diff", "a.onnx", "one", "--quant-only"]) == ExitCode.GATE
    out = capsys.readouterr().out
    assert "float32 x float32 -> int8 x int8[axis 1]: MatMul 2 (fc1, fc2)" in " ".join(out.split())
    assert "operators" not in out


def test_an_edited_plan_names_what_became_float(place: Path, capsys: Capture) -> None:
    folder = compiled("one", method="minmax")
    plan = json.loads((folder / "plan.json").read_bytes())
    name = next(iter(plan["nodes"]))
    del plan["nodes"][name]
    plan["float"][name] = "by hand"
    Path("edited.json").write_text(json.dumps(plan), encoding="utf-8")
    assert cli.main(["diff", "one/plan.json", "edited.json"]) == ExitCode.GATE
    assert f"plan: {name} is float now: by hand" in capsys.readouterr().out


def test_the_python_function(place: Path) -> None:
    found = qcompiler.diff("a.onnx", "heavier.onnx", fail_on="precision")
    assert (found.level is not None and found.level.word, found.fails) == ("weights", False)
    assert qcompiler.diff("a.onnx", onnx.load("a.onnx")).level is None
