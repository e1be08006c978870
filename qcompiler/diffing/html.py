"""The result as one HTML file that needs no network, in light and dark."""

from __future__ import annotations

from html import escape

from qcompiler.diffing.changes import Section
from qcompiler.diffing.difference import Difference

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1,li{overflow-wrap:anywhere}h1{font-size:1.1rem}
.verdict{padding:.6rem 1rem;border-left:.4rem solid #2a2;background:var(--soft)}
.fails{border-color:#d33}
details{border-top:1px solid var(--line);padding:.5rem 0}summary{cursor:pointer;font-weight:600}
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.15rem .8rem;border-bottom:1px solid var(--line)}
td+td{text-align:right;font-variant-numeric:tabular-nums}
ul{list-style:none;padding:0}li{padding:.2rem 0}
.level{display:inline-block;min-width:5.5rem;font-weight:600}.interface,.precision{color:#d33}.structure{color:#a70}
.scales{color:#a3a}.weights{color:#078}.names,.note{opacity:.75}
"""


def difference_html(found: Difference) -> str:
    """A whole document; every change is in it."""
    state = "verdict fails" if found.fails else "verdict"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>qcompile diff</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(found.first)} &rarr; {escape(found.second)}</h1>",
        f'<p class="{state}">{escape(found.verdict)}, fails on {found.fail_on.word}</p>',
        *(_section(section) for section in found.sections),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _section(section: Section) -> str:
    count = f" ({len(section.changes)})" if section.changes else ""
    parts = [f"<details{' open' if section.changes else ''}><summary>{section.name}{count}</summary>"]
    if section.rows:
        cells = "".join(
            f"<tr><td>{escape(label)}</td><td>{escape(before)}</td><td>{escape(after)}</td></tr>"
            for label, before, after in section.rows
        )
        parts.append(f"<table><tr><th></th><th>before</th><th>after</th></tr>{cells}</table>")
    items = [
        f'<li><span class="level {change.level.word}">{change.level.word}</span> {escape(change.what)}</li>'
        for change in section.changes
    ]
    items += [f'<li class="note">{escape(note)}</li>' for note in section.notes]
    if not items and not section.rows:
        items = ['<li class="note">equal</li>']
    return "\n".join([*parts, f"<ul>{''.join(items)}</ul></details>"])
