"""The figure of docs/softmax_tables.md: where 16 levels lie, and a real attention histogram."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import models
from qcompiler.lookup import Levels
from qcompiler.passes.softmax.decide import gather_rows
from qcompiler.passes.softmax.level_quantizers import quantizer_of
from qcompiler.passes.softmax.probabilities import probabilities

MODEL, LAYER = "vit-cifar10", 3
SHOWN = {
    "uniform": Levels("uniform", 4, 1.0), "log2": Levels("log2", 4, 1.0), "log-sqrt2": Levels("log_sqrt2", 4, 1.0),
    "tan, centre 1/2": Levels("tan", 4, 1.0, 0.85 * np.pi, 0.5),
    "tan, centre 0.8": Levels("tan", 4, 1.0, 0.9 * np.pi / 1.6, 0.8),
}  # fmt: skip
COLOURS = ("#4c72b0", "#8c8c8c", "#555555", "#dd8452", "#c44e52")


def draw(file: Path) -> None:
    """Write the figure; matplotlib comes with the extra `plots`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from benchmarks.softmax_clipping import first_row
    from benchmarks.softmax_tables import compiled

    model = models.load(MODEL)
    result = compiled(model, 0)
    place = probabilities(result.reference)[0][LAYER]
    feeds = [first_row(feed) for feed in model.calibration()][:8]
    rows = gather_rows(result.reference, [place], feeds)[place]
    values = np.concatenate([item.rows.reshape(-1) for head in rows.heads for item in head])
    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(7.2, 5.2), height_ratios=(1.1, 1), sharex=True)
    for index, (name, levels) in enumerate(SHOWN.items()):
        upper.plot(quantizer_of(levels).levels(), np.full(16, -index), "|", color=COLOURS[index], markersize=13,
                   markeredgewidth=1.6)  # fmt: skip
        upper.annotate(name, (1.02, -index), va="center", color=COLOURS[index], annotation_clip=False)
    upper.set_yticks([])
    upper.set_ylim(-len(SHOWN) + 0.4, 0.6)
    upper.set_title("16 levels between 0 and the largest probability")
    top = float(values.max())
    lower.hist(values / top, bins=60, color=COLOURS[0], log=True)
    lower.set_title(f"probabilities of {place.layer} of {MODEL} ({values.size} values, largest {top:.2f})", fontsize=10)
    lower.set_xlabel("share of the largest probability")
    lower.set_ylabel("count (log)")
    for axis in (upper, lower):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100, metadata={"Software": None})
    pyplot.close(figure)
