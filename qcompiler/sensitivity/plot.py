"""A figure of a measurement: what the worst layers lose alone, and what is left when these stay float."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from io import BytesIO
from itertools import accumulate
from typing import Any

import numpy as np

from qcompiler.analysis.names import short_names
from qcompiler.analysis.plots import COLOURS, STYLE


def plot_sensitivity(document: Mapping[str, Any], kind: str) -> bytes:
    """The file's content.

    Args:
        document: As `sensitivity_document`.
        kind: "png" or "svg".
    """
    import_module("matplotlib").use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")  # Any with and without the extra, so that mypy says the same
    layers = document["layers"]
    with pyplot.rc_context(STYLE):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8))
        _alone(left, layers)
        _cumulative(right, layers)
        figure.suptitle(f"{document['model']} at {document['bits']}, {document['judged_samples']} samples")
        content = BytesIO()
        metadata = {"Software": None} if kind == "png" else {"Date": None}
        figure.savefig(content, format=kind, dpi=110, metadata=metadata)
        pyplot.close(figure)
    return content.getvalue()


def _alone(axis: Any, layers: list[dict[str, Any]]) -> None:
    """A bar for each of the worst layers, the most sensitive on top."""
    shown = layers[:25][::-1]
    labels = short_names({layer["label"] for layer in shown}, 30)
    colours = [COLOURS[1] if layer["kept"] else COLOURS[0] for layer in shown]
    errors = [layer["alone"]["sqnr_error"] or 0.0 for layer in shown]
    axis.barh(range(len(shown)), [layer["alone"]["sqnr"] for layer in shown], color=colours, xerr=errors,
              error_kw={"elinewidth": 1, "ecolor": "0.35"})  # fmt: skip
    axis.set_yticks(range(len(shown)), [labels[layer["label"]] for layer in shown], fontsize=7)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("SQNR of the outputs with this layer alone, dB")
    axis.set_title("most sensitive first" + (f", {len(shown)} of {len(layers)}" if len(shown) < len(layers) else ""))


def _cumulative(axis: Any, layers: list[dict[str, Any]]) -> None:
    """SQNR against the share of the work that is left as it was."""
    kept = [0.0, *accumulate(layer["share"] for layer in layers)][:-1]
    levels = np.array([layer["cumulative"]["sqnr"] for layer in layers])
    axis.step(100 * np.array(kept), levels, where="post", color=COLOURS[0], marker="o", markersize=3)
    axis.set_xlabel("most sensitive layers in float, % of the multiply-adds")
    axis.set_ylabel("SQNR of the outputs, dB")
    axis.set_title("all other layers quantized")
