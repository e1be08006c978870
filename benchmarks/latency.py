"""Latency of several model files in one process, in turns, so that noise strikes all of them alike.

python -m benchmarks.latency --model NAME --threads 1 --seconds 20 FILE...
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models
from models.zoo import Feeds

MIN_ROUNDS, MAX_ROUNDS, WARM_UP = 5, 400, 2


def session(path: Path, threads: int) -> Any:
    """An onnxruntime session that does not burn processor time between runs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def pin(threads: int) -> None:
    """Keep this process on its last `threads` processors, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def measure(files: Sequence[Path], feeds: Feeds, threads: int, seconds: float) -> list[dict[str, Any]]:
    """Median milliseconds of each file, and the median over rounds of its speed over the first file's.

    A round runs every session once, in a new order; rounds go on for `seconds`.
    """
    sessions: dict[int, Any] = {}
    answers: list[dict[str, Any]] = [{} for _ in files]
    for index, file in enumerate(files):
        try:
            sessions[index] = session(file, threads)
            for _ in range(WARM_UP):
                sessions[index].run(None, dict(feeds))
        except Exception as error:
            sessions.pop(index, None)
            answers[index] = {"error": str(error).splitlines()[0][:200]}
    times: dict[int, list[float]] = {index: [] for index in sessions}
    order, rng, start = list(sessions), random.Random(0), time.perf_counter()
    for count in range(MAX_ROUNDS):
        if count >= MIN_ROUNDS and time.perf_counter() - start > seconds:
            break
        rng.shuffle(order)
        for index in order:
            begin = time.perf_counter()
            sessions[index].run(None, dict(feeds))
            times[index].append((time.perf_counter() - begin) * 1e3)
    for index, taken in times.items():
        answers[index] = {"ms": statistics.median(taken), "rounds": len(taken)}
        if 0 in times:
            answers[index]["ratio"] = statistics.median(a / b for a, b in zip(times[0], taken, strict=True))
    return answers


def main() -> int:
    """Entry point: prints a JSON list, one entry a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    feeds = models.load(args.model).timing()
    pin(args.threads)
    print(json.dumps(measure(args.files, feeds, args.threads, args.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
