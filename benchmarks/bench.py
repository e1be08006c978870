"""qcompile against onnxruntime's own quantizers on six real models, side by side in one run.

    python -m benchmarks.bench [--models minilm,pp-ocr] [--quick] [--only ours] [--date 2026-01-31]

Every compile is a whole process, timed from start to end with its peak memory. Latencies are taken in turns in one
process per model and thread count. Results go to benchmarks/RESULTS.md and results.json; with --quick or a subset of
models to out/bench/ alone. Labelled data is used where QCOMPILE_DATA names a folder; see models/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models
from benchmarks import process, table
from benchmarks.machine import describe
from benchmarks.settings import SETTINGS, Setting

OUT = process.ROOT / "out" / "bench"
COMPILE_ONLY = ("--no-verify", "--build-check", "off")  # what the other tools do not do is not timed either
OURS = (
    ("qcompile ort-cpu", "ort-cpu", "ours", ()),
    ("qcompile ort-cpu, full search", "ort-cpu", "ours", ("--search", "full", "--float-share", "0.2")),
    ("qcompile ort-cpu, equalize", "ort-cpu", "ours", ("--equalize", "auto")),
    ("qcompile ort-cpu, not equalized", "ort-cpu", "ours", ("--equalize", "none")),
    ("qcompile orin", "orin", "ours TensorRT", ()),
    ("qcompile orin, equalize", "orin", "ours TensorRT", ("--equalize", "auto")),
    ("qcompile orin, not equalized", "orin", "ours TensorRT", ("--equalize", "none")),
)
"""Name, target, group and flags of our own variants; the first is the command at its defaults."""
ONLY_FOR = {
    "full search": frozenset({"pp-ocr"}), "equalize": frozenset({"pp-ocr"}),
    "not equalized": frozenset({"minilm", "paraphrase-minilm"}),
}  # fmt: skip
"""Models that are also shown with other than the defaults, by the last words of the variant: where it changes
something. The defaults equalize both MiniLMs."""
Row = dict[str, Any]


def file_name(variant: str) -> str:
    """What the files of a variant are called: "qcompile orin, equalize" is qcompile-orin-equalize."""
    return variant.replace(" ", "-").replace(",", "")


class ModelBench:
    """The variants of one model: each a row; a failure is noted in its row and nowhere else.

    Args:
        folder: Emptied and filled with the variants' files.
        quick: Smaller test sets, and of `settings` those for the short form.
        settings: How onnxruntime's quantizers are called.
        flags: Options of the qcompile command, besides model, target, calibration data and output.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        quick: bool,
        settings: Sequence[Setting] = SETTINGS,
        flags: Sequence[str] = COMPILE_ONLY,
    ) -> None:
        self.settings = [item for item in settings if item.quick or not quick]
        self.name, self.folder, self.quick, self.flags = name, folder.resolve(), quick, tuple(flags)
        self.rows: list[Row] = []
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "calib").mkdir(parents=True)

    @property
    def measure(self) -> str:
        """The score that ranks variants of this model."""
        return models.load(self.name).headlines[0]

    def run(self, only: str, seconds: float, threads: tuple[int, ...]) -> list[Row]:
        """All rows, the float model first."""
        model = models.load(self.name)
        made = self._run(["-m", "benchmarks.evaluate", "calibration", self.name, str(self.folder / "calib")])
        if made.status:
            raise RuntimeError(f"no calibration data: {made.error}")
        source = model.path()
        self._add("float32", "float", source)
        if only != "ours":
            self._baselines(source)
        if only != "baselines":
            self._ours(source)
        self._scores()
        self._latency(seconds, threads)
        return self.rows

    def _run(self, arguments: Sequence[str]) -> process.Finished:
        return process.run(arguments, self.folder)

    def _add(self, variant: str, group: str, file: Path, ended: process.Finished | None = None, **more: Any) -> None:
        row: Row = {"model": self.name, "variant": variant, "group": group, "file": str(file), **more}
        if ended is not None:
            row |= {"seconds": ended.seconds, "peak_mib": ended.peak_mib}
            if ended.status:
                row["error"] = ended.error or f"exit status {ended.status}"
        if "error" not in row and not file.exists():
            row["error"] = "no file was written"
        if "error" not in row:
            row["mib"] = file.stat().st_size / 2**20
        self.rows.append(row)
        spent = f"{row['seconds']:6.1f} s {row['peak_mib']:6.0f} MiB" if ended else ""
        say(f"{self.name:<18} {variant:<38} {spent} {row.get('error', '')}")

    def _baselines(self, source: Path) -> None:
        prepared = self.folder / "prepared.onnx"
        ended = self._run(["-m", "benchmarks.baseline", "prepare", str(source), str(prepared)])
        note = ended.out.strip() if ended.status == 0 else f"preparation failed: {ended.error}"
        origin = prepared if ended.status == 0 else source
        for setting in self.settings:
            file = self.folder / (file_name(setting.name) + ".onnx")
            command = ["-m", "benchmarks.baseline", "quantize", str(origin), str(file)]
            ended = self._run([*command, "--calib", str(self.folder / "calib"), "--setting", setting.name])
            self._add(setting.name, setting.group, file, ended, prepared=note, ask_nvidia=setting.ask_nvidia)

    def _ours(self, source: Path) -> None:
        for variant, target, group, flags in OURS:
            if flags and self.name not in ONLY_FOR[variant.rpartition(", ")[2]]:
                continue
            bundle = self.folder / file_name(variant)
            command = ["-m", "qcompiler", str(source), "--target", target, "--calib", str(self.folder / "calib")]
            ended = self._run([*command, "-o", str(bundle), "--force", *flags, *self.flags])
            self._add(variant, group, bundle / "model.onnx", ended, ask_nvidia=target == "orin")
            if target == "orin":
                self._add(f"{variant}, host.onnx", "ours", bundle / "host.onnx")

    def _scores(self) -> None:
        reference = self.folder / "reference.npz"
        for row in self.rows:
            if "error" in row:
                continue
            command = ["-m", "benchmarks.evaluate", "scores", self.name, row["file"], "--reference", str(reference)]
            ended = self._run([*command, *(["--quick"] if self.quick else [])])
            if ended.status:
                row["error"] = f"onnxruntime: {ended.error}"
            else:
                row["scores"] = json.loads(ended.out.splitlines()[-1])
            say(f"{self.name:<18} {row['variant']:<38} {row.get('error') or table.scores(row)}")

    def _latency(self, seconds: float, threads: tuple[int, ...]) -> None:
        # The graph for TensorRT is run here for its accuracy alone: host.onnx is what onnxruntime is timed on.
        rows = [row for row in self.rows if "error" not in row and row["group"] != "ours TensorRT"]
        for count in threads:
            command = ["-m", "benchmarks.latency", "--model", self.name, "--threads", str(count)]
            ended = self._run([*command, "--seconds", str(seconds), *(row["file"] for row in rows)])
            if ended.status:
                say(f"{self.name}: latency with {count} threads failed: {ended.error}")
                continue
            for row, answer in zip(rows, json.loads(ended.out.splitlines()[-1]), strict=True):
                row[f"latency_{count}"] = answer
        for row in rows:
            say(f"{self.name:<18} {row['variant']:<38} {table.latency(row, threads)}")

    def ask_nvidia(self) -> None:
        """Note the verdict of NVIDIA's parser and builder in the rows that want one."""
        from qcompiler.backends.tensorrt.build_check import check_file

        for row in self.rows:
            file = Path(row["file"])
            if not (row["group"] == "float" or row.get("ask_nvidia")) or not file.exists():
                continue
            asked = self.folder / "asked.onnx"
            ended = self._run(["-m", "benchmarks.profiled", self.name, str(file), str(asked)])
            answer = dict(check_file(file if ended.status else asked, timeout=300.0))
            row["nvidia"] = answer
            say(f"{self.name:<18} {row['variant']:<38} {answer['verdict']} {' '.join(answer['messages'])[:120]}")


