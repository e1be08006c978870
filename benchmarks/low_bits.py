"""Methods against outliers by bits by model: what is left of each model's scores at 8, 6 and 4 bits.

    python -m benchmarks.low_bits --models minilm,vit-cifar10 --bits w8a8,w6a6 --equalize none,smooth --seeds 0,1,2
    python -m benchmarks.low_bits --models minilm --bits w6a6 --set 'smooth and bias=--equalize smooth --passes +x'

A method is a word of --equalize, or a --set NAME=ARGUMENTS of `qcompile`, which equalizes by default. All quantize the
same nodes (--float-share 0 unless a set says otherwise). Seed 0 calibrates on the entry's calibration batches; any
other on a random three quarters of them, and is passed on as --seed. Each compile is a process of its own, and all
bundles of a draw are scored in one more, beside the float model: the commands that a user types. Rows are kept in
OUT/rows.json: a second call goes on, or only writes OUT/table.md again.
"""

from __future__ import annotations

import argparse
import itertools
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
        """Compile and score each case that has no row without an error yet, draw by draw."""
        missing = [case for case in cases if all("error" in row for row in self._rows_of(case))]
        for _, group in itertools.groupby(missing, key=lambda case: (case.model, case.seed, case.target, case.quick)):
            together = list(group)
            for case, row in zip(together, self._measured(together), strict=True):
                old = self._rows_of(case)
                self.rows = [*(other for other in self.rows if other not in old), row]
                print(f"low_bits: {case.model} {case.bits} {case.method} seed {case.seed}: "
                      f"{row.get('error') or json.dumps(row['scores'])}", file=sys.stderr, flush=True)  # fmt: skip
            self.folder.mkdir(parents=True, exist_ok=True)
            document = {"machine": machine.describe(), "rows": self.rows}
            self.file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")

    def _rows_of(self, case: Case) -> list[Row]:
        return [row for row in self.rows if all(row[key] == value for key, value in case.key.items())]

    def _measured(self, cases: Sequence[Case]) -> list[Row]:
        """A row for each of these cases, which share the model and the calibration draw."""
        first, scratch = cases[0], self.folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        folder = get(models.load(first.model), with_score=False)
        calibration = draw(folder / "calibration", first.seed, scratch / "calibration")
        rows, bundles = [], []
        for index, case in enumerate(cases):
            bundle = scratch / f"bundle{index}"
            command = compile_command(case, (folder / "model.onnx").resolve(), calibration.resolve(), bundle.resolve())
            ended = process.run(command, scratch, TIMEOUT)
            rows.append({**case.key, "seconds": round(ended.seconds, 1), "peak_mib": round(ended.peak_mib)})
            if ended.status:
                rows[-1]["error"] = ended.error or f"exit status {ended.status}"
            else:
                bundles.append((rows[-1], bundle))
        if bundles:
            _score(first, bundles, scratch)
        shutil.rmtree(scratch, ignore_errors=True)
        return rows


def _score(case: Case, bundles: Sequence[tuple[Row, Path]], scratch: Path) -> None:
    """Enter the scores of all bundles, or what went wrong, into their rows."""
    files = [word for _, bundle in bundles for word in ("--onnx", str(bundle.resolve()))]
    short = ["--quick"] if case.quick else []
    ended = process.run(["-m", "models", "score", case.model, *files, "--json", *short], scratch, TIMEOUT)
    try:
        reference, *found = json.loads(ended.out)["scores"]
    except ValueError:
        for row, _ in bundles:
            row["error"] = ended.error or f"exit status {ended.status}"
        return
    before = {name: item["value"] for name, item in reference["measures"].items()}
    for (row, _), scored in zip(bundles, found, strict=True):
        if "error" in scored:
            row["error"] = scored["error"]
        else:
            values = {name: item["value"] for name, item in scored["measures"].items()}
            row |= {"scores": values | scored["fidelity"], "float": before}


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
