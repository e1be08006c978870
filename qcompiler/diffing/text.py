"""The result for a terminal: 80 columns, colour where it is one."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from qcompiler.diffing.changes import Level, Section
from qcompiler.diffing.difference import Difference

_WIDTH = 80
_SHOWN = 8
_ROWS = 12
_COLOURS = {
    Level.INTERFACE: "bold red", Level.PRECISION: "red", Level.STRUCTURE: "yellow", Level.SCALES: "magenta",
    Level.WEIGHTS: "cyan", Level.NAMES: "dim",
}  # fmt: skip


def show_difference(found: Difference, console: Console, *, verbose: bool = False) -> None:
    """Print verdict and sections; those in which nothing differs share the last line."""
    colour = "green" if not found.fails else "red"
    for line in wrap(found.verdict, _WIDTH):
        console.print(Text(line, f"bold {colour}"))
    for section in found.sections:
        if section.changes or section.rows or section.notes:
            console.print(Text(f"\n{section.name}", "bold"))
            _show_section(section, console, None if verbose else _SHOWN)
    equal = [section.name for section in found.sections if not (section.changes or section.rows or section.notes)]
    if equal:
        console.print(Text(f"\nequal: {', '.join(equal)}", "dim"))


def _show_section(section: Section, console: Console, shown: int | None) -> None:
    for row in _table(section, None if shown is None else _ROWS):
        console.print(Text(row))
    for change in section.changes[:shown]:
        head = f"  {change.level.word:<10}"
        lines = wrap(change.what, _WIDTH - len(head)) or [""]
        console.print(Text.assemble((head, _COLOURS[change.level]), lines[0]))
        for line in lines[1:]:
            console.print(Text(" " * len(head) + line))
    if shown is not None and len(section.changes) > shown:
        console.print(Text(f"  {len(section.changes) - shown} more (-v lists all)", "dim"))
    for note in section.notes:
        for line in wrap(note, _WIDTH - 2, initial_indent="  ", subsequent_indent="    "):
            console.print(Text(line, "dim"))


def _table(section: Section, shown: int | None) -> Iterator[str]:
    rows = section.rows[:shown]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for label, before, after in rows:
        yield f"  {label:<{widths[0]}}  {before:>{widths[1]}} -> {after:>{widths[2]}}"
    if len(section.rows) > len(rows):
        yield f"  {len(section.rows) - len(rows)} more"
