"""The Quamba recipe piece by piece, on the language models with a carried state: what each piece does to perplexity.

    python -m benchmarks.scan_recipe table [--models mamba-lm mamba2-lm] [--seeds 0 1 2]
    python -m benchmarks.scan_recipe percentiles
    python -m benchmarks.scan_recipe peaks [--plot docs/img/gated_peaks.png]

Static W8A8 of `ort-cpu` (scales of weights by channel, of activations by tensor, no zero points, nothing kept float by
measurement), scales from 32 windows of the training text that the seed chooses, scored on the held-out text. "naive" is
the exact maximum of every tensor; "percentile" clips the input of the scan at 99.99%; "rotation" is `--rotate gated`.
`peaks` gives max over root mean square of what out_proj reads, in the worst layer and in the middle one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from models import text_windows, typeseg_mamba
from models.assets import cache_folder
from models.state_space_lm import BATCH
from qcompiler.calibration.runner import calibrate
from qcompiler.calibration.thresholds import find_threshold
from qcompiler.emitter import EmitContext
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.quantize_weights import QuantizeWeights
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.recurrence.roles import TensorRole, tensor_role
from qcompiler.passes.rotate.gated_sites import gated_sites
from qcompiler.passes.rotate.rotate_gated import RotateGated
from qcompiler.passes.sites.explain import canonical_form
from qcompiler.passes.sites.records import Site
from qcompiler.pipeline import Pipeline
from qcompiler.registry import find_target, make_emitter
from qcompiler.session import Feeds, Session

TARGET = "ort-cpu"
TAKEN = 99.99
PERCENTILES = (100.0, 99.999, 99.99, 99.95, 99.9)


def windows(seed: int) -> list[Feeds]:
    """32 windows of 256 tokens of the training text."""
    rows = text_windows.windows(text_windows.ids_of("train"), 256)[:, :-1]
    rows = rows[np.random.default_rng(seed).choice(len(rows), 32, replace=False)]
    return [{"input_ids": rows[start : start + BATCH]} for start in range(0, len(rows), BATCH)]


class Recipe:
    """One model in canonical form, rotated or not, calibrated by one seed."""

    def __init__(self, model: str, seed: int, rotated: bool) -> None:
        self.source, _ = canonical_form(cache_folder() / model / "model.onnx", TARGET)
        if rotated:
            RotateGated().run(self.source)
        self.target = find_target(TARGET)
        self.sites = select_sites(self.source, self.target.placement)
        tensors = sorted(set(self.sites.sources.values()))
        peaks = dict.fromkeys(self.sites.outputs.values(), 1)
        self.table = calibrate(self.source, tensors, windows(seed), channel_axes=peaks, threads=1)

    def compiled(self, percentile: float) -> ir.Model:
        """The emitted graph with the scan's input clipped at this percentile, all else at its maximum."""
        values = {str(value.name): value for node in self.source.graph for value in node.outputs}
        thresholds = {
            name: find_threshold(item, "percentile", percentile=percentile).value
            if tensor_role(values.get(name)) is TensorRole.SCAN_INPUT
            else find_threshold(item, "minmax").value
            for name, item in self.table.tensors.items()
        }
        peaks = {name: item.peaks for name, item in self.table.channels.items()}
        plan = make_plan(self.source, self.target, self.sites, thresholds, channel_peaks=peaks)
        model, _ = Pipeline([QuantizeWeights(plan), InsertQdq(plan)]).run(self.source.clone())
        return make_emitter(self.target).legalize(model, EmitContext(self.source)).model


def scores(model: ir.Model, reference: Session | None, size: str) -> dict[str, float]:
    """Perplexity of both held-out texts, and KL to the float model."""
    session = Session(model, threads=1)
    run = None if reference is None else reference.run
    found = text_windows.evaluate(session.run, run, text_windows.held_out(size),
                                  lambda rows: {"input_ids": np.ascontiguousarray(rows)}, BATCH)  # fmt: skip
    measured = {name: item.point() for name, item in found.measures.items() if name.endswith("perplexity")}
    return {**measured, **{name: float(value) for name, value in found.fidelity.items()}}


