"""The page as text: what it says, that names cannot break it, its size, and that it is the same every time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.calibration.layer_ranges import ChannelChange, LayerInput
from qcompiler.calibration.observers import ChannelRanges
from qcompiler.driver import compile_model
from qcompiler.html_report import assets
from qcompiler.html_report.channel_bars import BARS, DRAWN, channel_bars
from qcompiler.html_report.extras import Extras
from qcompiler.html_report.page import render, report_html
from qcompiler.html_report.verdict import verdict_of
from qcompiler.options import CompileOptions
from qcompiler.report import report_document
from tests.conftest import MakeResult
from tests.html_report.made_page import EMPTY, large_page, lookup_table, small_compile, small_page
from tests.small_models import block_batches, transformer_block

_VOID = ("meta", "br", "input")


class Balanced(HTMLParser):
    """Every tag that opens closes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in _VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    document: dict[str, Any] = json.loads(found.group(1))
    return document


@pytest.fixture(scope="module")
def page() -> str:
    return small_page()


def test_it_is_whole_and_says_what_was_done(page: str) -> None:
    parser = Balanced()
    parser.feed(page)
    assert parser.opened == []
    assert parser.seen.count("script") == 2
    assert "qcompile MODEL.onnx --target orin --calib DATA --equalize os_plus" in page
    for words in ("fold-shift-scale", "Proofs", "trtexec", "python run_ort.py --check", "AGX Orin 64 GB", "w8a8"):
        assert words in page


def test_data_of_the_charts(page: str) -> None:
    data = data_of(page)
    assert {row[0] for row in data["nodes"]["rows"]} >= {"q", "k", "v", "scores", "mix", "out", "up", "down", "head"}
    assert data["layers"].keys() == {"model.onnx", "host.onnx"}
    assert all(len(item[6]) == 64 for item in data["histograms"]) and data["histograms"]
    assert data["channels"] and data["channels"][0]["before"]["spread"] > data["channels"][0]["after"]["spread"]
    assert data["tables"] == []


