"""Peak memory of one model, in a process of its own: python -m qcompiler.bench.peak_memory MODEL FOLDER THREADS

FOLDER holds feeds.npz. Prints MiB above what the process took after importing onnxruntime, as JSON.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def _reset() -> None:
    """Forget the peak so far: Linux counts the parent's memory at the fork towards it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    unit = 1024 if sys.platform != "darwin" else 1024 * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main(words: list[str]) -> None:
    """Load, run twice, print."""
    with np.load(Path(words[1]) / "feeds.npz") as archive:
        feeds = {name: archive[name] for name in archive.files}
    _reset()
    before = _peak()
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(words[2])
    options.log_severity_level = 4
    session = ort.InferenceSession(words[0], options, providers=["CPUExecutionProvider"])
    for _ in range(2):
        session.run(None, {item.name: feeds[item.name] for item in session.get_inputs()})
    print(_peak() - before)


if __name__ == "__main__":
    main(sys.argv[1:])
