"""Wall time and peak memory of a whole process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended.

    Attributes:
        status: Exit status; negative where a signal ended it.
        seconds: Wall time from start to end, the interpreter's start included.
        peak_mib: Largest resident set of the process, MiB.
        out: Its standard output.
        error: The last line it wrote to standard error.
    """

    status: int
    seconds: float
    peak_mib: float
    out: str
    error: str


def run(arguments: Sequence[str], folder: Path, timeout: float = 900.0) -> Finished:
    """Run `python ARGUMENTS` in `folder` and measure it; a process over `timeout` seconds is killed.

    This repository can be imported there. Some tools leave temporary files where they run, so give a scratch folder.

    The caller must be small: Linux counts the parent's memory at the fork towards the child's peak.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        child = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=out, stderr=errors)
        timer = threading.Timer(timeout, child.kill)
        timer.start()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)  # wait4 took what Popen would wait for
        out.seek(0)
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if line.strip()] or [""]
        unit = 1024 if sys.platform != "darwin" else 1024 * 1024
        late = f"killed after {timeout:.0f} s; " if seconds >= timeout else ""
        return Finished(child.returncode, seconds, usage.ru_maxrss / unit, out.read(), late + lines[-1])
