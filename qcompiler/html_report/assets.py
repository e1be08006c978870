"""The style sheet and the scripts, kept as files beside the code."""

from __future__ import annotations

from importlib.resources import files

SCRIPTS = ("dom.js", "list.js", "layers.js", "node_map.js", "histograms.js", "channels.js", "levels.js", "start.js")
"""In the order in which they stand in the page; one function scope holds all."""


def style() -> str:
    """The style sheet."""
    return read("style.css")


def script() -> str:
    """All scripts as one that leaves nothing in the page's global scope."""
    return f'"use strict";(() => {{\n{"".join(map(read, SCRIPTS))}}})();\n'


def read(name: str) -> str:
    """A file of this package."""
    return files("qcompiler.html_report").joinpath(name).read_text(encoding="utf-8")
