"""A benchmark on a terminal, within 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from qcompiler.bench.measure import Timing
from qcompiler.bench.roofline import Bound, Estimate
from qcompiler.bench.run import BenchResult
from qcompiler.show import console

_TOP = 5
_PAYS = 1.1
"""Below this gain at the bound, what the bound leaves out decides."""


def show_bench(result: BenchResult, *, verbose: int = 0) -> None:
    """Tables of what was measured and estimated, and what the estimates rest on."""
    out = console()
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in result.shapes.items())
    out.print(f"inputs   {escape(result.source)}: {escape(_shortened(shapes, 140))}", soft_wrap=True)
    out.print(f"threads  {result.threads}, {result.timings[0].rounds} rounds")
    out.print(_timings(result.timings))
    if result.estimates:
        out.print(f"\nleast time on Jetson Orin, estimated from {escape(Path(result.estimated).name)}; not measured")
        out.print(_boards(result.estimates))
        half, integer = result.estimates[0]
        out.print(f"\nwhat bounds it on {escape(integer.board.title)}, in INT8")
        out.print(_bounds(integer, _TOP if not verbose else 20))
        out.print(_verdict(half, integer))
    for note in result.notes:
        out.print(f"- {escape(note)}", soft_wrap=True)


def _timings(timings: Sequence[Timing]) -> Table:
    table = _table("measured here", "median ms", "p90", "p99", "runs/s", "MiB", "speed")
    for item in timings:
        path = Path(item.file)
        table.add_row(
            escape(_tail(f"{path.parent.name}/{path.name}", 38)), _three(item.median), _three(item.p90),
            _three(item.p99), _three(item.per_second), f"{item.peak_mib:.0f}", f"{item.speed:.2f}x",
        )  # fmt: skip
    return table


def _boards(estimates: Sequence[tuple[Estimate, Estimate]]) -> Table:
    table = _table("board", "FP16 ms", "INT8 ms", "gain", "memory-bound", "kernels")
    for half, integer in estimates:
        gain = half.seconds / integer.seconds if integer.seconds else 1.0
        kernels = sum(item.region.calls for item in integer.bounds)
        table.add_row(
            integer.board.title, _three(half.seconds * 1e3), _three(integer.seconds * 1e3), f"{gain:.2f}x",
            f"{integer.share('memory'):.0%}", str(kernels),
        )  # fmt: skip
    return table


def _bounds(found: Estimate, count: int) -> Table:
    table = _table("kernel begins with", "operator", "products", "share", "bound by")
    for item in sorted(found.bounds, key=lambda bound: -bound.seconds)[:count]:
        share = item.seconds / found.seconds if found.seconds else 0.0
        table.add_row(escape(_tail(item.region.name)), item.region.op, _products(item), f"{share:.1%}", item.by)
    return table


def _products(item: Bound) -> str:
    if not item.region.matrix:
        return "-"
    return "int8" if item.region.integer else "fp16"


def _verdict(half: Estimate, integer: Estimate) -> str:
    gain = half.seconds / integer.seconds if integer.seconds else 1.0
    if gain < _PAYS:
        return f"INT8 can hardly pay: {gain:.2f}x at best"
    left = sum(item.seconds for item in integer.bounds if not item.region.integer) / integer.seconds
    return f"INT8 can pay: {gain:.2f}x at best; {left:.0%} of that time is kernels without int8"


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", width=80)
    table.add_column(title, overflow="ellipsis", no_wrap=True, ratio=1)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _three(number: float) -> str:
    """Three digits, and all of them before the point."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _tail(name: str, width: int = 34) -> str:
    return name if len(name) <= width else f"…{name[1 - width :]}"
