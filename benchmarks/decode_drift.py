"""Thousands of decode steps with int8 states: how far logits drift from those of the float step, and whether it grows.

    python -m benchmarks.decode_drift [--models mamba-lm mamba2-lm] [--steps 2000] [--plot docs/img/decode_drift.png]

Held-out text, token by token, every graph with its own states from zero: the float step graph, the step graph compiled
with float states, and with `--states int8`. Given are the KL divergence of the float step's distribution from each
graph's, averaged over stretches, and the slope of a line through the errors of all steps but the first 100.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from models import text_windows
from models.assets import cache_folder
from models.carried_states import taken
from models.metrics import log_softmax
from qcompiler import CompileOptions, compile_model
from qcompiler.reading import load_model
from qcompiler.session import Session
from qcompiler.state_codes import with_float_states

STRETCHES = 4
SETTLED = 100
Curve = np.ndarray[Any, np.dtype[np.float64]]


def decode(session: Session, ids: np.ndarray[Any, Any], first: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Logits [T, vocabulary] of ids [T], one call a token."""
    states, found = first, []
    for token in ids:
        outputs = session.run({"input_ids": np.asarray([[token]]), **states})
        found.append(outputs["logits"].reshape(-1))
        states = taken(outputs)
    return np.stack(found)


def drift(model: str, target: str, steps: int, rotate: str) -> dict[str, Curve]:
    """Graph to the KL divergence of each step."""
    folder = cache_folder() / model
    source = load_model(folder / "step.onnx")
    ids = text_windows.ids_of("test_novel")[:steps]
    first: dict[str, Any] = {
        str(value.name): np.zeros([size if isinstance(size, int) else 1 for size in value.shape or ()], np.float32)
        for value in source.graph.inputs
        if value.name != "input_ids"
    }
    wanted = log_softmax(decode(Session(source, threads=1), ids, first))
    found = {}
    for states in ("float", "int8"):
        options = CompileOptions(target=target, calib=folder / "calibration_step", states=states, rotate=rotate,
                                 carrier="fp32", verify=False, build_check="off", threads=1)  # fmt: skip
        result = compile_model(folder / "step.onnx", options)
        emitted = with_float_states(result.host or result.model, result.plan.states)
        made = log_softmax(decode(Session(emitted, threads=1), ids, first))
        found[f"{states} states"] = (np.exp(wanted) * (wanted - made)).sum(-1)
    return found


def slope(curve: Curve) -> tuple[float, float]:
    """Growth of the error per 1,000 steps behind the first ones, and its standard error."""
    steps = np.arange(SETTLED, len(curve)) / 1000
    values = curve[SETTLED:]
    centred = steps - steps.mean()
    grows = float(centred @ values / (centred @ centred))
    rest = values - values.mean() - grows * centred
    return grows, float(np.sqrt(rest @ rest / (len(values) - 2) / (centred @ centred)))


def plot(curves: dict[str, dict[str, Curve]], path: Path) -> None:
    """Means over 50 steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(4.5 * len(curves), 3), sharey=True, squeeze=False)
    for axis, (model, found) in zip(axes[0], curves.items(), strict=True):
        for name, curve in found.items():
            means = curve[: len(curve) // 50 * 50].reshape(-1, 50).mean(1)
            axis.plot(np.arange(len(means)) * 50 + 25, means, label=name)
        axis.set_title(model)
        axis.set_xlabel("decode step")
        axis.set_yscale("log")
    axes[0][0].set_ylabel("KL to the float step, nats")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Print a table, and draw where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mamba-lm", "mamba2-lm"])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--target", default="ort-cpu")
    parser.add_argument("--rotate", default="gated")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    part = given.steps // STRETCHES
    heads = " | ".join(f"KL, steps {i * part} to {(i + 1) * part}" for i in range(STRETCHES))
    print(f"| model | states | {heads} | growth per 1,000 steps |\n|{' --- |' * (STRETCHES + 3)}")
    curves = {}
    for model in given.models:
        curves[model] = drift(model, given.target, given.steps, given.rotate)
        for name, curve in curves[model].items():
            cells = " | ".join(f"{curve[i * part : (i + 1) * part].mean():.4f}" for i in range(STRETCHES))
            grows, error = slope(curve)
            print(f"| {model} | {name} | {cells} | {grows:+.4f} ± {error:.4f} |", flush=True)
    if given.plot:
        plot(curves, given.plot)


if __name__ == "__main__":
    main()
