"""Layers on a terminal, those that lose most first, within 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from qcompiler.analysis.names import short_names
from qcompiler.sensitivity.result import Fidelity, Layer, LayerSensitivity
from qcompiler.show import console

_ROWS = 12
_NAME = 36
_LEGEND = (
    "alone: only this layer quantized; from here: this layer and all below it, those",
    "above in float; work: share of the multiply-adds, summed from the top",
)


def show_sensitivity(found: LayerSensitivity, kept: Sequence[Layer] = (), *, verbose: int = 0) -> None:
    """Print the table; `verbose` lists every layer."""
    out = console()
    for item in found.diagnostics:
        out.print(f"[bold red]{escape(str(item))}[/]", soft_wrap=True)
    what = "layers" if found.unit == "node" else "groups of layers"
    whole = found.all_quantized
    out.print(escape(
        f"{len(found.layers)} {what} at {found.bits} on {found.judged} samples; all quantized: {whole.sqnr:.1f} dB, "
        f"cosine {whole.cosine:.4f}{'' if whole.kl is None else f', KL {whole.kl:.2g}'}"
    ), soft_wrap=True)  # fmt: skip
    if found.rewrites:
        out.print(f"measured with {_rewrites(found.rewrites)}", soft_wrap=True)
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("most sensitive first", no_wrap=True, width=_NAME)
    for name in ("work", "alone dB", "cosine", "KL", "from here"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = found.layers if verbose else found.layers[:_ROWS]
    labels = short_names({layer.label for layer in shown}, _NAME - (4 if found.unit == "group" else 0))
    names, work = {layer.name for layer in kept}, 0.0
    for layer in shown:
        work += layer.share
        label = escape(labels[layer.label] + (f" x{len(layer.nodes)}" if len(layer.nodes) > 1 else ""))
        cells = [f"{work:.1%}", *_cells(layer.alone), f"{layer.cumulative.sqnr:.1f}"]
        table.add_row(f"[bold]{label}[/]" if layer.name in names else label, *cells)
    out.print(table)
    if len(shown) < len(found.layers):
        out.print(f"and {len(found.layers) - len(shown)} more (-v, --json)")
    for line in _LEGEND:
        out.print(line, style="dim")


def _rewrites(done: Mapping[str, Any]) -> str:
    words = [f"{'+'.join(done['rotate'])} rotated"] if "rotate" in done else []
    counted = {"equalize": "sites equalized", "rounding": "weights rounded on data", "softmax": "lookups"}
    return ", ".join([*words, *(f"{done[name]} {what}" for name, what in counted.items() if name in done)])


def _cells(item: Fidelity) -> tuple[str, str, str]:
    error = "" if item.error is None else f" ±{item.error:.1f}"
    return f"{item.sqnr:.1f}{error}", f"{item.cosine:.4f}", "" if item.kl is None else f"{item.kl:.1e}"
