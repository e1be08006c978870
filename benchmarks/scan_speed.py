"""Exported float state-space models against what the float rewrites, and a whole compile, make of them.

    python -m benchmarks.scan_speed [--models typeseg-mamba ...] [--lengths 256 2048] [--rounds 9] [--int8] [--orin]

Language models are timed a decode step too, on step.onnx (length 1); --orin adds host.onnx of that target.

Each round runs every graph once, in turn, in one process: what else the machine does hits all of them alike. Given are
the median time of each and the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from models.assets import cache_folder
from qcompiler import CompileOptions, compile_model
from qcompiler.passes.sites.explain import canonical_form
from qcompiler.reading import load_model
from qcompiler.session import Session

STEP_ROUNDS = 30
"""Times as many rounds for a step, which takes a few milliseconds."""
MODELS = ("typeseg-mamba", "mamba-lm", "mamba2-lm")


def feeds(session: Session, length: int) -> dict[str, Any]:
    """Seeded tokens, one row."""
    name = session.input_names[0]
    ids = np.random.default_rng(0).integers(0, 127, length)
    return {name: ids if name == "ids" else ids[None]}


def step_feeds(folder: Path) -> dict[str, Any]:
    """One token and the states behind a text, one row."""
    with np.load(sorted((folder / "calibration_step").iterdir())[0]) as archive:
        return {name: archive[name][:1] for name in archive.files}


def compare(sessions: dict[str, Session], given: dict[str, Any], rounds: int) -> list[tuple[str, float, float]]:
    """Name, median milliseconds, median speed-up over the first."""
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(rounds + 1):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(given)
            if turn:  # the first is for warming up
                taken[name].append(time.perf_counter() - start)
    first = np.asarray(next(iter(taken.values())))
    return [(name, float(np.median(times)) * 1e3, float(np.median(first / np.asarray(times))))
            for name, times in taken.items()]  # fmt: skip


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--lengths", nargs="+", type=int, default=[256, 2048])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--int8", action="store_true", help="also a compile for ort-cpu (mse)")
    parser.add_argument("--orin", action="store_true", help="also host.onnx of a compile for orin (mse)")
    given = parser.parse_args()
    print("| model | tokens | graph | ms | speed-up |\n| --- | --- | --- | --- | --- |")
    for model in given.models:
        folder = cache_folder() / model
        sessions = graphs(folder / "model.onnx", folder / "calibration", given)
        for length in given.lengths:
            show(model, str(length), compare(sessions, feeds(sessions["exported"], length), given.rounds))
        if (folder / "step.onnx").is_file():
            sessions = graphs(folder / "step.onnx", folder / "calibration_step", given)
            show(model, "step", compare(sessions, step_feeds(folder), given.rounds * STEP_ROUNDS))


def graphs(path: Path, calibration: Path, given: argparse.Namespace) -> dict[str, Session]:
    """The exported graph first."""
    found = {"exported": Session(load_model(path), threads=given.threads)}
    found["float rewrites"] = Session(canonical_form(path, "ort-cpu")[0], threads=given.threads)
    targets = ["ort-cpu"] * given.int8 + ["orin"] * given.orin
    for target in targets:
        options = CompileOptions(target=target, calib=calibration, method="mse", verify=False, build_check="off")
        made = compile_model(path, options)
        name = "int8" if target == "ort-cpu" else "host.onnx of orin"
        found[name] = Session(made.host or made.model, threads=given.threads)
    return found


def show(model: str, tokens: str, rows: list[tuple[str, float, float]]) -> None:
    """Lines of the table."""
    for name, milliseconds, ratio in rows:
        print(f"| {model} | {tokens} | {name} | {milliseconds:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
