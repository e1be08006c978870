"""Latency of several model files in turns, so that noise strikes all alike; memory each in a process of its own.

A round runs every session once, in a new order. The process keeps to as many processors as it has threads.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from qcompiler.errors import ModelError
from qcompiler.session import Feeds

MIN_ROUNDS: Final = 10
WARM_UP: Final = 3


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one file over all rounds.

    Attributes:
        speed: Median over the rounds of the last file's time over this one's: 2 is twice as fast.
        peak_mib: Largest memory of a process that loads and runs it, without what Python and onnxruntime take.
    """

    file: str
    rounds: int
    first: float
    median: float
    p90: float
    p99: float
    speed: float
    peak_mib: float

    @property
    def per_second(self) -> float:
        """Runs a second at the median."""
        return 1e3 / self.median


def measure(files: Sequence[Path], feeds: Sequence[Feeds], *, threads: int, seconds: float) -> list[Timing]:
    """Timings in the order of `files`; the last file is what the others' speed is told against.

    Args:
        feeds: The inputs of each file.

    Raises:
        ModelError: onnxruntime refuses a file, or it fails on the feeds.
    """
    with pinned(threads):
        times = _rounds([_open(path, threads) for path in files], files, feeds, seconds)
    memory = [peak_memory(path, own, threads) for path, own in zip(files, feeds, strict=True)]
    found = []
    for path, (first, *taken), peak in zip(files, times, memory, strict=True):
        ordered = sorted(taken)
        speed = statistics.median(other / own for other, own in zip(times[-1][1:], taken, strict=True))
        median, p90, p99 = statistics.median(taken), _rank(ordered, 90), _rank(ordered, 99)
        found.append(Timing(str(path), len(taken), first, median, p90, p99, speed, peak))
    return found


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Keep this process on its last `threads` processors for a while, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[-threads:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def peak_memory(path: Path, feeds: Feeds, threads: int) -> float:
    """MiB that loading and running the file adds to a process that has imported onnxruntime; NaN where unknown."""
    with tempfile.TemporaryDirectory() as folder:
        arrays: dict[str, Any] = dict(feeds)
        np.savez(Path(folder) / "feeds.npz", **arrays)
        words = [sys.executable, "-m", "qcompiler.bench.peak_memory", str(path.resolve()), folder, str(threads)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    return float(json.loads(done.stdout)) if done.returncode == 0 else float("nan")


def _open(path: Path, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")  # idle threads would slow the other sessions
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many unrelated types
        raise ModelError(f"onnxruntime refuses it: {_first_line(error)}", where=str(path)) from error


def _rounds(
    sessions: Sequence[Any], files: Sequence[Path], feeds: Sequence[Feeds], seconds: float
) -> list[list[float]]:
    wanted = [
        {item.name: own[item.name] for item in session.get_inputs()}
        for session, own in zip(sessions, feeds, strict=True)
    ]
    times: list[list[float]] = [[] for _ in sessions]
    order, rng, start = list(range(len(sessions))), random.Random(0), time.perf_counter()
    count = 0
    while count < MIN_ROUNDS + WARM_UP or time.perf_counter() - start < seconds:
        rng.shuffle(order)
        for index in order:
            begin = time.perf_counter()
            try:
                sessions[index].run(None, wanted[index])
            except Exception as error:  # onnxruntime raises many unrelated types
                raise ModelError(f"fails on the inputs: {_first_line(error)}", where=str(files[index])) from error
            taken = (time.perf_counter() - begin) * 1e3
            if count == 0 or count >= WARM_UP:
                times[index].append(taken)
        count += 1
    return times


def _rank(ordered: Sequence[float], share: int) -> float:
    return ordered[max(0, -(-share * len(ordered) // 100) - 1)]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
