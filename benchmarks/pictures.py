"""The pictures of docs/report.md and docs/diff.md, made from real runs: the report of MiniLM, the action's comment.

python -m benchmarks.pictures [--out docs/img]          needs Chromium, git and the models
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
import qcompiler
from benchmarks.chromium import Browser, chromium, find_chromium
from qcompiler.result import CompileResult

LARGEST = 200_000
"""Bytes of one picture."""
ENCODER, READER = "minilm", "pp-ocr"


@dataclass(frozen=True, slots=True)
class View:
    """A picture of a part of the report: from one section on, so many pixels high."""

    name: str
    section: str
    width: int
    height: int
    dark: bool = False


VIEWS = (
    View("report_summary", "", 1120, 960),
    View("report_map", "map", 1120, 620, dark=True),
    View("report_activations", "activations", 1120, 640),
    View("report_channels", "channels", 1120, 640),
    View("report_phone", "", 390, 1200, dark=True),
)
_COMMENT = """<!doctype html><meta charset="utf-8"><style>
body{margin:0;padding:16px;background:#fff;color:#1f2328;font:14px/1.5 system-ui,sans-serif}
main{border:1px solid #d1d9e0;border-radius:6px;max-width:860px;margin:auto}
header{background:#f6f8fa;border-bottom:1px solid #d1d9e0;border-radius:6px 6px 0 0;padding:8px 16px;color:#59636e}
article{padding:4px 16px 16px}h2,h3{border-bottom:1px solid #d1d9e0;padding-bottom:.3em;margin:16px 0}
h2{font-size:1.4em}h3{font-size:1.15em;border:0}table{border-collapse:collapse;margin:0 0 16px}
td,th{border:1px solid #d1d9e0;padding:5px 12px}
code{background:#818b981f;border-radius:6px;padding:.15em .35em;font-size:85%}
ul{padding-left:2em}li{margin:.2em 0}summary{cursor:pointer}
</style><main><header><b>github-actions</b> commented</header><article>BODY</article></main>"""
_SIGNS = {"✅": ("✔", "#1a7f37"), "❌": ("✘", "#d1242f")}
"""Of which fonts without colours have a like."""


def compiled(name: str, target: str, **options: Any) -> CompileResult:
    """One of the zoo's models, on its own calibration data."""
    model = models.load(name)
    return qcompiler.compile(model.path(), target, model.calibration(), **options)


def picture_report(browser: Browser, page: Path, out: Path) -> None:
    """Each view of one report."""
    for view in VIEWS:
        browser.open(page, width=view.width, dark=view.dark)
        top = browser.run(f"document.getElementById('{view.section}').offsetTop") if view.section else 0
        browser.picture(out / f"{view.name}.png", area=(0, top, view.width, view.height))


def picture_comment(browser: Browser, text: str, place: Path, out: Path) -> None:
    """The comment's Markdown, drawn with a style like GitHub's."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    for sign, (plain, colour) in _SIGNS.items():
        body = body.replace(sign, f'<span style="color:{colour}">{plain}</span>')
    file = place / "comment.html"
    file.write_text(_COMMENT.replace("BODY", body), encoding="utf-8")
    browser.open(file, width=840)
    height = browser.run("document.documentElement.scrollHeight")
    browser.picture(out / "action_comment.png", area=(0, 0, 840, height))


def review(place: Path, encoder: CompileResult) -> str:
    """The Markdown that the action's step writes about two models that changed, in a repository of its own."""
    root = place / "repository"
    root.mkdir()
    _git(root, "init", "-q", "-b", "main")
    reader = compiled(READER, "orin")
    _put(root / "models" / "reader.onnx", reader)
    base = _commit(root, "a reader")
    excluded = next(str(node.name) for node in reader.reference.graph
                    if node.op_type == "MatMul" and node.name in reader.plan.nodes)  # fmt: skip
    changed = compiled(READER, "orin", method="minmax", exclude=(f"^{re.escape(excluded)}$",))
    _put(root / "models" / "reader.onnx", changed)
    _put(root / "models" / "encoder.onnx", encoder)
    _commit(root, "another recipe, and an encoder")
    written = place / "summary.md"
    settings = {"INPUT_BASE": base, "GITHUB_STEP_SUMMARY": str(written), "RUNNER_TEMP": str(place)}
    package = str(Path(qcompiler.__file__).parent.parent)
    subprocess.run([sys.executable, "-m", "qcompiler.review", "action"], cwd=root, check=False,
                   env={**os.environ, "PYTHONPATH": package, **settings})  # fmt: skip
    return written.read_text(encoding="utf-8")


def _put(path: Path, result: CompileResult) -> None:
    from qcompiler.saving import save_model

    path.parent.mkdir(exist_ok=True)
    save_model(result.model, path)


def _commit(root: Path, message: str) -> str:
    _git(root, "add", "-A")
    _git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", message)
    return _git(root, "rev-parse", "HEAD")


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Make all pictures; status 1 where one is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "img")
    out = parser.parse_args(arguments).out
    program = find_chromium()
    if program is None:
        print("no Chromium is installed", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, chromium(program) as browser:
        place = Path(folder)
        encoder = compiled(ENCODER, "orin", equalize="auto")
        bundle = encoder.save(place / f"{ENCODER}.orin")
        picture_report(browser, bundle / "report.html", out)
        picture_comment(browser, review(place, encoder), place, out)
    sizes = {path.name: path.stat().st_size for path in sorted(out.glob("*.png"))}
    for name, size in sizes.items():
        print(f"{size:8d} {name}")
    return int(any(size > LARGEST for name, size in sizes.items() if name.startswith(("report_", "action_"))))


if __name__ == "__main__":
    sys.exit(main())
