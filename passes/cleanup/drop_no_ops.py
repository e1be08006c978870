"""Operators that give back what they take go away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import constant_array, is_constant
from qcompiler.passes.normalize.shape_values import dims_of
from qcompiler.pipeline import Outcome, Pass

_BEYOND = 2**31 - 1
"""The end of a Slice that exporters write for "all"."""


@dataclass(frozen=True)
class DropNoOps(Pass):
    """x -> op -> y, with y = x whatever x is, becomes x.

    Identity, Dropout in inference, Cast to the type it has, Transpose in order, Reshape and Expand to the shape it has,
    Concat and Sum of one, Slice and Pad of nothing, Mul and Div by 1, a choice whose condition is the same everywhere
    (exporters write the target of an Expand so). Where the graph returns y, the producer of x takes y's name; an
    Identity stays where x is an input, a constant or another output.
    """

    name: ClassVar[str] = "drop-no-ops"

    def run(self, model: ir.Model) -> Outcome:
        dropped = []
        for graph in model.graphs():
            for node in graph:
                source = passed_on(node) if node.domain == "" else None
                if source is not None and _bypass(graph, node, source):
                    dropped.append(node.name or node.op_type)
        return Outcome(bool(dropped), tuple(dropped))


def passed_on(node: ir.Node) -> ir.Value | None:
    """The input that the first output always equals, in value, type and shape; None where there is none."""
    if node.op_type == "Where":
        return _chosen(node)
    return node.inputs[0] if is_no_op(node) else None


def _chosen(node: ir.Node) -> ir.Value | None:
    """What a Where takes at all places, if it is not repeated along an axis."""
    condition = constant_array(node.inputs[0])
    if condition is None or not condition.size or condition.any() != condition.all():
        return None
    chosen = node.inputs[1 if condition.all() else 2]
    dims = dims_of(chosen)
    return chosen if dims is not None and None not in dims and dims == dims_of(node.outputs[0]) else None


def is_no_op(node: ir.Node) -> bool:
    """Whether the first output always equals the first input."""
    data = node.inputs[0] if node.inputs else None
    if data is None:
        return False
    output, op = node.outputs[0], node.op_type
    if op == "Identity":
        return True
    if op == "Dropout":
        training = constant_array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        off = len(node.inputs) < 3 or node.inputs[2] is None or (training is not None and not bool(training))
        return off and not any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
    if op == "Cast":
        return data.dtype is not None and data.dtype == node.attributes.get_int("to", 0)
    if op in ("Concat", "Sum", "Max", "Min", "Mean"):
        return len(node.inputs) == 1
    if op == "Transpose":
        held = node.attributes.get("perm")
        return held is not None and list(held.value) == list(range(len(held.value)))
    if op in ("Reshape", "Expand"):
        return _keeps_shape(node, data, output)
    if op == "Slice":
        return _takes_all(node, data)
    if op in ("Mul", "Div"):
        one = constant_array(node.inputs[1]) if is_constant(node.inputs[1]) else None
        return one is not None and one.ndim == 0 and one.size == 1 and bool(one == 1)
    if op == "Pad":
        pads = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
        return pads is not None and not pads.any()
    return False


def _takes_all(node: ir.Node, data: ir.Value) -> bool:
    """From 0 to beyond the end, one by one."""
    if len(node.inputs) < 3 or data.shape is None:
        return False
    starts, ends = constant_array(node.inputs[1]), constant_array(node.inputs[2])
    held = [constant_array(value) for value in node.inputs[3:]]
    if starts is None or ends is None or starts.any() or any(item is None for item in held):
        return False
    axes = range(ends.size) if not held or held[0] is None else held[0].reshape(-1).tolist()
    if len(held) > 1 and held[1] is not None and (held[1] != 1).any():
        return False
    sizes = [data.shape[axis] for axis in axes]
    far = [end >= _BEYOND or (isinstance(size, int) and end >= size)
           for size, end in zip(sizes, ends.reshape(-1).tolist(), strict=True)]  # fmt: skip
    return all(far)


def _keeps_shape(node: ir.Node, data: ir.Value, output: ir.Value) -> bool:
    before, after = dims_of(data), dims_of(output)
    if before is None or after is None or len(before) != len(after):
        return False
    if node.op_type == "Reshape" and not is_constant(node.inputs[1]):
        return before == after and all(isinstance(size, int) for size in before)
    if before == after and None not in before:
        return True
    target = constant_array(node.inputs[1])
    if target is None:
        return False
    if node.op_type == "Expand":
        return len(target) <= len(before) and bool((target == 1).all())
    return [int(size) for size in target] == [0] * len(before) and not node.attributes.get_int("allowzero", 0)


def _bypass(graph: ir.Graph, node: ir.Node, source: ir.Value) -> bool:
    output = node.outputs[0]
    if not output.is_graph_output():
        output.replace_all_uses_with(source)
        graph.remove(node, safe=True)
        return True
    producer = source.producer()
    if producer is None or producer.graph is not graph or source.is_graph_output() or is_constant(source):
        return False  # an input, a capture or a constant: the Identity is what carries the output's name
    if sum(value is output for value in graph.outputs) != 1:
        return False
    name = output.name
    output.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    output.name = None
    source.name = name
    if source.type is None:
        source.type = output.type
    return True
