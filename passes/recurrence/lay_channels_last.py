"""The state of a selective scan is held with its channels along the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, constant_array
from qcompiler.passes.recurrence.build import Builder, rename_to
from qcompiler.passes.recurrence.each_scan import Refused, each_scan
from qcompiler.passes.recurrence.group_factors import outer_product_axes
from qcompiler.passes.recurrence.over_time import ELEMENTWISE, rank_of
from qcompiler.passes.recurrence.scans import (
    Along,
    ScanParts,
    drop_dead_steps,
    drop_unused_inputs,
    write_scan,
)
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class LayChannelsLast(Pass):
    """h[E, N] <- exp(dt[E, 1] A[E, N]) h + x[E, 1] B[1, N], y = h C[N, 1] becomes the same on h'[N, E].

    onnxruntime multiplies [E, 1] by [E, N] in E pieces of N numbers each; with N of 16 the calls take longer than the
    products. Along E the pieces are long. The products of x and B become an outer MatMul, the sum over N (also one
    written as ReduceSum) a MatMul with one row. Values are the same, up to the order of the sum over N.
    """

    name: ClassVar[str] = "lay-channels-last"

    def run(self, model: ir.Model) -> Outcome:
        fresh = FreshNames(model)

        def act(parts: ScanParts) -> bool:
            _Swap(parts, fresh).run()
            return True

        return each_scan(model, act)


@dataclass(slots=True)
class _Read:
    """y = sum over N of h c: what gives y, and c as [..., 1, N] or [..., N, 1]."""

    result: ir.Value
    factor: ir.Value
    column: bool
    keeps_axis: bool


class _Swap:
    def __init__(self, parts: ScanParts, fresh: FreshNames) -> None:
        graph = parts.node.graph
        assert graph is not None
        self.parts, self.fresh = parts, fresh
        self.outside = Builder(graph, fresh, parts.node.name or "scan")
        self.inside = Builder(parts.body, fresh, parts.node.name or "scan")
        self.swapped: dict[ir.Value, ir.Value] = {}
        self.added: list[Along] = []

    def run(self) -> None:
        """Look first, so that nothing is changed where it is refused."""
        parts = self.parts
        if len(parts.states) != 1:
            raise Refused("it carries several tensors" if parts.states else "it carries no state")
        state = parts.states[0]
        shape = [] if state.old.shape is None else list(state.old.shape)
        rows, columns = shape[-2:] if len(shape) >= 2 else (None, None)
        if not isinstance(rows, int) or not isinstance(columns, int):
            raise Refused("the size of its state is unknown")
        if columns * 2 > rows:
            raise Refused(f"its state is laid out well: {rows} x {columns}")
        if any(item.axis for item in (*parts.inputs, *parts.outputs)):
            raise Refused("time is not the first axis of what goes along")
        self._check(state.new, len(shape), set())
        reads = [self._read(item) for item in parts.outputs]
        known = {id(read.result.producer()) for read in reads}
        for use in state.new.uses():
            if id(use.node) not in known and not self._leads_to(use.node, reads):
                raise Refused(f"{use.node.op_type} reads the state")
        self._write(reads)

    # --- looking -----------------------------------------------------------------------------------------------------

    def _check(self, value: ir.Value, dims: int, seen: set[ir.Value]) -> None:
        if value in seen or value is self.parts.states[0].old or not self.parts.inside(value):
            return
        seen.add(value)
        node, own = value.producer(), rank_of(value)
        if own is None or own > dims:
            raise Refused(f"the rank of {value.name} does not fit")
        if node is None:
            return
        if node.domain != "" or node.op_type not in ELEMENTWISE:
            raise Refused(f"{node.op_type} makes the next state")
        for operand in node.inputs:
            if operand is not None:
                self._check(operand, dims, seen)

    def _read(self, output: Along) -> _Read:
        """The sum that gives this output."""
        node, state = output.inner.producer(), self.parts.states[0].new
        if node is None or output.inner.uses():
            raise Refused("an output is not a sum over the state")
        if node.op_type == "MatMul" and node.inputs[0] is state and node.inputs[1] is not None:
            factor = node.inputs[1]
            if not _is_vector(factor, -1) or not self._is_free(factor):
                raise Refused("the state meets more than one vector")
            return _Read(output.inner, factor, True, True)
        if node.op_type != "ReduceSum" or node.inputs[0] is None or not _sums_last(node):
            raise Refused("an output is not a sum over the state")
        product = node.inputs[0].producer()
        if product is None or product.op_type != "Mul" or state not in product.inputs or len(product.inputs) != 2:
            raise Refused("an output is not a sum over the state")
        other = product.inputs[1] if product.inputs[0] is state else product.inputs[0]
        alone = len(product.outputs[0].uses()) == 1
        if other is None or not alone or not self._is_free(other) or not _is_vector(other, -2):
            raise Refused("the state meets more than one vector")
        return _Read(output.inner, other, False, bool(node.attributes.get_int("keepdims", 1)))

    def _is_free(self, value: ir.Value) -> bool:
        """Whether the factor comes from outside of the step."""
        return value.producer() is None or not self.parts.inside(value)

    def _leads_to(self, node: ir.Node, reads: list[_Read]) -> bool:
        """Whether the node is the Mul below one of the sums."""
        sums = [read.result.producer() for read in reads]
        return any(item is not None and item.inputs[0] is node.outputs[0] for item in sums)

    # --- writing -----------------------------------------------------------------------------------------------------

    def _write(self, reads: list[_Read]) -> None:
        parts, state = self.parts, self.parts.states[0]
        old = ir.Value(name=self.fresh(f"{state.old.name}_swapped"), type=state.old.type, shape=_swapped(state.old))
        self.swapped[state.old] = old
        new = self._swap(state.new)
        state.first = self._swap_outside(state.first, 0)
        state.old, state.new = old, new
        for output, read in zip(parts.outputs, reads, strict=True):
            output.inner = self.inside.op("MatMul", self._row(read), new)
        parts.inputs += self.added
        body = parts.body
        for node in self.inside.nodes:
            body.append(node)
        self.outside.insert_before(parts.node)
        write_scan(parts)
        drop_dead_steps(body)
        if drop_unused_inputs(parts):
            write_scan(parts)
        self._turn_back(reads)

    def _turn_back(self, reads: list[_Read]) -> None:
        """Outputs [T, ..., 1, E] and the last state in their old layout, behind the Scan."""
        parts, state = self.parts, self.parts.states[0]
        dims = rank_of(state.old)
        assert dims is not None
        for output, read in zip(parts.outputs, reads, strict=True):
            if read.keeps_axis:
                made = self.outside.op("Transpose", output.outer, perm=_order(dims + 1))
            else:
                made = self.outside.op("Squeeze", output.outer, self.outside.ints(dims - 1))
            _stand_in(output.outer, made)
        if state.last.uses() or state.last.is_graph_output():
            made = self.outside.op("Transpose", state.last, perm=_order(dims))
            _stand_in(state.last, made)
        else:
            state.last.shape = None
        self.outside.insert_after(parts.node)

    def _row(self, read: _Read) -> ir.Value:
        """The factor as [..., 1, N]."""
        if read.column:
            return self._swap(read.factor)
        if rank_of(read.factor) == 1:
            return self.inside.op("Transpose", self._swap(read.factor), perm=[1, 0])
        return read.factor

    def _swap(self, value: ir.Value) -> ir.Value:
        """The value with its last two axes exchanged; [N] becomes [N, 1]."""
        if value in self.swapped:
            return self.swapped[value]
        node = value.producer()
        if rank_of(value) == 0:
            made = value
        elif node is not None and node.graph is self.parts.body:
            operands: list[ir.Value | None] = [None if item is None else self._swap(item) for item in node.inputs]
            one, other = operands[0], operands[-1]
            made = self.inside.copy(node, operands)
            if node.op_type == "Mul" and one is not None and other is not None:
                if outer_product_axes(one, other):
                    self._as_product(one, other)
                elif outer_product_axes(other, one):
                    self._as_product(other, one)
            made.shape = _swapped(value)
        elif self.parts.inside(value):
            made = self._along(value)
        else:
            made = self._swap_outside(value, 0)
        self.swapped[value] = made
        return made

    def _as_product(self, column: ir.Value, row: ir.Value) -> None:
        node = self.inside.nodes[-1]
        node.op_type = "MatMul"
        node.replace_input_with(0, column)
        node.replace_input_with(1, row)

    def _along(self, value: ir.Value) -> ir.Value:
        item = next(item for item in self.parts.inputs if item.inner is value)
        inner = ir.Value(name=self.fresh(f"{value.name}_swapped"), type=value.type, shape=_swapped(value))
        self.added.append(Along(self._swap_outside(item.outer, 1), inner, 0, item.backwards))
        return inner

    def _swap_outside(self, value: ir.Value, timed: int) -> ir.Value:
        """Behind the time axis where `timed` is 1."""
        array = constant_array(value)
        dims = rank_of(value)
        if dims is None:
            raise ValueError(f"{value.name} has no known rank")  # checked before
        if array is not None:
            made = self.outside.constant(array[:, None] if dims == 1 else np.swapaxes(array, -1, -2).copy())
            made.metadata_props.update(value.metadata_props)  # its role
        elif dims - timed == 1:
            made = self.outside.op("Unsqueeze", value, self.outside.ints(dims))
        else:
            made = self.outside.op("Transpose", value, perm=_order(dims))
        made.shape = made.shape or (None if timed else _swapped(value))
        return made


def _stand_in(value: ir.Value, made: ir.Value) -> None:
    """`made`, computed from `value`, takes its name and all its other readers."""
    node = made.producer()
    assert node is not None
    rename_to(value, made)
    node.replace_input_with(0, value)
    value.shape = None


def _order(dims: int) -> list[int]:
    return [*range(dims - 2), dims - 1, dims - 2]


def _swapped(value: ir.Value) -> ir.Shape | None:
    if value.shape is None:
        return None
    sizes = list(value.shape)
    if len(sizes) == 1:
        return ir.Shape([sizes[0], 1])
    return ir.Shape([*sizes[:-2], sizes[-1], sizes[-2]]) if sizes else value.shape


def _is_vector(value: ir.Value, axis: int) -> bool:
    """Whether the axis, of the last two, has size 1; a single axis counts as the last."""
    shape = [] if value.shape is None else list(value.shape)
    return (len(shape) == 1 and axis == -2) or (len(shape) >= 2 and shape[axis] == 1)


def _sums_last(node: ir.Node) -> bool:
    axes = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    dims = rank_of(node.inputs[0]) if node.inputs[0] is not None else None
    return axes is not None and axes.size == 1 and dims is not None and int(axes.reshape(-1)[0]) % dims == dims - 1
