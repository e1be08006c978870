"""models/SCORES.md: every entry in float32, compiled for ort-cpu, and under onnxruntime's quantizers.

    python -m models scores [--models A,B] [--quick] [--settings all|few]

Each quantizer runs as a process of its own, through the command that a user would type. What is done is kept in
scores/ of the entry's folder in the cache: a second call goes on, or only writes the table again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import models
from benchmarks import machine, process
from benchmarks.settings import SETTINGS, Setting
from models.assets import cache_folder
from models.fetch import write_text
from models.get import get
from models.scores_table import write_table
from models.scoring import data_kind
from qcompiler.commands.arguments import Parser
from qcompiler.errors import ExitCode, QcompileError, UsageError

ROOT = Path(__file__).resolve().parent.parent
LARGE = 200 << 20  # bytes of a model from which "all" settings of the other tool become "few"
GROUPS = ("static uint8", "dynamic")
OURS = "qcompile ort-cpu"
_TIMEOUT = 3600.0

Row = dict[str, Any]


def add_arguments(parser: Parser) -> None:
    """Of the verb `scores`."""
    parser.add_argument("--models", metavar="A,B", help="entries to measure (default: all); the table has all measured")
    parser.add_argument("--quick", action="store_true", help="small test sets, few settings: not for quoting")
    parser.add_argument("--settings", choices=("all", "few"), help="of onnxruntime's quantizers (default: all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the table (default: models/SCORES.md)")
    parser.add_argument("--date", help="date to print")
    parser.add_argument("--again", action="store_true", help="measure anew what is kept in the cache")


def run(args: argparse.Namespace) -> int:
    """Measure and write; status 1 where a file of ours failed."""
    quick = hasattr(args, "quick")
    names = args.models.split(",") if hasattr(args, "models") else list(models.TABLE)
    for name in names:
        if name not in models.TABLE:
            raise UsageError(f"unknown model {name!r}", hint=f"known: {', '.join(models.TABLE)}")
    out = getattr(args, "out", None) or (cache_folder() / "SCORES-quick.md" if quick else ROOT / "models" / "SCORES.md")
    found: dict[str, Row] = {}
    for name in names:
        board = Scoreboard(name, quick=quick, few=quick or getattr(args, "settings", "all") == "few")
        if hasattr(args, "again"):
            board.forget()
        board.measure()
        boards = [Scoreboard(name, quick=quick, few=False) for name in models.TABLE]
        found = {board.name: board.document for board in boards if board.document["rows"]}
        write_table(out, found, getattr(args, "date", time.strftime("%Y-%m-%d")), quick=quick)
    print(out)
    failed = any("error" in row and row["group"] in ("float", "ours") for d in found.values() for row in d["rows"])
    return ExitCode.GATE if failed else ExitCode.OK


class Scoreboard:
    """The rows of one entry, kept in cache/NAME/scores/.

    Args:
        few: Only the settings of onnxruntime's quantizers that the short benchmark takes.
    """

    def __init__(self, name: str, *, quick: bool, few: bool) -> None:
        self.name, self.quick, self.few = name, quick, few
        self.folder = cache_folder() / name / "scores"
        kind = data_kind().replace(" ", "-")
        self.file = self.folder / f"rows-{kind}{'-quick' if quick else ''}.json"
        empty: Row = {"data": data_kind(), "rows": []}
        self.document: Row = json.loads(self.file.read_text("utf-8")) if self.file.is_file() else empty

    def forget(self) -> None:
        """Drop what was measured."""
        self.document = {"data": data_kind(), "rows": []}
        shutil.rmtree(self.folder, ignore_errors=True)

    def measure(self) -> None:
        """Quantize with every setting that has no row yet, then score all new files at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            source = get(models.load(self.name), with_score=False) / "model.onnx"
        except (QcompileError, ModuleNotFoundError) as error:
            self._keep([{"variant": "float32", "group": "float", "error": str(error)}])
            return
        done = {row["variant"] for row in self.document["rows"] if "error" not in row}
        fresh = [row for row in self._quantized(source) if row["variant"] not in done]
        if "float32" not in done or any("error" not in row for row in fresh):
            fresh = self._scored(fresh)
        self._keep(fresh)

    def _quantized(self, source: Path) -> list[Row]:
        done = {row["variant"] for row in self.document["rows"] if "error" not in row}
        rows: list[Row] = []
        if OURS not in done:
            bundle = self.folder / "bundle"
            command = ["-m", "qcompiler", str(source), "--target", "ort-cpu", "--calib", str(self._calibration())]
            rows.append(self._made(OURS, "ours", bundle, [*command, "-o", str(bundle), "--force"]))
        missing = [item for item in self._settings(source) if item.name not in done]
        if missing:
            prepared = self.folder / "prepared.onnx"
            if not prepared.exists():
                self._say("preparation for onnxruntime's quantizers")
                command = ["-m", "benchmarks.baseline", "prepare", str(source), str(_partial(prepared))]
                if process.run(command, self.folder, _TIMEOUT).status == 0:
                    _partial(prepared).replace(prepared)
            origin = prepared if prepared.exists() else source
            for item in missing:
                out = self.folder / (item.name.replace(" ", "-").replace(",", "") + ".onnx")
                command = ["-m", "benchmarks.baseline", "quantize", str(origin), str(_partial(out))]
                command += ["--calib", str(self._calibration()), "--setting", item.name]
                rows.append(self._made(item.name, item.group, out, command))
        return rows

    def _settings(self, source: Path) -> Iterator[Setting]:
        size = sum(path.stat().st_size for path in source.parent.glob("model.onnx*"))
        few = self.few or size > LARGE
        return (item for item in SETTINGS if item.group in GROUPS and (item.quick or not few))

    def _calibration(self) -> Path:
        return self.folder.parent / "calibration"

    def _made(self, variant: str, group: str, out: Path, command: Sequence[str]) -> Row:
        row: Row = {"variant": variant, "group": group, "file": str(out)}
        if not out.exists():  # kept where an earlier call was cut before scoring
            self._say(variant)
            ended = process.run(command, self.folder, _TIMEOUT)
            row |= {"seconds": round(ended.seconds, 1), "peak_mib": round(ended.peak_mib)}
            if ended.status == 0 and _partial(out).exists():
                _partial(out).replace(out)
            if ended.status or not out.exists():
                said = ended.error or f"exit status {ended.status}"
                row["error"] = said.replace(f"{self.folder.parent}{os.sep}", "")  # no path of this machine in a table
                self._say(f"{variant} failed: {row['error']}")
        return row

    def _scored(self, rows: list[Row]) -> list[Row]:
        files = [row for row in rows if "error" not in row]
        command = ["-m", "models", "score", self.name, "--json", *(["--quick"] if self.quick else [])]
        self._say(f"scores of float32 and {len(files)} files")
        for row in files:
            command += ["--onnx", row["file"]]
        ended = process.run(command, self.folder, 4 * _TIMEOUT)
        float_row: Row = {"variant": "float32", "group": "float"}
        try:
            answers = json.loads(ended.out)["scores"]
        except (ValueError, KeyError):
            for row in (float_row, *files):
                said = ended.error or f"exit status {ended.status}"
                row["error"] = said.replace(f"{self.folder.parent}{os.sep}", "")  # no path of this machine in a table
            return [float_row, *rows]
        for row, answer in zip((float_row, *files), answers, strict=True):
            row |= {key: answer[key] for key in ("measures", "fidelity", "error") if key in answer}
            self._say(f"{row['variant']}: {row.get('error') or json.dumps(row['fidelity'])}")
        return [float_row, *rows]

    def _keep(self, rows: list[Row]) -> None:
        """Merge into the kept rows and drop the quantized files, which would fill the disk."""
        new = {row["variant"]: {key: row[key] for key in row if key != "file"} for row in rows}
        old = {row["variant"]: row for row in self.document["rows"]}
        self.document = {
            "data": data_kind(), "machine": machine.describe(), "rows": [*(old | new).values()]
        }  # fmt: skip
        write_text(self.file, json.dumps(self.document, indent=1) + "\n")
        for path in self.folder.iterdir():  # temporary files of the quantizers among them
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.startswith(("rows-", "prepared.onnx")):
                path.unlink()

    def _say(self, line: str) -> None:
        print(f"models: {self.name}: {line}"[:300], file=sys.stderr, flush=True)


def _partial(out: Path) -> Path:
    """Where a quantizer writes until it is done."""
    return out.with_name(f"partial-{out.name}")
