"""Figures of an analysis, as PNG and SVG: channels, kurtosis, ranges against samples, sets against draws.

Colours are those of Okabe and Ito, told apart by people of any colour vision; shapes differ as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.analysis.names import short_names
from qcompiler.analysis.set_spread import IRRELEVANT

Document = Mapping[str, Any]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WORST = 4
STYLE = {
    "font.size": 10, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.3, "legend.frameon": False, "figure.constrained_layout.use": True, "svg.hashsalt": "qcompile",
}  # fmt: skip


def write_plots(document: Document, folder: Path) -> list[str]:
    """Write every figure that the analysis has data for; names without their endings."""
    import_module("matplotlib").use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")  # Any with and without the extra, so that mypy says the same
    figures: dict[str, Callable[[Document, Any], Any]] = {
        "channels": channels, "kurtosis": kurtosis, "ranges": ranges, "sets": sets,
    }  # fmt: skip
    written = []
    with pyplot.rc_context(STYLE):
        for name, draw in figures.items():
            figure = draw(document, pyplot)
            if figure is None:
                continue
            figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            pyplot.close(figure)
            written.append(name)
    return written


def channels(document: Document, pyplot: Any) -> Any:
    """absmax of each channel of the worst activations, sorted, with the median and the bound of outliers."""
    tensors = _first_set(document)["tensors"]
    worst = sorted((name for name in tensors if tensors[name]["channels"]), key=lambda name: -tensors[name]["lost_db"])
    if not worst:
        return None
    worst = worst[:WORST]
    columns = min(2, len(worst))
    rows = -(-len(worst) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(5 * columns, 2.9 * rows), squeeze=False)
    for axis in axes.flat[len(worst) :]:
        axis.set_visible(False)
    labels = short_names(worst, 44)
    for axis, name in zip(axes.flat, worst, strict=False):
        peaks = np.sort(np.maximum(tensors[name]["channels"]["absmax"], 1e-12))[::-1]
        median = float(np.median(peaks))
        axis.plot(np.arange(1, len(peaks) + 1), peaks, color=COLOURS[0], linewidth=2)
        axis.axhline(median, color="0.35", linestyle="--", linewidth=1)
        axis.axhline(6 * median, color=COLOURS[1], linestyle=":", linewidth=1.6)
        _plain_log(axis.xaxis, (1,))
        _plain_log(axis.yaxis, (1, 2, 5))
        axis.set_ylim(max(peaks[-1], median / 30) * 0.8, max(peaks[0], 6 * median) * 1.6)
        axis.annotate("median", (1, median), ha="left", va="bottom", fontsize=9, color="0.35")
        axis.annotate("6 x median", (len(peaks), 6 * median), ha="right", va="bottom", fontsize=9, color=COLOURS[1])
        axis.set_title(f"{labels[name]}\n{len(tensors[name]['outlier_channels'])} of {len(peaks)} are outliers")
        axis.set_xlabel("channels, largest first")
        axis.set_ylabel("largest |x|")
    return figure


def kurtosis(document: Document, pyplot: Any) -> Any:
    """Kurtosis of each activation in the order of the graph, one series a set."""
    figure, axis = pyplot.subplots(figsize=(9, 4))
    names = list(_first_set(document)["tensors"])
    for index, (label, found) in enumerate(document["sets"].items()):
        values = [found["tensors"][name]["kurtosis"] if name in found["tensors"] else np.nan for name in names]
        axis.plot(range(1, len(names) + 1), np.maximum(values, 0.5), label=label, linewidth=1.1, markersize=4.5,
                  color=COLOURS[index % len(COLOURS)], marker=MARKERS[index % len(MARKERS)])  # fmt: skip
    axis.axhline(3, color="0.35", linestyle="--", linewidth=1)
    axis.annotate("Gaussian", (1.0, 3), xytext=(0, -4), textcoords="offset points", va="top", fontsize=9, color="0.35")
    first = [_first_set(document)["tensors"][name]["kurtosis"] for name in names]
    labels, place = short_names(names, 38), int(np.argmax(first))
    axis.annotate(labels[names[place]], (place + 1, first[place]), xytext=(10, 0), textcoords="offset points",
                  fontsize=9, va="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    _plain_log(axis.yaxis, (1,))
    axis.margins(y=0.12)
    axis.set_xlabel("quantized activations in the order of the graph")
    axis.set_ylabel("kurtosis")
    axis.legend(ncols=min(6, len(document["sets"])), loc="upper center", bbox_to_anchor=(0.5, 1.16))
    return figure


def ranges(document: Document, pyplot: Any) -> Any:
    """Chosen range and SQNR against the number of samples, one series a rule, bars from draw to draw."""
    rules = document["fidelity"]["rules"]
    if not rules:
        return None
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8))
    for index, (rule, item) in enumerate(rules.items()):
        sizes = [int(size) for size in item["range_by_size"]]
        place = np.asarray(sizes) * 1.06 ** (index - (len(rules) - 1) / 2)  # beside one another
        style = {"color": COLOURS[index], "marker": MARKERS[index], "label": rule, "capsize": 3, "linewidth": 1.4}
        low, mean, high = np.array(list(item["range_by_size"].values())).T
        left.errorbar(place, mean, (mean - low, high - mean), **style)
        draws = [np.asarray(values) for values in item["sqnr_by_size"].values()]
        middle = np.array([values.mean() for values in draws])
        spread = ([m - v.min() for m, v in zip(middle, draws, strict=True)],
                  [v.max() - m for m, v in zip(middle, draws, strict=True)])  # fmt: skip
        right.errorbar(place, middle, spread, **style)
    for axis, title in ((left, "range / range at most samples"), (right, "SQNR of the outputs, dB")):
        axis.set_xscale("log")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.set_xlabel("calibration samples")
        axis.set_ylabel(title)
    left.axhline(1, color="0.35", linestyle="--", linewidth=1)
    left.legend()
    return figure


def sets(document: Document, pyplot: Any) -> Any:
    """SQNR of every draw of every set, one panel a rule; S in the title."""
    rules = document["fidelity"]["rules"]
    names = list(document["sets"])
    if not rules or len(names) < 2:
        return None
    figure, axes = pyplot.subplots(1, len(rules), figsize=(1.6 + 2.9 * len(rules), 2.0 + 0.42 * len(names)),
                                   sharey=True, squeeze=False)  # fmt: skip
    everything = {rule: np.concatenate([item["sqnr"][name] for name in names]) for rule, item in rules.items()}
    span = 1.1 * max(float(np.ptp(values)) for values in everything.values())  # one scale: spreads compare by eye
    for axis, (rule, item) in zip(axes.flat, rules.items(), strict=True):
        for row, name in enumerate(names):
            values = np.asarray(item["sqnr"][name])
            colour, marker = COLOURS[row % len(COLOURS)], MARKERS[row % len(MARKERS)]
            axis.plot(values, np.full(len(values), row), marker, color=colour, alpha=0.65, markersize=6, clip_on=False)
            axis.plot(values.mean(), row, "|", color="black", markersize=16, markeredgewidth=1.8)
        verdict = "the set matters" if float(item["S"]) > IRRELEVANT else "the set does not matter"
        axis.set_title(f"{rule}\nS = {float(item['S']):.1f}: {verdict}")
        axis.set_xlabel("SQNR, dB")
        middle = (everything[rule].min() + everything[rule].max()) / 2
        axis.set_xlim(middle - span / 2, middle + span / 2)
    axes.flat[0].set_yticks(range(len(names)), names)
    axes.flat[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel("marks: draws of one set; bars: their means", fontsize=9)
    return figure


def _plain_log(axis: Any, digits: tuple[int, ...]) -> None:
    """A logarithmic axis with numbers as people write them, at these leading digits of each decade."""
    ticker: Any = import_module("matplotlib.ticker")
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(ticker.LogLocator(subs=digits))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def _first_set(document: Document) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(iter(document["sets"].values()))
    return found