def test_it_needs_no_network(page: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert "url(" not in page and "@import" not in page and "fetch(" not in page
    assert re.findall(r"https?://[^\s\"']+", page) == ["http://www.w3.org/2000/svg"]
    assert "default-src 'none'" in page


def test_same_compile_same_bytes(page: str) -> None:
    assert small_page() == page


def test_what_was_measured_holds_no_times() -> None:
    assert "seconds" not in json.dumps(report_document(small_compile())["facts"])


def test_times_and_paths_stay_out(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result(source=str(tmp_path / "m.onnx"))
    document = report_document(result)
    one = report_html(result, document)
    assert one == report_html(replace(result, seconds={"read": 123.456}), document)
    assert str(tmp_path) not in one


def test_two_thousand_nodes_stay_below_three_megabytes() -> None:
    assert len(large_page(2000).encode()) < 3_000_000


def test_names_cannot_become_markup() -> None:
    evil = "</script><img src=x onerror=alert(1)>&amp;<!--"
    rows = [[evil, 0, 0, -1, -1, -1]]
    nodes = {"operators": [evil], "reasons": [], "precisions": [], "rows": rows, "islands": []}
    document = {
        **EMPTY, "source": evil, "gates": [evil], "float": [{"name": evil, "op": evil, "reason": evil}],
        "lookup_tables": [lookup_table(evil)], "command": evil,
        "diagnostics": [{"code": "QC1", "severity": "warning", "where": evil, "message": evil, "hint": evil}],
        "passes": [{"name": evil, "options": evil, "matched": 1, "skipped": 1, "reasons": {evil: 1}, "undone": evil}],
    }  # fmt: skip
    made = render(document, Extras(nodes=nodes, scripts={"x.sh": evil}, examples=[{"matched": [evil]}]))
    parser = Balanced()
    parser.feed(made)
    assert "img" not in parser.seen and parser.seen.count("script") == 2
    assert data_of(made)["nodes"]["rows"] == rows


def test_lookup_tables_of_a_compile_are_shown(page: str) -> None:
    assert 'id="levels"' not in page
    options = CompileOptions(calib=block_batches(), softmax="tan", softmax_bits=4, build_check="off")
    result = compile_model(transformer_block(), options)
    made = report_html(result, report_document(result))
    (table,) = data_of(made)["tables"]
    assert 'id="level-tables"' in made
    assert len(table["levels"]) == 16 and sum(table["counts"]) > 0
    assert table["words"].startswith("tan (TanQ), 4 bits, largest level ")


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({}, "holds", ""),
        ({"gates": ["model: output 'y' is bad"]}, "fails", "output 'y' is bad"),
        ({"check": {"tool": "NVIDIA", "verdict": "refused"}}, "fails", "NVIDIA refuses the graph"),
        ({"check": {"tool": "NVIDIA", "verdict": "absent"}}, "holds", ""),
        ({"calibration": {"source": "synthetic", "samples": 2}}, "look", "synthetic inputs"),
        ({"verification": {}}, "look", "not compared"),
        ({"quantized": {}}, "look", "Nothing is quantized"),
        ({"certificates": [{"holds": False, "passes": ["fold-x"], "outputs": None, "worst": None, "bound": 1e-5,
                            "arithmetic": "float32", "samples": {"calibration": 1, "random": 1}, "reason": "no",
                            "notes": []}]}, "look", "fold-x"),
        ({"diagnostics": [{"code": "QC2", "severity": "warning", "where": "", "message": "m", "hint": ""}]}, "look",
         "1 warning"),
        ({"verification": {"host": {"samples": 1, "layers": [], "outputs": [
            {"name": "y", "sqnr": "nan", "cosine": "nan", "max_error": "nan", "agreement": None, "broken": 1}]}}},
         "fails", "NaN, infinities"),
    ],
)  # fmt: skip
def test_verdict(change: dict[str, Any], state: str, words: str) -> None:
    document = {**EMPTY, **change}
    found = verdict_of(document)
    assert found.state == state
    assert words in " ".join(found.lines)
    assert f'class="verdict {state}"' in render(document, Extras())


def test_a_target_for_this_machine_has_no_estimate(make_result: MakeResult) -> None:
    result = make_result()
    made = report_html(result, report_document(result))
    assert "No latency was measured" in made and "AGX" not in made
    assert "build_engine" not in made


def test_channels_share_bars_and_only_the_most_changed_are_drawn() -> None:
    def side(name: str, peak: float) -> LayerInput:
        high = np.ones(1000, np.float32)
        high[777] = peak
        return LayerInput(name, ChannelRanges(-1, -high, high))

    found = channel_bars([ChannelChange((str(i),), side("a", 100), side("b", 1 + i)) for i in range(DRAWN + 5)])
    assert found[0]["before"]["spread"] == 100 and found[0]["after"]["spread"] == 1
    assert len(found[0]["before"]["high"]) == BARS and max(found[0]["before"]["high"]) == 100
    assert found[DRAWN]["before"]["high"] == [] and found[DRAWN]["before"]["largest"] == 100
    assert [item["readers"][0] for item in found[:3]] == ["0", "1", "2"]


def test_every_script_of_the_folder_is_in_the_page() -> None:
    folder = Path(assets.__file__).parent
    assert sorted(assets.SCRIPTS) == sorted(file.name for file in folder.glob("*.js"))


def test_making_a_page_loads_neither_plots_nor_torch() -> None:
    code = (
        "import sys; from qcompiler import cli\ncli.main(['--help'])\n"
        "print(any(name.startswith('qcompiler.html_report') for name in sys.modules))\n"
        "import qcompiler.html_report.page\n"
        "print({'torch', 'matplotlib', 'rich', 'networkx'} & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-2:] == ["False", "none"]


def test_bundle_holds_the_page(tmp_path: Path) -> None:
    folder = small_compile("ort-cpu").save(tmp_path / "out")
    assert (folder / "report.html").read_bytes().startswith(b"<!doctype html>")
    assert "report.html" in json.loads((folder / "manifest.json").read_bytes())["files"]