def table(models: Sequence[str], seeds: Sequence[int], size: str) -> None:
    """Perplexity over float by piece of the recipe, mean of seeds with the least and the largest."""
    print("| model | recipe | novel | speeches | KL |\n| --- | --- | --- | --- | --- |")
    for name in models:
        reference = Session(canonical_form(cache_folder() / name / "model.onnx", TARGET)[0], threads=1)
        exact = scores(canonical_form(cache_folder() / name / "model.onnx", TARGET)[0], None, size)
        perplexities = f"{exact['novel_perplexity']:.2f} | {exact['speeches_perplexity']:.2f}"
        print(f"| {name} | float | {perplexities} | |", flush=True)
        found: dict[str, list[dict[str, float]]] = {}
        for seed in seeds:
            for rotated in (False, True):
                recipe = Recipe(name, seed, rotated)
                for percentile in (100.0, TAKEN):
                    words = [*(["percentile"] * (percentile < 100)), *(["rotation"] * rotated)]
                    made = scores(recipe.compiled(percentile), reference, size)
                    found.setdefault(" and ".join(words) or "naive", []).append(made)
        for word, runs in found.items():
            cells = [_over(runs, exact, f"{text}_perplexity") for text in ("novel", "speeches")]
            kl = [run["kl"] for run in runs]
            print(f"| {name} | {word} | {' | '.join(cells)} | {np.mean(kl):.4f} ({min(kl):.4f} to {max(kl):.4f}) |",
                  flush=True)  # fmt: skip


def _over(runs: Sequence[dict[str, float]], exact: dict[str, float], name: str) -> str:
    ratios = [100 * (run[name] / exact[name] - 1) for run in runs]
    return f"{np.mean(ratios):+.2f}% ({min(ratios):+.2f} to {max(ratios):+.2f})"


def percentiles(models: Sequence[str], size: str) -> None:
    """KL to float by the percentile of the scan's input, everything else as "rotation"."""
    print(f"| model | {' | '.join(f'{p:g}%' for p in PERCENTILES)} |\n|{' --- |' * (1 + len(PERCENTILES))}")
    for name in models:
        recipe = Recipe(name, 0, True)
        reference = Session(recipe.source, threads=1)
        found = [scores(recipe.compiled(percentile), reference, size)["kl"] for percentile in PERCENTILES]
        print(f"| {name} | {' | '.join(f'{kl:.5f}' for kl in found)} |", flush=True)


def peaks(models: Sequence[str], path: Path | None) -> None:
    """max over rms of what out_proj reads, as it is and rotated, on calibration data."""
    print("| model | as it is: worst, middle layer | rotated: worst, middle layer |\n| --- | --- | --- |")
    drawn: dict[str, list[list[float]]] = {}
    for name in models:
        source, _ = canonical_form(cache_folder() / name / "model.onnx", TARGET)
        sites = [site for site in gated_sites(source) if isinstance(site, Site)]
        turned = source.clone()
        RotateGated().run(turned)
        feeds = typeseg_mamba.calibration() if name == "typeseg-mamba" else windows(0)
        read = [str(_read_by(turned, str(site.readers[0].node.name)).name) for site in sites]
        drawn[name] = [_ratios(source, [site.name for site in sites], feeds), _ratios(turned, read, feeds)]
        cells = [f"{max(ratios):.0f}, {np.median(ratios):.0f}" for ratios in drawn[name]]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if path is not None:
        _draw(drawn, path)


def _read_by(model: ir.Model, name: str) -> ir.Value:
    value = next(node for node in model.graph if node.name == name).inputs[0]
    assert value is not None
    return value


def _ratios(model: ir.Model, tensors: Sequence[str], feeds: Sequence[Feeds]) -> list[float]:
    seen = calibrate(model, tensors, feeds, threads=1).tensors
    return [seen[name].absmax / float(np.sqrt(seen[name].mean_square)) for name in tensors]


def _draw(drawn: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(drawn), figsize=(3.2 * len(drawn), 2.6), sharey=True, squeeze=False)
    for axis, (name, (plain, turned)) in zip(axes[0], drawn.items(), strict=True):
        places = np.arange(len(plain))
        axis.bar(places - 0.2, plain, 0.4, label="as it is")
        axis.bar(places + 0.2, turned, 0.4, label="rotated")
        axis.set_title(name)
        axis.set_xlabel("layer")
        axis.set_yscale("log")
    axes[0][0].set_ylabel("max / rms of out_proj's input")
    axes[0][-1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "percentiles", "peaks"))
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", default="small", choices=tuple(text_windows.SIZES))
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    models = given.models or ["mamba-lm", "mamba2-lm", *(["typeseg-mamba"] if given.what == "peaks" else [])]
    if given.what == "table":
        table(models, given.seeds, given.size)
    elif given.what == "percentiles":
        percentiles(models[:1] if given.models is None else models, given.size)
    else:
        peaks(models, given.plot)


if __name__ == "__main__":
    main()
