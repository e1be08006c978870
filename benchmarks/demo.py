"""Two real models through the real command, beside onnxruntime's own quantizers: `make demo`.

python -m benchmarks.demo [--out demo-out]
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models
from benchmarks import process
from benchmarks.bench import ModelBench, file_name
from benchmarks.machine import describe
from benchmarks.settings import setting

MODELS = ("paraphrase-minilm", "typeseg-mamba")
TOOLS = ("static u8s8, weights of 7 bits", "static s8s8, inputs only", "dynamic s8, weights of 7 bits", "dynamic u8")
SECONDS, THREADS = 4.0, (1,)


def show(rows: Sequence[dict[str, Any]], measure: str) -> None:
    """The rows of one model as a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=rows[0]["model"], title_justify="left")
    table.add_column("variant")
    for title in ("size MiB", measure, "ms", "over float32", "over best onnxruntime", "compile s"):
        table.add_column(title, justify="right")
    tools = [_milliseconds(row) for row in rows if row["group"].startswith(("static", "dynamic"))]
    best = min((value for value in tools if value), default=None)
    for row in rows:
        if "error" in row:
            table.add_row(row["variant"], f"failed: {row['error']}"[:60])
            continue
        taken = _milliseconds(row)
        table.add_row(
            row["variant"],
            f"{row['mib']:.1f}",
            f"{row['scores'][measure]:.4f}",
            f"{taken:.2f}" if taken else "-",
            f"{row['latency_1'].get('ratio', 1.0):.2f}x" if taken else "-",
            f"{best / taken:.2f}x" if taken and best and row["group"].startswith("ours") else "",
            f"{row['seconds']:.1f}" if "seconds" in row else "",
            style="bold" if row["group"].startswith("ours") else "",
        )
    Console(width=max(100, int(os.environ.get("COLUMNS", "110")))).print(table)


def _milliseconds(row: dict[str, Any]) -> float | None:
    found: float | None = row.get("latency_1", {}).get("ms")
    return found


def what_next(out: Path) -> str:
    """Paths to look at and commands to try."""
    first = out / MODELS[0]
    orin, calib = first / file_name("qcompile orin"), first / "calib"
    source = models.load(MODELS[0]).path()
    tool = shlex.quote(str(Path(sys.executable).with_name("qcompile")))
    lines = [
        f"Bundles are in {out}. In {orin}:",
        "  model.onnx       for TensorRT on Jetson Orin; build_engine.sh has the trtexec lines",
        "  host.onnx        the same plan for this machine",
        "  report.html      what was done, to look at in a browser; plan.json can be edited and passed back",
        "",
        "Try next:",
        f"  {tool} lint {orin / 'model.onnx'} --target orin",
        f"  {tool} verify {source} {orin / 'host.onnx'} --calib {calib} --min-cosine 0.98",
        f"  {tool} {source} --target ort-cpu --calib {calib} --min-cosine 0.99 -o demo-out/gated",
        "  make bench BENCH=--quick",
    ]
    return "\n".join(lines)


def main() -> int:
    """Entry point; status 1 where one of our compiles failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=process.ROOT / "demo-out")
    out: Path = parser.parse_args().out.resolve()
    start, failed = time.perf_counter(), False
    facts = describe()
    print(f"{facts['processor']}; integer instructions: {facts['integer instructions']}; {facts.get('note', '')}")
    for name in MODELS:
        bench = ModelBench(name, out / name, quick=True, settings=tuple(map(setting, TOOLS)), flags=())
        rows = bench.run("all", SECONDS, THREADS)
        show(rows, bench.measure)
        failed = failed or any("error" in row for row in rows if row["group"].startswith("ours"))
    print(what_next(out))
    print(f"{time.perf_counter() - start:.0f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
