"""What rewrites cost: compile time, time of their certificates, latency, and whether NVIDIA's builder takes the graph.

    python -m benchmarks.rewrite_cost [--models minilm,vit-cifar10,decoder-lm] [--seconds 20] [--no-orin]

Each model is compiled for ort-cpu without rewrites on data, with --equalize auto, --rotate auto, both, --rotate all,
--split-units auto alone, and by default, each in a process of its own. Latencies are taken in turns in one process, on
one thread: given are the median, and the median of the ratios to the graph without rewrites within a round. Then the
same for orin with the build check.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, process
from models.assets import cache_folder

MODELS = ("minilm", "vit-cifar10", "decoder-lm")
_ALONE = ("--split-units", "none")
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "none": (*_ALONE, "--equalize", "none"), "equalize auto": (*_ALONE, "--equalize", "auto"),
    "rotate auto": (*_ALONE, "--equalize", "none", "--rotate", "auto"),
    "both auto": (*_ALONE, "--equalize", "auto", "--rotate", "auto"),
    "rotate all": (*_ALONE, "--equalize", "none", "--rotate", "all"),
    "units": ("--equalize", "none", "--rotate", "none"), "defaults": (),
}  # fmt: skip
OUT = process.ROOT / "out" / "rewrite_cost"
Row = dict[str, Any]


def compiled(model: str, variant: str, target: str, folder: Path) -> Row:
    """One bundle and what its report says."""
    source = cache_folder() / model
    place = folder / f"{variant.replace(' ', '-')}.{target}"
    check = "off" if target == "ort-cpu" else "on"
    ended = process.run(
        ["-m", "qcompiler", str(source / "model.onnx"), "--target", target, "--calib", str(source / "calibration"),
         *VARIANTS[variant], "-o", str(place), "--strict", "--build-check", check, "-q"], folder,
    )  # fmt: skip
    if ended.status:
        return {"variant": variant, "error": ended.error, "status": ended.status}
    report = json.loads((place / "report.json").read_bytes())
    timings = json.loads((place / "timings.json").read_bytes())
    total = sum(timings["phases"].values())
    measured = report.get("facts", {}).get("plan", {})
    choices = [measured.get(word, {}) for word in ("equalize", "rotate")]
    taken = [str(one.get("taken", one["how"] if one.get("sites") else "none")) for one in choices if one]
    facts = report["facts"]["model"]
    return {
        "variant": variant, "file": str(place / "model.onnx"), "taken": " / ".join(taken),
        "seconds": total, "certificates": timings["certificates"] / total,
        "added_nodes": sum(measured.get(word, {}).get("added_nodes", 0) for word in ("equalize", "rotate")),
        "integer": facts.get("integer_kernels"), "leftovers": len(facts.get("leftovers", ())),
        "verdict": (report.get("check") or {}).get("verdict", ""),
    }  # fmt: skip


def with_latencies(model: str, rows: Sequence[Row], seconds: float, folder: Path) -> None:
    """Add `ms` and `ratio`, the speed over the first row."""
    files = [row["file"] for row in rows if "file" in row]
    words = ["-m", "benchmarks.latency", "--model", model, "--seconds", str(seconds), *files]
    ended = process.run(words, folder)
    answers = iter(json.loads(ended.out)) if not ended.status else iter(())
    for row in rows:
        if "file" in row:
            row |= next(answers, {"error": ended.error})


def table(found: Mapping[str, Sequence[Row]]) -> str:
    """Markdown, a row for each variant."""
    lines = [
        "| model | rewrites | taken | added nodes | compile, s | of it certificates | ms | time against none "
        "| integer kernels, float left over |",
        f"|{' --- |' * 9}",
    ]
    for model, rows in found.items():
        for row in rows:
            if "error" in row:
                lines.append(f"| {model} | {row['variant']} | {row['error']} | | | | | | |")
                continue
            ratio = f"{1 / row['ratio']:.3f}" if row.get("ratio") else ""
            lines.append(
                f"| {model} | {row['variant']} | {row['taken']} | {row['added_nodes']} | {row['seconds']:.1f} "
                f"| {row['certificates']:.0%} | {row.get('ms', float('nan')):.2f} | {ratio} "
                f"| {row['integer']}, {row['leftovers']} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Entry point; the status is 1 where a compile failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--no-orin", dest="orin", action="store_false")
    given = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    found: dict[str, list[Row]] = {}
    verdicts: list[str] = []
    for model in given.models.split(","):
        folder = OUT / model
        folder.mkdir(parents=True)
        found[model] = [compiled(model, variant, "ort-cpu", folder) for variant in VARIANTS]
        with_latencies(model, found[model], given.seconds, folder)
        for variant in VARIANTS if given.orin else ():
            row = compiled(model, variant, "orin", folder)
            verdicts.append(f"orin, {model}, {variant}: {row.get('verdict') or row.get('error')}")
            print(verdicts[-1], file=sys.stderr, flush=True)
    facts = "; ".join(f"{name} {value}" for name, value in machine.describe().items())
    text = f"{table(found)}\n\n{facts}\n\n" + "\n".join(verdicts) + "\n"
    (OUT / "table.md").write_text(text)
    print(text)
    return int(any("error" in row for rows in found.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
