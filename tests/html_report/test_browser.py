"""The page in a real headless Chromium: it renders, complains about nothing, sorts, searches and fits a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chromium import Browser, chromium, find_chromium
from qcompiler.html_report.extras import Extras
from qcompiler.html_report.page import render
from tests.html_report.made_page import EMPTY, large_page, lookup_table, small_page

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium is installed here (Debian: apt install chromium; or $CHROMIUM names one)"
)
LAYERS = "[...document.querySelectorAll('#layer-rows li')]"
NODES = "[...document.querySelectorAll('#node-rows tr')]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with chromium(PROGRAM) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("small") / "report.html"
    file.write_text(small_page(), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("large") / "report.html"
    file.write_text(large_page(2000), encoding="utf-8")
    return file


def type_into(browser: Browser, placeholder: str, text: str) -> None:
    browser.run(
        f"(() => {{ const box = document.querySelector('input[placeholder^=\"{placeholder}\"]');"
        f"box.value = '{text}'; box.dispatchEvent(new Event('input')); }})()"
    )


def choose(browser: Browser, place: str, label: str, value: str) -> None:
    browser.run(
        f"(() => {{ const one = document.querySelector('#{place} select[aria-label=\"{label}\"]');"
        f"one.value = '{value}'; one.dispatchEvent(new Event('change')); }})()"
    )


def values(browser: Browser) -> list[float]:
    found: list[float] = browser.run(f"{LAYERS}.map((row) => Number(row.querySelector('.value').textContent))")
    return found


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_it_renders_without_complaint_and_without_a_request(
    browser: Browser, page: Path, width: int, dark: bool
) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.complaints == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    for place in ("layer-chart", "node-map", "histograms", "channel-ranges"):
        assert browser.run(f"document.getElementById('{place}').offsetHeight") > 100, place
    light = browser.run("getComputedStyle(document.body).backgroundColor")
    assert light == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")


def test_an_error_in_the_page_would_be_seen(browser: Browser, page: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    text = page.read_text(encoding="utf-8")
    script = "<script>console.error('seen'); missing()</script></body>"
    bad.write_text(text.replace("</body>", script), encoding="utf-8")
    browser.open(bad)
    assert browser.complaints[0] == "seen" and "missing is not defined" in browser.complaints[1]
    bad.write_text(text.replace("</body>", "<img src='http://127.0.0.1:9/x.png'></body>"), encoding="utf-8")
    browser.open(bad)
    assert any("Content Security Policy" in line for line in browser.complaints)


def test_layers_sort_and_filter(browser: Browser, large: Path) -> None:
    browser.open(large)
    worst = values(browser)
    assert worst == sorted(worst) and len(worst) == 24
    choose(browser, "layer-chart", "Sort by", "best")
    assert values(browser) == sorted(values(browser), reverse=True)
    choose(browser, "layer-chart", "Sort by", "graph")
    assert browser.run(f"{LAYERS}.slice(0, 2).map((row) => row.textContent.match(/layer\\.(\\d+)/)[1])") == ["0", "1"]
    choose(browser, "layer-chart", "Show", "10")
    assert max(values(browser)) < 10
    choose(browser, "layer-chart", "Show", "")
    type_into(browser, "Search layers", "layer.79 dense")
    assert browser.run(f"{LAYERS}.length") == 11  # 79 and 790 to 799
    assert browser.run("document.querySelector('#layer-chart .status').textContent") == "11 of 800 layers"
    assert browser.run("document.querySelectorAll('.overview circle:not(.dim)').length") == 11
    browser.run("document.querySelector('#layer-chart .more').click()")
    assert browser.complaints == []


def test_more_rows_come_when_asked(browser: Browser, large: Path) -> None:
    browser.open(large)
    browser.run("document.querySelector('#layer-chart .more').click()")
    assert browser.run(f"{LAYERS}.length") == 48


def test_the_map_is_searched_and_filtered(browser: Browser, large: Path) -> None:
    browser.open(large)
    assert browser.run("document.querySelectorAll('.cells .cell').length") == 2000
    type_into(browser, "Search nodes", "matmul_1999")
    assert browser.run(f"{NODES}.length") == 1
    assert browser.run("document.querySelectorAll('.cells .cell:not(.dim)').length") == 1
    type_into(browser, "Search nodes", "softmax int4")
    assert browser.run("document.querySelector('#node-map .status:not(details *)').textContent") == "333 of 2000 nodes"
    type_into(browser, "Search nodes", "")
    browser.run("document.querySelector('#node-map .chip').click()")
    assert browser.run("document.querySelectorAll('.cells .integer:not(.dim)').length") == 0
    browser.run("document.querySelector('.cells .cell[data-node=\"5\"]').click()")
    assert "MatMul_5" in browser.run("document.querySelector('#node-map .detail').textContent")


def test_an_island_is_shown_alone(browser: Browser, page: Path) -> None:
    browser.open(page)
    all_cells = browser.run("document.querySelectorAll('.cells .cell').length")
    browser.run("document.querySelector('#node-map details button').click()")
    shown = browser.run("document.querySelectorAll('.cells .cell:not(.dim)').length")
    assert 0 < shown < all_cells
    assert browser.run("document.querySelectorAll('.cells .cell:not(.dim):not(.island):not(.kept)').length") == 0
    browser.run("document.querySelector('#node-map details button').click()")
    assert browser.run("document.querySelectorAll('.cells .cell:not(.dim)').length") == all_cells


def test_histograms_are_sorted_and_searched(browser: Browser, page: Path) -> None:
    browser.open(page)
    names = "[...document.querySelectorAll('#histogram-cards figcaption')].map((one) => one.textContent)"
    choose(browser, "histograms", "Sort by", "name")
    found: list[Any] = browser.run(names)
    assert found == sorted(found) and len(found) > 2
    type_into(browser, "Search tensors", found[0])
    assert browser.run(names)[0] == found[0]
    assert browser.run("document.querySelectorAll('#histogram-cards path')[0].getBBox().width") > 100
    type_into(browser, "Search tensors and layers", "no such tensor")
    assert browser.run("document.querySelectorAll('#channel-cards figure').length") == 0


def test_level_tables_and_the_copy_button(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render({**EMPTY, "lookup_tables": [lookup_table()]}, Extras()), encoding="utf-8")
    browser.open(file)
    assert browser.run("document.querySelectorAll('#level-cards line').length") == 4
    browser.run("document.querySelector('button.copy').click(), new Promise((act) => setTimeout(act, 300))")
    assert browser.run("document.querySelector('button.copy').textContent") in ("Copied", "Selected")
    assert browser.complaints == []
