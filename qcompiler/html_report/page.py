"""The whole page: sections as HTML, then the data and the scripts that draw the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from qcompiler.html_report import assets
from qcompiler.html_report.calibration import calibration, kept_float
from qcompiler.html_report.commands import commands
from qcompiler.html_report.costs import costs
from qcompiler.html_report.elements import Markup, items, note, section, tag
from qcompiler.html_report.extras import Extras, extras_of
from qcompiler.html_report.fidelity import layer_rows, layers, needs_script, outputs
from qcompiler.html_report.lookup_rows import table_rows
from qcompiler.html_report.rewrites import certificates, passes
from qcompiler.html_report.summary import summary
from qcompiler.html_report.verdict import TITLES, verdict_of

if TYPE_CHECKING:
    from qcompiler.result import CompileResult

FILE_NAME = "report.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; form-action 'none'"
"""A browser that reads it loads nothing from anywhere."""


def report_html(result: CompileResult, document: Mapping[str, Any]) -> str:
    """The page for a compile.

    Args:
        document: Its report.json, of `report_document`.
    """
    return render(document, extras_of(result))


def render(document: Mapping[str, Any], extras: Extras) -> str:
    """The page from data alone: the same data give the same bytes."""
    sections = _sections(document, extras)
    title = f"{document['source'] or 'model'} for {document['target']}"
    links = [tag("a", name, href=f"#{key}") for key, name in _headings(sections)]
    data = {
        "layers": layer_rows(document), "nodes": extras.nodes, "histograms": extras.histograms,
        "channels": extras.channels, "tables": table_rows(document),
    }  # fmt: skip
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        tag("title", f"{title} - qcompile"),
        f"<style>{assets.style()}</style></head><body>",
        tag("header", tag("h1", title), _verdict(document), summary(document, extras)),
        tag("nav", *links),
        tag("main", *sections),
        f'<script type="application/json" id="data">{_inline(data)}</script>',
        f"<script>{assets.script()}</script></body></html>\n",
    ]
    return "\n".join(parts)


def _sections(document: Mapping[str, Any], extras: Extras) -> list[Markup]:
    wanted = {
        "map": extras.nodes, "activations": extras.histograms, "levels": document.get("lookup_tables"),
        "channels": extras.channels,
    }  # fmt: skip
    drawn = [
        section(key, title, note(words), tag("div", needs_script(), id=place))
        for key, title, place, words in _DRAWN
        if wanted[key]
    ]
    return [
        outputs(document), layers(document), *drawn, kept_float(document), passes(document, extras),
        certificates(document), calibration(document), costs(document, extras), commands(document, extras),
    ]  # fmt: skip


_DRAWN = (
    ("map", "Precision map", "node-map",
     "Every node of the float graph, in its order: which run in integers, and which float nodes stand between them, "
     "where numbers are converted there and back."),
    ("activations", "Activations", "histograms",
     "Magnitudes that calibration saw, counts on a logarithmic scale; the line is where the codes end and clipping "
     "begins."),
    ("levels", "Lookup-table levels", "level-tables",
     "What a softmax gives, where it goes to few levels through a table: the levels, over what calibration saw of the "
     "values above 0 (counts on a logarithmic scale)."),
    ("channels", "Channel ranges", "channel-ranges",
     "What layers read, channel by channel, before and after equalization or rotation, on the same few samples; each "
     "drawn over its own largest magnitude, since that is what one scale has to span."),
)  # fmt: skip
"""Sections that scripts draw: key, title, place and words."""


def _verdict(document: Mapping[str, Any]) -> Markup:
    found = verdict_of(document)
    return tag("div", tag("strong", TITLES[found.state]), *([items(found.lines)] if found.lines else []),
               class_=f"verdict {found.state}")  # fmt: skip


def _headings(sections: Sequence[Markup]) -> list[tuple[str, Markup]]:
    found = []
    for one in sections:
        key = one.partition('<section id="')[2].partition('"')[0]
        found.append((key, Markup(one.partition("<h2>")[2].partition("</h2>")[0])))
    return found


def _inline(data: Mapping[str, Any]) -> str:
    """JSON that ends no script and opens no comment."""
    return msgspec.json.encode(data).decode().replace("<", "\\u003c").replace("&", "\\u0026")
