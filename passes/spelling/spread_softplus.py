"""Softplus out of vectorized operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, all_nodes, scalar_constant
from qcompiler.passes.recurrence.build import Builder
from qcompiler.pipeline import Outcome, Pass, Skip

_LARGE = 15.0
"""Beyond, log(1 + exp(x)) - x = log1p(exp(-x)) < 4e-7 is less than half a unit of float32 in the last place of x."""


@dataclass(frozen=True)
class SpreadSoftplus(Pass):
    """Softplus(x) becomes max(x, 0) + log1p(e), e = exp(-|x|); Where(x > 20, x, Softplus(x)) is Softplus(x) first.

    log1p(e) = log(u) + (e - (u - 1)) with u = 1 + e in floating point: the second term gives back what the sum lost,
    so that small values keep their relative precision (Goldberg, ACM Computing Surveys 23(1), 1991, theorem 4, whose
    quotient (u - 1) is within rounding of e where e <= 1). onnxruntime takes Softplus one element at a time; these
    operators run in vectors. The Softplus of a Mish (read by Tanh) stays.
    """

    name: ClassVar[str] = "spread-softplus"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        skipped: list[Skip] = []
        fresh = FreshNames(model)
        for node in list(all_nodes(model)):
            if node.op_type != "Softplus" or node.domain != "":
                continue
            site = str(node.outputs[0].name)
            graph, data = node.graph, node.inputs[0]
            if not isinstance(graph, ir.Graph) or data is None or data.dtype is None:
                skipped.append(Skip(site, "its type is unknown"))
            elif any(use.node.op_type == "Tanh" for use in node.outputs[0].uses()):
                skipped.append(Skip(site, "part of a Mish"))
            else:
                _write(graph, node, data, fresh)
                matched.append(site)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _write(graph: ir.Graph, node: ir.Node, data: ir.Value, fresh: FreshNames) -> None:
    make = Builder(graph, fresh, str(node.outputs[0].name))
    one = np.ones((), data.dtype.numpy() if data.dtype is not None else np.float32)
    small = make.op("Exp", make.op("Neg", make.op("Abs", data)))
    total = make.op("Add", small, one)
    lost = make.op("Sub", small, make.op("Sub", total, one))
    result = make.op("Add", make.op("Relu", data), make.op("Add", make.op("Log", total), lost))
    for made in make.nodes:
        made.outputs[0].shape = data.shape
        made.metadata_props.update(node.metadata_props)
    make.insert_before(node)
    switches = _switches(node, data)
    for old in (*switches, node):
        output = old.outputs[0]
        output.replace_all_uses_with(result, replace_graph_outputs=True)
        result.metadata_props.update(output.metadata_props)
        graph.remove(old, safe=True)
    kept = (switches or [node])[0].outputs[0]
    kept.name, result.name = None, kept.name


def _switches(node: ir.Node, data: ir.Value) -> list[ir.Node]:
    """Where(data > c, data, Softplus(data)) for a c from which on both are equal in float32."""
    found = []
    for use in node.outputs[0].uses():
        switch = use.node
        test = switch.inputs[0].producer() if switch.op_type == "Where" and switch.inputs[0] is not None else None
        if test is None or test.op_type not in ("Greater", "GreaterOrEqual") or use.idx != 2:
            continue
        limit = scalar_constant(test.inputs[1])
        if switch.inputs[1] is data and test.inputs[0] is data and limit is not None and limit >= _LARGE:
            found.append(switch)
    return found if len(found) == len(node.outputs[0].uses()) else []
