"""Scan nodes read as states, inputs and outputs, and written again."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph import rank


@dataclass(slots=True)
class State:
    """A carried tensor: before the first step, inside at begin and end of a step, after the last step."""

    first: ir.Value
    old: ir.Value
    new: ir.Value
    last: ir.Value


@dataclass(slots=True)
class Along:
    """A tensor that goes along time: outside with the time axis, inside without.

    Attributes:
        axis: Where time is outside, counted from the front.
        backwards: Step t sees (or writes) index T - 1 - t.
    """

    outer: ir.Value
    inner: ir.Value
    axis: int = 0
    backwards: bool = False


@dataclass(slots=True)
class ScanParts:
    """A Scan taken apart; `write_scan` puts changed lists into effect."""

    node: ir.Node
    body: ir.Graph
    states: list[State]
    inputs: list[Along]
    outputs: list[Along]

    def inside(self, value: ir.Value) -> bool:
        """Whether the value is computed anew in each step."""
        producer = value.producer()
        return producer.graph is self.body if producer is not None else any(value is i for i in self.body.inputs)


def read_scan(node: ir.Node) -> ScanParts | None:
    """The parts of a Scan (opset 9 and later); None for other nodes, and where an axis cannot be resolved."""
    if node.op_type != "Scan" or node.domain != "" or "num_scan_inputs" not in node.attributes:
        return None
    body = node.attributes["body"].as_graph()
    count = node.attributes.get_int("num_scan_inputs", 0)
    held = len(node.inputs) - count
    if any(value is None for value in node.inputs) or len(body.inputs) != len(node.inputs):
        return None
    outer = [value for value in node.inputs if value is not None]
    states = [State(outer[i], body.inputs[i], body.outputs[i], node.outputs[i]) for i in range(held)]
    inputs = _along(node, "input", outer[held:], list(body.inputs)[held:])
    outputs = _along(node, "output", list(node.outputs)[held:], list(body.outputs)[held:])
    if inputs is None or outputs is None:
        return None
    return ScanParts(node, body, states, inputs, outputs)


def _along(node: ir.Node, kind: str, outer: list[ir.Value], inner: list[ir.Value]) -> list[Along] | None:
    axes, directions = (_ints(node, f"scan_{kind}_{name}", len(outer)) for name in ("axes", "directions"))
    found = []
    for place, value in enumerate(outer):
        axis = axes[place]
        if axis < 0:
            inside = rank(inner[place])
            dims = rank(value) if inside is None else inside + 1
            if dims is None:
                return None
            axis += dims
        found.append(Along(value, inner[place], axis, bool(directions[place])))
    return found


def _ints(node: ir.Node, name: str, count: int) -> list[int]:
    attribute = node.attributes.get(name)
    held = [] if attribute is None else list(attribute.as_ints())
    return held or [0] * count


def write_scan(parts: ScanParts) -> ir.Node:
    """A new Scan node in the old one's place, with the parts' lists; the body is the same object, edited.

    Inner values named in `parts` must be the body's own. An outer output that no list names any more must have no
    readers left.
    """
    old, body = parts.node, parts.body
    graph = old.graph
    assert graph is not None
    inner_inputs = [item.old for item in parts.states] + [item.inner for item in parts.inputs]
    inner_outputs = [item.new for item in parts.states] + [item.inner for item in parts.outputs]
    body.inputs[:] = inner_inputs
    body.outputs[:] = inner_outputs
    attributes = {
        "body": ir.AttrGraph("body", body),
        "num_scan_inputs": ir.AttrInt64("num_scan_inputs", len(parts.inputs)),
    }
    for kind, items in (("input", parts.inputs), ("output", parts.outputs)):
        if items:
            attributes[f"scan_{kind}_axes"] = ir.AttrInt64s(f"scan_{kind}_axes", [item.axis for item in items])
            directions = [int(item.backwards) for item in items]
            attributes[f"scan_{kind}_directions"] = ir.AttrInt64s(f"scan_{kind}_directions", directions)
    del old.attributes["body"]
    before = [item.first for item in parts.states] + [item.outer for item in parts.inputs]
    after = [item.last for item in parts.states] + [item.outer for item in parts.outputs]
    new = ir.Node("", "Scan", before, attributes, num_outputs=len(after), name=old.name)
    new.metadata_props.update(old.metadata_props)
    graph.insert_after(old, new)
    for value, made in zip(after, new.outputs, strict=True):
        made.type, made.shape, name = value.type, value.shape, value.name
        made.metadata_props.update(value.metadata_props)
        value.metadata_props.clear()
        value.replace_all_uses_with(made, replace_graph_outputs=True)
        value.name = None
        made.name = name
    graph.remove(old, safe=True)
    parts.node = new
    for state, made in zip(parts.states, new.outputs, strict=False):
        state.last = made
    for item, made in zip(parts.outputs, list(new.outputs)[len(parts.states) :], strict=True):
        item.outer = made
    return new


def settle_sizes(parts: ScanParts) -> bool:
    """Sizes that are known outside of the body are known inside; inference looks only from outside in.

    Returns:
        Whether anything was learnt: shapes inside should be inferred again.
    """
    pairs = [(state.first.shape, state.old) for state in parts.states]
    for item in parts.inputs:
        sizes = None if item.outer.shape is None else list(item.outer.shape)
        pairs.append((None if sizes is None else ir.Shape(sizes[: item.axis] + sizes[item.axis + 1 :]), item.inner))
    changed = False
    for outer, inner in pairs:
        if outer is None or (inner.shape is not None and len(inner.shape) != len(outer)):
            continue
        before = list(outer) if inner.shape is None else list(inner.shape)
        after = [size if isinstance(size, int) else old for size, old in zip(outer, before, strict=True)]
        if inner.shape is None or after != before:
            inner.shape, changed = ir.Shape(after), True
    return changed


def drop_unused_inputs(parts: ScanParts) -> bool:
    """Scan inputs that no step reads leave the lists, but for one, which says how many steps there are."""
    used = [item for item in parts.inputs if item.inner.uses() or item.inner.is_graph_output()]
    kept = used or parts.inputs[:1]
    changed = len(kept) < len(parts.inputs)
    parts.inputs = kept
    return changed


def drop_dead_steps(body: ir.Graph) -> None:
    """Nodes of the body whose results nobody reads."""
    for node in reversed(list(body)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            body.remove(node, safe=True)
