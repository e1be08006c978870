"""Equal steps become one: what the steps have in one place is a column, and a column is one value of a body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, constant_array, rank
from qcompiler.passes.normalize.operators import has_subgraph, is_deterministic
from qcompiler.passes.recurrence.build import detach

_SMALL = 64
"""Elements up to which constants are compared."""


class StepsDiffer(Exception):
    """Why the steps are not one body repeated."""


@dataclass(slots=True)
class Source:
    """A tensor from which step t takes index t (or the last but t) along an axis.

    Attributes:
        start: The lowest index taken.
    """

    value: ir.Value
    axis: int
    start: int
    backwards: bool
    inner: ir.Value


@dataclass(slots=True)
class Columns:
    """One body for all steps.

    Attributes:
        before, after: The state before and after each step.
        old: The body's input that stands for `before`.
        nodes: The body's nodes, in order.
        sources: What goes along time.
        merged: The steps' own nodes.
    """

    before: Sequence[ir.Value]
    after: Sequence[ir.Value]
    old: ir.Value
    fresh: FreshNames
    nodes: list[ir.Node] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    merged: set[ir.Node] = field(default_factory=set)
    _known: dict[tuple[int, ...], ir.Value] = field(default_factory=dict)

    def attempt(self, column: Sequence[ir.Value | None]) -> ir.Value | None:
        """`value_of`; where the steps differ, everything is as before.

        Raises:
            StepsDiffer: As `value_of`.
        """
        nodes, sources, merged, known = len(self.nodes), len(self.sources), set(self.merged), dict(self._known)
        try:
            return self.value_of(column)
        except StepsDiffer:
            detach(self.nodes[nodes:])
            del self.nodes[nodes:], self.sources[sources:]
            self.merged, self._known = merged, known
            raise

    def value_of(self, column: Sequence[ir.Value | None]) -> ir.Value | None:
        """The body's value for a column: one entry a step.

        Raises:
            StepsDiffer: It is not one.
        """
        first = column[0]
        if first is None or any(item is None for item in column):
            if any(item is not None for item in column):
                raise StepsDiffer("an operand is left out in some steps")
            return None
        values = [item for item in column if item is not None]
        if all(item is first for item in values):
            return first
        key = tuple(map(id, values))
        if key not in self._known:
            self._known[key] = self._new(values)
        return self._known[key]

    def _new(self, values: list[ir.Value]) -> ir.Value:
        if _is(values, self.before):
            return self.old
        if _equal_constants(values):
            return values[0]
        nodes = [value.producer() for value in values]
        first = nodes[0]
        makers = [node for node in nodes if node is not None]
        if first is None or len(makers) < len(values):
            raise StepsDiffer("a step reads what others compute")
        if all(node is first for node in makers):
            return self._split(first, values)
        if any(not _alike(first, node) for node in makers):
            odd = next(node for node in makers if not _alike(first, node))
            raise StepsDiffer(f"{first.op_type} in the first step is {odd.op_type} or another in a later one")
        taken = self._taken(first, makers, values)
        if taken is not None:
            self.merged.update(makers)
            return taken
        if has_subgraph(first) or not is_deterministic(first) or len(first.outputs) != 1:
            raise StepsDiffer(f"{first.op_type} cannot be merged")
        self.merged.update(makers)
        inputs = [self.value_of([node.inputs[place] for node in makers]) for place in range(len(first.inputs))]
        return self._node(first, inputs)

    def _node(self, like: ir.Node, inputs: list[ir.Value | None]) -> ir.Value:
        name = self.fresh(f"{like.outputs[0].name}_step")
        made = ir.Node(like.domain, like.op_type, inputs, dict(like.attributes), num_outputs=1, name=name)
        made.metadata_props.update(like.metadata_props)
        output = made.outputs[0]
        output.name, output.type, output.shape = name, like.outputs[0].type, like.outputs[0].shape
        self.nodes.append(made)
        return output

    # --- what goes along time ----------------------------------------------------------------------------------------

    def _taken(self, first: ir.Node, nodes: list[ir.Node], values: list[ir.Value]) -> ir.Value | None:
        """A Gather or Slice of one place each; None where it is something else."""
        data = first.inputs[0] if first.inputs else None
        if first.op_type not in ("Gather", "Slice") or data is None:
            return None
        if any(node.inputs[0] is not data for node in nodes):
            return None
        dims = rank(data)
        places = [place for node in nodes if (place := _place(node, dims)) is not None]
        if len(places) < len(nodes):
            return None
        axes = {place[1] for place in places}
        keeps = {place[2] for place in places}
        if len(axes) != 1 or len(keeps) != 1:
            raise StepsDiffer(f"{first.op_type} takes other axes in other steps")
        return self._along(data, [place[0] for place in places], axes.pop(), keeps.pop(), values[0])

    def _split(self, node: ir.Node, values: list[ir.Value]) -> ir.Value:
        """Outputs of one Split, each of one place."""
        data, dims = node.inputs[0], rank(node.inputs[0])
        axis = node.attributes.get_int("axis", 0)
        sizes = [None if value.shape is None else value.shape[axis] for value in node.outputs]
        if node.op_type != "Split" or data is None or dims is None or any(size != 1 for size in sizes):
            raise StepsDiffer(f"{node.op_type} gives several steps what they read")
        places = {id(value): index for index, value in enumerate(node.outputs)}
        self.merged.add(node)
        return self._along(data, [places[id(value)] for value in values], axis % dims, True, values[0])

    def _along(self, data: ir.Value, indices: list[int], axis: int, keeps: bool, like: ir.Value) -> ir.Value:
        count = len(indices)
        forwards = all(index == indices[0] + step for step, index in enumerate(indices))
        backwards = all(index == indices[0] - step for step, index in enumerate(indices))
        start = min(indices)
        if not (forwards or backwards) or start < 0 or count < 2:
            raise StepsDiffer("the steps do not go along a tensor one place at a time")
        inner = ir.Value(name=self.fresh(f"{like.name}_along"), type=like.type)
        shape = None if like.shape is None else list(like.shape)
        if shape is not None:
            inner.shape = ir.Shape([size for place, size in enumerate(shape) if not (keeps and place == axis)])
        self.sources.append(Source(data, axis, start, backwards, inner))
        if not keeps:
            return inner
        axes = ir.tensor(np.array([axis], np.int64), name=self.fresh(f"{like.name}_axis"))
        constant = ir.node("Constant", [], {"value": axes}, num_outputs=1, name=axes.name)
        constant.outputs[0].name = axes.name
        made = ir.node("Unsqueeze", [inner, constant.outputs[0]], num_outputs=1, name=self.fresh(f"{like.name}_step"))
        output = made.outputs[0]
        output.name, output.type, output.shape = made.name, like.type, like.shape
        self.nodes += [constant, made]
        return output


def _is(values: Sequence[ir.Value], others: Sequence[ir.Value]) -> bool:
    return len(values) == len(others) and all(one is other for one, other in zip(values, others, strict=True))


def _equal_constants(values: list[ir.Value]) -> bool:
    first = constant_array(values[0])
    if first is None or first.size > _SMALL:
        return False
    for value in values[1:]:
        array = constant_array(value)
        if array is None or (array.dtype, array.shape) != (first.dtype, first.shape):
            return False
        if array.tobytes() != first.tobytes():
            return False
    return True


def _alike(one: ir.Node, other: ir.Node) -> bool:
    if (one.op_type, one.domain, len(one.inputs)) != (other.op_type, other.domain, len(other.inputs)):
        return False
    if one.attributes.keys() != other.attributes.keys() or len(one.outputs) != len(other.outputs):
        return False
    return all(_same(attribute, other.attributes[name]) for name, attribute in one.attributes.items())


def _same(one: ir.Attr, other: ir.Attr) -> bool:
    if one.type != other.type or one.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return False
    if one.type == ir.AttributeType.TENSOR:
        return bool(np.array_equal(one.as_tensor().numpy(), other.as_tensor().numpy()))
    return bool(one.value == other.value)


def _place(node: ir.Node, dims: int | None) -> tuple[int, int, bool] | None:
    """(index, axis, whether the axis stays) of a node that takes one place of an axis."""
    if dims is None:
        return None
    if node.op_type == "Gather":
        index = constant_array(node.inputs[1])
        if index is None or index.size != 1 or index.ndim > 1:
            return None
        return int(index.reshape(-1)[0]), node.attributes.get_int("axis", 0) % dims, index.ndim == 1
    operands = [constant_array(value) for value in node.inputs[1:]]
    if len(operands) < 3 or any(item is None or item.size != 1 for item in operands):
        return None
    start, end, axis, *step = [int(item.reshape(-1)[0]) for item in operands if item is not None]
    if end != start + 1 or (step and step[0] != 1):
        return None
    return start, axis % dims, True
