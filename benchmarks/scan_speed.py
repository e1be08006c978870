"""Exported float state-space models against what the float rewrites, and a whole compile, make of them.

    python -m benchmarks.scan_speed [--models typeseg-mamba ...] [--lengths 256 2048] [--rounds 9] [--int8]

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

MODELS = ("typeseg-mamba", "mamba-lm", "mamba2-lm")


def feeds(session: Session, length: int) -> dict[str, Any]:
    """Seeded tokens, one row."""
    name = session.input_names[0]
    ids = np.random.default_rng(0).integers(0, 127, length)
    return {name: ids if name == "ids" else ids[None]}


def compare(sessions: dict[str, Session], length: int, rounds: int) -> list[tuple[str, float, float]]:
    """Name, median milliseconds, median speed-up over the first."""
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(rounds + 1):
        for name, session in sessions.items():
            given = feeds(session, length)
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
    given = parser.parse_args()
    print("| model | tokens | graph | ms | speed-up |\n| --- | --- | --- | --- | --- |")
    for model in given.models:
        folder = cache_folder() / model
        path = folder / "model.onnx"
        sessions = {"exported": Session(load_model(path), threads=given.threads)}
        sessions["float rewrites"] = Session(canonical_form(path, "ort-cpu")[0], threads=given.threads)
        if given.int8:
            options = CompileOptions(target="ort-cpu", calib=Path(folder / "calibration"), method="mse",
                                     verify=False)  # fmt: skip
            sessions["int8"] = Session(compile_model(path, options).model, threads=given.threads)
        for length in given.lengths:
            for name, milliseconds, ratio in compare(sessions, length, given.rounds):
                print(f"| {model} | {length} | {name} | {milliseconds:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
