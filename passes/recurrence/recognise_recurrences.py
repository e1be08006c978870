"""Selective scans: which tensor is x, dt, A, B, C, state, y, z."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, all_nodes
from qcompiler.passes.canonical.forms import Form, form_of
from qcompiler.passes.recurrence.roles import TensorRole, give_role, give_roles
from qcompiler.passes.recurrence.scans import ScanParts, read_scan
from qcompiler.passes.recurrence.step_roles import NO_EXPONENTIAL, Step, step_roles
from qcompiler.pipeline import Outcome, Pass, Skip

_FARTHEST = 8
"""Nodes between the output of a scan and its gate."""

Found = tuple[str, dict[TensorRole, ir.Value], ir.Value | None]
"""Name of the site, roles, and the tensor that the scan or step gives."""


@dataclass(frozen=True)
class RecogniseRecurrences(Pass):
    """Tensors around h[t] = exp(dt A) h[t-1] + dt x B, y = C h get their roles (`passes/recurrence/roles.py`).

    The recurrence is a Scan, or the one step between a state that the graph takes and one that it gives. Nothing is
    rewritten.
    """

    name: ClassVar[str] = "recognise-recurrences"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        skipped: list[Skip] = []
        modified = False
        for item in (*_scans(model), *_steps(model.graph)):
            if isinstance(item, Skip):
                skipped.append(item)
                continue
            site, roles, output = item
            if output is not None:
                roles |= {TensorRole.OUTPUT: output, **gate_roles(output)}
            modified |= give_roles(roles, site)
            matched.append(site)
        for first, last in _conv_states(model.graph):
            modified |= give_role(first, TensorRole.FIRST_CONV_STATE, str(last.name))
            modified |= give_role(last, TensorRole.LAST_CONV_STATE, str(last.name))
        return Outcome(modified, tuple(matched), tuple(skipped))


def _scans(model: ir.Model) -> Iterable[Found | Skip]:
    for node in all_nodes(model):
        if node.domain != "" or node.op_type not in ("Scan", "Loop"):
            continue
        site, parts = node.name or node.op_type, read_scan(node)
        if node.op_type == "Loop":
            yield Skip(site, "a Loop, not a Scan")
        elif parts is None or len(parts.states) != 1:
            yield Skip(site, "it has not one state")
        else:
            yield _scan(site, parts)


def _scan(site: str, parts: ScanParts) -> Found | Skip:
    along = {item.inner: item.outer for item in parts.inputs}
    state = parts.states[0]
    reads = [(_sum_of(item.inner, state.new), item.outer) for item in parts.outputs]
    read, output = next(((node, outer) for node, outer in reads if node is not None), (None, None))
    step = Step(state.old, state.new, read, lambda value: along.get(value, value))
    roles = step_roles(step)
    if isinstance(roles, str):
        return Skip(site, roles)
    roles |= {TensorRole.FIRST_STATE: state.first, TensorRole.LAST_STATE: state.last}
    return site, roles, output


def _sum_of(value: ir.Value, state: ir.Value) -> ir.Node | None:
    """The node between the state and this output that sums over the state."""
    node = value.producer()
    for _ in range(_FARTHEST):
        if node is None:
            return None
        if _sums(node, state):
            return node
        ahead = [item.producer() for item in node.inputs if item is not None]
        node = next((item for item in ahead if item is not None and _reaches(item, state)), None)
    return None


def _sums(node: ir.Node, state: ir.Value) -> bool:
    if node.op_type == "MatMul":
        return state in node.inputs
    product = node.inputs[0].producer() if node.op_type == "ReduceSum" and node.inputs[0] is not None else None
    return product is not None and product.op_type == "Mul" and state in product.inputs


def _reaches(node: ir.Node, state: ir.Value) -> bool:
    """Whether the node's values come from the state within a few nodes of one graph."""
    waiting = [(node, _FARTHEST)]
    while waiting:
        item, left = waiting.pop()
        if state in item.inputs:
            return True
        if left:
            ahead = [value.producer() for value in item.inputs if value is not None]
            waiting += [(found, left - 1) for found in ahead if found is not None and found.graph is node.graph]
    return False


def _steps(graph: ir.Graph) -> Iterable[Found | Skip]:
    """h -> exp(dt A) h + b between an input and an output of the graph."""
    for output in graph.outputs:
        add = output.producer()
        if add is None or add.op_type != "Add" or add.graph is not graph:
            continue
        old = next((item for side in add.inputs for item in _mul_operands(side) if item.is_graph_input()), None)
        if old is None:
            continue
        readers = [use.node for use in output.uses()]
        behind = [use.node for node in readers if node.op_type == "Mul" for use in node.outputs[0].uses()]
        read = next((node for node in (*readers, *behind) if _sums(node, output)), None)
        roles = step_roles(Step(old, output, read, lambda value: value))
        site = str(output.name)
        if isinstance(roles, str):
            if roles is not NO_EXPONENTIAL:  # any sum of an input and a product looks like a step so far
                yield Skip(site, roles)
            continue
        roles |= {TensorRole.FIRST_STATE: old, TensorRole.LAST_STATE: output}
        yield site, roles, None if read is None else read.outputs[0]


def _mul_operands(value: ir.Value | None) -> list[ir.Value]:
    node = None if value is None else value.producer()
    return [item for item in node.inputs if item is not None] if node is not None and node.op_type == "Mul" else []


def gate_roles(output: ir.Value) -> dict[TensorRole, ir.Value]:
    """z and y * silu(z), a few nodes behind y."""
    value = output
    for _ in range(_FARTHEST):
        readers = [use.node for use in value.uses()]
        product = next((node for node in readers if node.op_type == "Mul"), None)
        if product is not None:
            other = product.inputs[1] if product.inputs[0] is value else product.inputs[0]
            made = None if other is None else other.producer()
            if made is not None and form_of(made) is Form.SILU:
                data = next((item for item in made.inputs if item is not None and not _is_sigmoid(item)), None)
                found = {TensorRole.GATED: product.outputs[0]}
                return found if data is None else {TensorRole.GATE: data, **found}
        node = next((node for node in readers if node.op_type == "Add" or node.op_type in LAYOUT_OPS), None)
        if node is None:
            break
        value = node.outputs[0]
    return {}


def _is_sigmoid(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type == "Sigmoid"


def _conv_states(graph: ir.Graph) -> Iterable[tuple[ir.Value, ir.Value]]:
    """Concat(past, x) -> Conv, and its end -> the next past."""
    for output in graph.outputs:
        cut = output.producer()
        joined = cut.inputs[0].producer() if cut is not None and cut.op_type == "Slice" and cut.inputs[0] else None
        if joined is None or joined.op_type != "Concat":
            continue
        first = joined.inputs[0]
        read = any(use.node.op_type == "Conv" for use in joined.outputs[0].uses())
        if first is not None and first.is_graph_input() and read:
            yield first, output
