"""report.json: what was done, how well it fits the float model, how it was checked. Schema in docs/report.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from qcompiler.command_line import command_line
from qcompiler.lookup_report import lookup_rows
from qcompiler.manifest import plain
from qcompiler.precision_report import precision_rows

if TYPE_CHECKING:
    import onnx_ir as ir

    from qcompiler.evaluation.compare import Comparison, TensorFidelity
    from qcompiler.evaluation.verify import Verification
    from qcompiler.pipeline import PassRun
    from qcompiler.result import CompileResult

SCHEMA = "qcompile-report/1"


def report_document(result: CompileResult) -> dict[str, Any]:
    """The report; free of times and paths, so it is hashed with the rest of the bundle."""
    graphs = {"float": result.reference, "model": result.model, "host": result.host}
    return {
        "schema": SCHEMA,
        "target": result.target.name,
        "source": result.source.replace("\\", "/").rpartition("/")[2],
        "command": command_line(result.source, result.options),
        "calibration": plain(result.calibration),
        "graphs": {name: graph_document(model) for name, model in graphs.items() if model is not None},
        "precision": precisions_of(result),
        "lookup_tables": lookup_rows(result),
        "quantized": quantized_by_op(result),
        "float": float_nodes(result),
        "facts": plain(result.facts),
        "verification": {name: comparison_document(item) for name, item in sorted(result.verification.items())},
        "check": {key: plain(value) for key, value in sorted(result.check.items()) if key != "seconds"},
        "passes": [_pass_document(run) for run in result.runs],
        "certificates": [item.to_json() for item in result.certificates],
        "diagnostics": [item.to_json() for item in result.diagnostics],
        "gates": list(result.gates),
    }


def graph_document(model: ir.Model) -> dict[str, Any]:
    """Opset, node counts by operator (subgraphs included) and bytes of weights."""
    operators = Counter(
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in model.graph.all_nodes()
    )
    weights = sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )
    return {
        "opset": model.opset_imports.get(""),
        "nodes": sum(operators.values()),
        "operators": dict(sorted(operators.items())),
        "weight_bytes": int(weights),
    }


def precisions_of(result: CompileResult) -> list[dict[str, Any]]:
    """Bits of the quantized nodes, with what each gives on the target; see `precision_rows`."""
    inputs = {
        str(node.name): ["" if value is None else str(value.name) for value in node.inputs]
        for node in result.reference.graph
    }
    return precision_rows(result.plan, inputs)


def quantized_by_op(result: CompileResult) -> dict[str, dict[str, int]]:
    """Operator to {"quantized", "total"} over the float graph, for operators with at least one quantized node."""
    totals: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for node in result.reference.graph.all_nodes():
        totals[node.op_type] += 1
        counts[node.op_type] += node.name in result.plan.nodes or node.name in result.plan.weights
    return {op: {"quantized": counts[op], "total": totals[op]} for op in sorted(counts) if counts[op]}


def float_nodes(result: CompileResult) -> list[dict[str, Any]]:
    """Nodes and tensors that stay float with their reasons, by name; "op" is null for a tensor."""
    operators = {node.name: node.op_type for node in result.reference.graph.all_nodes()}
    return [
        {"name": name, "op": operators.get(name), "reason": reason}
        for name, reason in sorted(result.plan.floats.items())
    ]


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """Fidelity of outputs and layers."""
    return {
        "samples": comparison.samples,
        "outputs": [fidelity_document(item) for item in comparison.outputs],
        "layers": [fidelity_document(item) for item in comparison.layers],
    }


def fidelity_document(item: TensorFidelity) -> dict[str, Any]:
    """Figures rounded to what their measurement supports; an infinite one is the text "inf"."""
    found = {
        "name": item.name,
        "sqnr": _rounded(item.sqnr, ".2f"),
        "cosine": _rounded(item.cosine, ".6f"),
        "max_error": _rounded(item.max_error, ".4g"),
        "agreement": None if item.agreement is None else _rounded(item.agreement, ".5f"),
    }
    odd = {"integer": item.integer, "broken": item.broken, "misshapen": item.misshapen}
    return {**found, **{key: value for key, value in odd.items() if value}}


def verification_document(found: Verification) -> dict[str, Any]:
    """What `qcompile verify --json` prints."""
    return {
        "schema": "qcompile-verify/1",
        "pairs": [list(pair) for pair in found.pairs],
        "bounds": {"min_sqnr": found.min_sqnr, "min_cosine": found.min_cosine},
        **comparison_document(found.comparison),
        "first_divergence": None if found.first is None else found.first.name,
        "missed": list(found.missed),
    }


def timings_document(result: CompileResult) -> dict[str, Any]:
    """Seconds by phase and by pass, and of the certificates within them: kept out of what is hashed."""
    passes = [{"name": run.name, "seconds": round(run.seconds, 4)} for run in result.runs]
    phases = {name: round(value, 3) for name, value in result.seconds.items()}
    certificates = round(sum(item.seconds for item in result.certificates), 3)
    return {"phases": phases, "passes": passes, "certificates": certificates}


def encode(document: Mapping[str, Any]) -> bytes:
    """Indented JSON, keys in the order given, one newline at the end."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _pass_document(run: PassRun) -> dict[str, Any]:
    reasons = Counter(skip.reason for skip in run.outcome.skipped)
    return {
        "name": run.name,
        "options": run.options,
        "matched": len(run.outcome.matched),
        "skipped": len(run.outcome.skipped),
        "reasons": dict(sorted(reasons.items())),
        "undone": run.undone,
    }


def _rounded(value: float, form: str) -> Any:
    return plain(float(format(value, form)))


def worst(items: Iterable[TensorFidelity], count: int) -> list[TensorFidelity]:
    """The `count` tensors with the lowest SQNR."""
    return sorted(items, key=lambda item: (item.sqnr == item.sqnr, item.sqnr))[:count]
