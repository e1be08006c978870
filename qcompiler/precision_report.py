"""Which precisions a plan has, and which of them runs faster on the target and which only models accuracy."""

from __future__ import annotations

from collections import Counter
from typing import Any

from qcompiler.plan import QuantPlan
from qcompiler.precision import FLOAT_ACTIVATIONS, W8A8, Precision


def precision_rows(plan: QuantPlan, inputs: dict[str, list[str]]) -> list[dict[str, Any]]:
    """[{"precision", "nodes", "runs", "note"}], most nodes first; "runs" is one of the keys below.

    - integer: in the target's integer kernels.
    - models: narrower grids in int8 containers: they show what accuracy would be, and are as fast as 8 bits.
    - weight_only: int4 weights in blocks are smaller and read faster; the arithmetic is float.

    A product of two activations counts with the bits of these on both sides.

    Args:
        inputs: Node name to the names of its inputs.
    """
    counts: Counter[Precision] = Counter()
    for name in plan.nodes:
        counts[precision_of(plan, name, inputs.get(name, []))] += 1
    rows = []
    for precision, count in sorted(counts.items(), key=lambda item: (-item[1], str(item[0]))):
        runs, note = _label(precision)
        rows.append({"precision": str(precision), "nodes": count, "runs": runs, "note": note})
    return rows


def precision_of(plan: QuantPlan, name: str, inputs: list[str]) -> Precision:
    """Bits of one quantized node, given the names of its inputs."""
    weights = [quant.scheme for quant in plan.weights.get(name, {}).values()]
    read = [plan.tensors[inputs[index]] for index in plan.nodes.get(name, ()) if index < len(inputs)]
    activations = max((quant.scheme.bits for quant in read), default=FLOAT_ACTIVATIONS)
    return Precision(max((scheme.bits for scheme in weights), default=activations), activations)


def runs_of(precision: Precision) -> str:
    """How such a node runs: "integer", "models" or "weight_only"; see `precision_rows`."""
    return _label(precision)[0]


def _label(precision: Precision) -> tuple[str, str]:
    if precision == W8A8:
        return "integer", "runs in the target's integer kernels"
    if precision.weight_only:
        return "weight_only", "int4 weights in blocks, float arithmetic: smaller, faster where reading weights limits"
    bits = sorted({precision.weights, precision.activations} - {8})
    said = " and ".join(map(str, bits))
    return "models", f"models accuracy only: {said} bits in int8 containers run as fast as 8"
