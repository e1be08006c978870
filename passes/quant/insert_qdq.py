"""A Q/DQ pair on every tensor that the plan names: x -> Q -> DQ -> its planned readers.

Where the grid is narrower than its container, the codes are clipped in between, since QuantizeLinear saturates only at
the container's limits: x -> Q -> Clip(codes, -qmax, qmax) -> DQ. Codes and not reals: their bounds do not depend on the
scale, which tuning varies, and because bytes are cheaper to clip; Clip(Q(x), -m, m) = Q(Clip(x, -m s, m s)).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, make_node
from qcompiler.pipeline import Outcome, Pass, Skip
from qcompiler.plan import QuantPlan
from qcompiler.scheme import TensorQuant

Parameter = tuple[ir.DataType, tuple[int, ...], bytes]
"""Type, shape and content of a scale or zero point: equal ones are one initializer."""


@dataclass(frozen=True)
class InsertQdq(Pass):
    """One pair a tensor, shared by all its planned readers; other readers keep the float value.

    Where the plan quantizes a node's output, all its readers read the pair.
    """

    name: ClassVar[str] = "insert-qdq"
    keeps_float: ClassVar[bool] = False
    plan: QuantPlan = field(default_factory=QuantPlan, repr=False)

    def run(self, model: ir.Model) -> Outcome:
        names = FreshNames(model)
        dequantized: dict[str, ir.Value] = {}
        scales: dict[Parameter, ir.Value] = {}
        matched, skipped = [], []
        planned = set(self.plan.nodes)
        for node in list(model.graph):
            if node.name not in planned:
                continue
            planned.discard(node.name)
            if node.name in self.plan.outputs:
                output = node.outputs[0]
                readers = tuple(output.uses())
                pair = _insert_pair(model.graph, output, self.plan.outputs[node.name], names, scales)
                matched.append(str(output.name))
                for use in readers:
                    use.node.replace_input_with(use.idx, pair)
            for index in self.plan.nodes[node.name]:
                value = node.inputs[index] if index < len(node.inputs) else None
                if value is None or value.name not in self.plan.tensors:
                    skipped.append(Skip(node.name, f"the plan has no scale for input {index}"))
                    continue
                real = dequantized.get(value.name)
                if real is None:
                    real = _insert_pair(model.graph, value, self.plan.tensors[value.name], names, scales)
                    dequantized[value.name] = real
                    matched.append(value.name)
                node.replace_input_with(index, real)
        skipped.extend(Skip(str(name), "the graph has no such node") for name in sorted(planned))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))

    def meant_for(self, model: ir.Model) -> bool:
        return bool(self.plan.nodes)


def _insert_pair(
    graph: ir.Graph, value: ir.Value, quant: TensorQuant, names: FreshNames, scales: dict[Parameter, ir.Value]
) -> ir.Value:
    dtype = quant.scheme.dtype
    zero = quant.zero_point if quant.zero_point is not None else np.zeros(quant.scale.shape, dtype.numpy())
    carrier = value.dtype or ir.DataType.FLOAT
    scale = quant.scale.astype(carrier.numpy())
    parameters = []
    for array, wish, kind in ((scale, "scale", carrier), (zero, "zero_point", dtype)):
        key = (kind, array.shape, array.tobytes())
        if key not in scales:
            wished = f"{value.name}_scale" if wish == "scale" else f"{dtype.name.lower()}_zero_point"
            scales[key] = add_initializer(graph, array, names(wished), kind)
        parameters.append(scales[key])
    axis = {} if quant.axis is None else {"axis": quant.axis}
    base = value.name or "tensor"
    pair = [
        make_node(
            "QuantizeLinear",
            [value, *parameters],
            axis,
            output=names(f"{base}_quantized"),
            dtype=dtype,
            shape=value.shape,
        )
    ]
    if quant.scheme.bits < dtype.bitwidth:
        bounds = _code_bounds(graph, quant, names, scales)
        codes: list[ir.Value | None] = [pair[0].outputs[0], *bounds]
        pair.append(make_node("Clip", codes, output=names(f"{base}_clipped"), dtype=dtype, shape=value.shape))
    pair.append(
        make_node(
            "DequantizeLinear",
            [pair[-1].outputs[0], *parameters],
            axis,
            output=names(f"{base}_dequantized"),
            dtype=carrier,
            shape=value.shape,
        )
    )
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], pair)
    else:
        graph.insert_after(producer, pair)
    return pair[-1].outputs[0]


def _code_bounds(
    graph: ir.Graph, quant: TensorQuant, names: FreshNames, made: dict[Parameter, ir.Value]
) -> list[ir.Value]:
    """The smallest and the largest code as scalars."""
    dtype, found = quant.scheme.dtype, []
    for code, wish in ((quant.scheme.qmin, "smallest_code"), (quant.scheme.qmax, "largest_code")):
        array = np.asarray(code, dtype.numpy())
        key = (dtype, (), wish.encode() + array.tobytes())
        if key not in made:
            made[key] = add_initializer(graph, array, names(wish), dtype)
        found.append(made[key])
    return found
