"""The analysis on a terminal: verdicts first, then sets, then the worst activations, within 80 columns."""

from __future__ import annotations

import re

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qcompiler.analysis.result import Analysis
from qcompiler.analysis.tensor_statistics import TensorSummary
from qcompiler.analysis.verdicts import enough_samples
from qcompiler.show import console

_ROWS = 12
_WORDLESS = re.compile(r"_output_0$|encoder/|(?<=LayerNorm)/LayerNormalization|intermediate_act_fn/")
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
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("range rule", no_wrap=True, min_width=10)
    width = max(6, 34 // len(found.sets) - 2)
    for item in found.sets:
        table.add_column(escape(_short(item.name, width)), justify="right")
    for name in ("between", "within", "noise", "S") if several else ("within",):
        table.add_column(name, justify="right")
    table.add_column("enough", justify="right")
    for rule in found.rules:
        value = rule.sensitivity
        spreads = [f"{value.within:.2f}"]
        if several:
            mark = "[bold red]" if value.matters else "[bold]"
            spreads = [f"{value.between:.2f}", *spreads, f"{value.floor:.2f}", f"{mark}{value.ratio:.1f}[/]"]
        means = [f"{mean:.1f}" for mean in rule.decibels.mean(axis=(1, 2))]
        table.add_row(rule.method, *means, *spreads, f"n={enough_samples(rule)[0]}")
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
    labels = short_names([item.name for item in items], _NAME)
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


def short_names(names: list[str], width: int) -> dict[str, str]:
    """Names without the scopes that all share and without what exporters repeat, in the middle cut to `width`."""
    first, last = min(names), max(names)
    length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    start = first[:length].rfind("/") + 1
    return {name: _short(_WORDLESS.sub("", name[start:]) or name, width) for name in names}


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


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width // 3]}…{name[width // 3 + 1 - width :]}"