def say(line: str) -> None:
    """Progress goes to standard error, results to files."""
    print(line.rstrip(), file=sys.stderr, flush=True)


def main() -> int:
    """Entry point; status 1 where a model of ours failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(models.BENCHMARKED), help="comma-separated names (default: six)")
    parser.add_argument("--quick", action="store_true", help="fewer settings, smaller test sets, about 5 minutes")
    parser.add_argument("--settings", choices=("all", "few"), default="all", help="few: half of the other tool's")
    parser.add_argument("--only", choices=("all", "ours", "baselines"), default="all")
    parser.add_argument("--seconds", type=float, default=None, help="of latency measurement per model and thread count")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="date to print in the results")
    parser.add_argument("--out", type=Path, default=None, help="folder of RESULTS.md and results.json")
    args = parser.parse_args()
    names = [name for name in args.models.split(",") if name]
    for name in names:
        if name not in models.TABLE:
            parser.error(f"unknown model {name!r}; known: {', '.join(models.TABLE)}")
    complete = not args.quick and args.only == "all" and set(names) == set(models.BENCHMARKED)
    out = args.out or (process.ROOT / "benchmarks" if complete else OUT)
    threads = tuple(count for count in (1, 2) if count <= (os.cpu_count() or 1))
    begin, rows = time.perf_counter(), []
    facts = {"date": args.date, **describe()}
    facts["data"] = (
        "labelled sets of QCOMPILE_DATA" if os.environ.get("QCOMPILE_DATA") else "Python's own files, renders"
    )
    for name in names:
        settings = [item for item in SETTINGS if item.quick or args.settings == "all"]
        bench = ModelBench(name, OUT / name, quick=args.quick, settings=settings)
        try:
            bench.run(args.only, args.seconds or (6.0 if args.quick else 20.0), threads)
            bench.ask_nvidia()
        except Exception as error:
            say(f"{name}: {type(error).__name__}: {error}")
            bench.rows.append({"model": name, "variant": "all", "group": "ours", "error": str(error)})
        rows.extend(bench.rows)
        facts["minutes"] = f"{(time.perf_counter() - begin) / 60:.1f}"
        table.write(out, facts, rows, threads, quick=args.quick)
    say(f"wrote {out / 'RESULTS.md'} and results.json in {facts['minutes']} minutes")
    return int(any("error" in row and row["group"].startswith("ours") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
