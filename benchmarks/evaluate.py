"""Scores of one model file on a model's test set, as a process of its own.

python -m benchmarks.evaluate calibration NAME FOLDER
python -m benchmarks.evaluate scores NAME FILE --reference outputs.npz [--quick]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import models
from models.session import open_session
from models.zoo import Array, RealModel, Scores


def write_calibration(model: RealModel, folder: Path) -> int:
    """One .npz a batch, named in order; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    batches = model.calibration()
    for index, batch in enumerate(batches):
        np.savez(folder / f"{index:04d}.npz", **dict(batch))  # type: ignore[arg-type]
    return len(batches)


def scores(model: RealModel, file: Path, reference: Path, quick: bool) -> Scores:
    """Task scores and fidelity of `file`; its outputs become `reference` where that does not exist yet."""
    test = model.test_set(quick)
    running = open_session(file)
    outputs: list[Array] = [running.run([model.output], dict(batch))[0] for batch in test.batches]
    if not reference.exists():
        np.savez(reference, *outputs)
    kept = np.load(reference)
    return test.score(outputs) | test.fidelity(outputs, [kept[f"arr_{i}"] for i in range(len(outputs))])


def main() -> int:
    """Entry point: prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("calibration", "scores"))
    parser.add_argument("name", choices=tuple(models.TABLE))
    parser.add_argument("path", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    model = models.load(args.name)
    if args.action == "calibration":
        answer: Scores = {"batches": write_calibration(model, args.path)}
    else:
        answer = scores(model, args.path, args.reference, args.quick)
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # one line for the table; the traceback would be cut
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", file=sys.stderr)
        sys.exit(1)
