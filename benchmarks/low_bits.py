"""Methods against outliers by bits by model: what is left of each model's scores at 8, 6 and 4 bits.

    python -m benchmarks.low_bits --models minilm,vit-cifar10 --bits w8a8,w6a6 --equalize none,smooth --seeds 0,1,2
    python -m benchmarks.low_bits --models minilm --bits w6a6 --set 'smooth and bias=--equalize smooth --passes +x'

A method is a word of --equalize, or a --set NAME=ARGUMENTS of `qcompile`. All quantize the same nodes (--float-share 0
unless a set says otherwise). Seed 0 calibrates on the entry's calibration batches; any other on a random three quarters
of them, and is passed on as --seed. Each compile and each scoring is a process of its own, through the commands that a
user types. Rows are kept in OUT/rows.json: a second call goes on, or only writes OUT/table.md again.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
from benchmarks import machine, process
from benchmarks.low_bits_table import low_bits_table
from models.get import get

TIMEOUT = 3600.0
SHARE = 0.75
"""Of the calibration batches that a seed other than 0 draws."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One compile; `key` tells it from all others."""

    model: str
    bits: str
    method: str
    arguments: tuple[str, ...]
    seed: int
    target: str
    quick: bool

    @property
    def key(self) -> dict[str, Any]:
        """What the row of this case begins with."""
        return {
            "model": self.model, "bits": self.bits, "method": self.method, "arguments": list(self.arguments),
            "seed": self.seed, "target": self.target, "quick": self.quick,
        }  # fmt: skip


def methods(words: Sequence[str], sets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Name to arguments of the compiler; ValueError for a set without a name."""
    found: dict[str, tuple[str, ...]] = {word: ("--equalize", word) for word in words}
    for item in sets:
        name, equals, arguments = item.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"--set {item!r}: write NAME=ARGUMENTS")
        found[name.strip()] = tuple(shlex.split(arguments))
    return found


def draw(source: Path, seed: int, folder: Path) -> Path:
    """Calibration batches of a seed: `source` itself for 0, else links to `SHARE` of its files."""
    if seed == 0:
        return source
    files = sorted(source.glob("*.npz"))
    chosen = sorted(random.Random(seed).sample(files, max(1, round(SHARE * len(files)))))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in chosen:
        (folder / file.name).symlink_to(file.resolve())
    return folder


def compile_command(case: Case, model: Path, calibration: Path, bundle: Path) -> list[str]:
    """`python` arguments of one compile; what the case's own arguments say comes last and counts."""
    command = ["-m", "qcompiler", str(model), "--target", case.target, "--calib", str(calibration)]
    command += ["--bits", case.bits, "--seed", str(case.seed), "--no-verify", "--build-check", "off"]
    return [*command, "--float-share", "0", *case.arguments, "-o", str(bundle), "--force"]


class Study:
    """Rows in `folder`/rows.json, and what is missing there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "rows.json"
        self.rows: list[Row] = json.loads(self.file.read_text("utf-8"))["rows"] if self.file.is_file() else []

    def measure(self, cases: Sequence[Case]) -> None:
        """Compile and score each case that has no row without an error yet."""
        for case in cases:
            same = [row for row in self.rows if all(row[key] == value for key, value in case.key.items())]
            if any("error" not in row for row in same):
                continue
            row = self._measured(case)
            self.rows = [*(old for old in self.rows if old not in same), row]
            self.folder.mkdir(parents=True, exist_ok=True)
            document = {"machine": machine.describe(), "rows": self.rows}
            self.file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
            print(f"low_bits: {case.model} {case.bits} {case.method} seed {case.seed}: "
                  f"{row.get('error') or json.dumps(row['scores'])}", file=sys.stderr, flush=True)  # fmt: skip

    def _measured(self, case: Case) -> Row:
        row: Row = case.key
        scratch = self.folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        folder = get(models.load(case.model), with_score=False)
        calibration = draw(folder / "calibration", case.seed, scratch / "calibration")
        bundle = scratch / "bundle"
        command = compile_command(case, (folder / "model.onnx").resolve(), calibration.resolve(), bundle.resolve())
        ended = process.run(command, scratch, TIMEOUT)
        row |= {"seconds": round(ended.seconds, 1), "peak_mib": round(ended.peak_mib)}
        if ended.status:
            return row | {"error": ended.error or f"exit status {ended.status}"}
        short = ["--quick"] if case.quick else []
        score = ["-m", "models", "score", case.model, "--onnx", str(bundle.resolve()), "--json", *short]
        ended = process.run(score, scratch, TIMEOUT)
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            reference, found = json.loads(ended.out)["scores"]
        except ValueError:
            return row | {"error": ended.error or f"exit status {ended.status}"}
        if "error" in found:
            return row | {"error": found["error"]}
        values = {name: item["value"] for name, item in found["measures"].items()}
        before = {name: item["value"] for name, item in reference["measures"].items()}
        return row | {"scores": values | found["fidelity"], "float": before}


def main(words: Sequence[str] | None = None) -> int:
    """Entry point; status 1 where a case failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, metavar="A,B")
    parser.add_argument("--bits", default="w8a8,w6a6,w4a4", metavar="wNaM,...")
    parser.add_argument("--equalize", default="none,smooth,os_plus", metavar="HOW,...")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=ARGUMENTS", dest="sets")
    parser.add_argument("--seeds", default="0", metavar="N,...")
    parser.add_argument("--target", default="ort-cpu")
    parser.add_argument("--quick", action="store_true", help="small test sets: not for quoting")
    parser.add_argument("--out", type=Path, default=Path("out/low_bits"), metavar="DIR")
    args = parser.parse_args(words)
    names = args.models.split(",")
    unknown = [name for name in names if name not in models.TABLE]
    if unknown:
        parser.error(f"unknown model {unknown[0]!r}; known: {', '.join(models.TABLE)}")
    try:
        chosen = methods([word for word in args.equalize.split(",") if word], args.sets)
        seeds = [int(seed) for seed in args.seeds.split(",")]
    except ValueError as error:
        parser.error(str(error))
    study = Study(args.out)
    cases = [
        Case(model, bits, method, arguments, seed, args.target, args.quick)
        for model in names for seed in seeds for method, arguments in chosen.items() for bits in args.bits.split(",")
    ]  # fmt: skip
    study.measure(cases)
    (args.out / "table.md").write_text(low_bits_table(study.rows), "utf-8")
    print(args.out / "table.md")
    return int(any("error" in row for row in study.rows))


if __name__ == "__main__":
    sys.exit(main())
