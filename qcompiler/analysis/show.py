"""The analysis on a terminal: verdicts first, then sets, then the worst activations, within 80 columns."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qcompiler.analysis.names import cut, short_names
from qcompiler.analysis.result import Analysis
from qcompiler.analysis.set_spread import IRRELEVANT
from qcompiler.analysis.tensor_statistics import TensorSummary
from qcompiler.analysis.verdicts import enough_samples
from qcompiler.show import console

_ROWS = 12
_NAME = 27
_LEGEND = (
    "ax: channel axis; max/med: absmax over the median channel's; outliers: number of",
    "channels above 6x that median, and the largest; 1st: absmax of first tokens over",
    "that of later ones; dB: noise above that with a range for each channel",
)


def show_analysis(found: Analysis, *, verbose: int = 0) -> None:
    """Print it all; `verbose` lists every activation."""
    out = console()
    for item in found.diagnostics:
        out.print(f"[bold red]{escape(str(item))}[/]", soft_wrap=True)
    for verdict in found.verdicts:
        out.print(f"[bold]{escape(verdict.topic)}: {escape(verdict.answer)}[/]")
        out.print(f"  {escape(verdict.because)}")
    if found.rules:
        out.print()
        _show_rules(found, out)
    out.print()
    _show_tensors(found, out, verbose)


def _show_rules(found: Analysis, out: Console) -> None:
    several = len(found.sets) > 1
    judged, of = found.evaluated
    size = found.sizes[-1]
    out.print(escape(f"SQNR in dB, int8 activations, {found.seeds} draws of {size}, judged on {judged} of {of}"))
    table = Table(box=None, padding=(0, 3, 0, 0))
    table.add_column("set", no_wrap=True, min_width=20)
    for rule in found.rules:
        table.add_column(rule.method, justify="right", min_width=8)
    for index, item in enumerate(found.sets):
        table.add_row(escape(cut(item.name, 32)), *(f"{rule.decibels[index].mean():.1f}" for rule in found.rules))
    values = [rule.spread_of_sets for rule in found.rules]
    if several:
        table.add_row("between sets", *(f"{value.between:.2f}" for value in values), style="dim")
    table.add_row("within, between draws", *(f"{value.within:.2f}" for value in values), style="dim")
    if several:
        table.add_row("evaluation noise", *(f"{value.floor:.2f}" for value in values), style="dim")
        marks = ("[bold red]" if value.matters else "[bold]" for value in values)
        ratios = (f"{mark}{value.ratio:.1f}[/]" for mark, value in zip(marks, values, strict=True))
        table.add_row(f"[bold]S (matters above {IRRELEVANT:g})[/]", *ratios)
    table.add_row("enough samples", *(str(enough_samples(rule)[0]) for rule in found.rules))
    out.print(table)


def _show_tensors(found: Analysis, out: Console, verbose: int) -> None:
    first = found.sets[0]
    items = worst_first(list(first.tensors.values()))
    shown = items if verbose else items[:_ROWS]
    outlying = sum(1 for item in items if item.channels is not None and item.channels.outliers)
    title = f"{len(items)} activations over {first.name}, {first.samples} samples; {outlying} with outlier channels"
    out.print(escape(title))
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("worst first", no_wrap=True, width=_NAME)
    for name in ("ax", "absmax", "p99.99", "kurt", "max/med", "outliers", "1st", "dB"):
        table.add_column(name, justify="right", no_wrap=True)
    labels = short_names([item.name for item in shown], _NAME)
    for item in shown:
        table.add_row(escape(labels[item.name]), *_cells(item))
    out.print(table)
    if len(shown) < len(items):
        out.print(f"and {len(items) - len(shown)} more (-v, --json)")
    for line in _LEGEND:
        out.print(line, style="dim")


def worst_first(items: list[TensorSummary]) -> list[TensorSummary]:
    """By what outlier channels cost, tensors without channels last."""
    return sorted(items, key=lambda item: -1.0 if item.lost_db is None else item.lost_db, reverse=True)


def _cells(item: TensorSummary) -> list[str]:
    channels = item.channels
    outliers = "" if channels is None else str(len(channels.outliers) or "")
    if channels is not None and channels.outliers:
        outliers += f": {channels.outliers[0]}"
    first = ""
    if item.absmax_first is not None and item.absmax_rest:
        first = f"{item.absmax_first / item.absmax_rest:.2g}"
    return [
        "" if item.layout.channel is None else str(item.layout.channel),
        f"{item.absmax:.3g}", f"{item.p9999:.3g}", f"{item.kurtosis:.3g}",
        "" if item.ratio is None else f"{item.ratio:.3g}", outliers, first,
        "" if item.lost_db is None else f"{item.lost_db:.1f}",
    ]  # fmt: skip
