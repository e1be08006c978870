"""Section "names": names of nodes, values and constants, and who produced the file."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from qcompiler.diffing.changes import Change, Level, Section
from qcompiler.diffing.matching import Matching
from qcompiler.diffing.slots import paired_slots
from qcompiler.diffing.vertex import Edge
from qcompiler.diffing.words import few, shortened


def names_section(matching: Matching) -> Section:
    """How many of each kind bear another name, with examples."""
    found: dict[str, dict[str, str]] = {"nodes": {}, "values": {}, "constants": {}}
    for kind, before, after in _named(matching):
        if before != after:
            found[kind].setdefault(before, after)
    changes = []
    for kind, renamed in found.items():
        if renamed:
            examples = few([f"{shortened(old, 30)} -> {shortened(new, 30)}" for old, new in renamed.items()], 1)
            what = f"{len(renamed)} {kind} renamed: {examples}"
            facts = {"kind": kind, "count": len(renamed), "examples": dict(list(renamed.items())[:20])}
            changes.append(Change(Level.NAMES, what, len(renamed), facts))
    changes += _producer(matching.first.model, matching.second.model)
    return Section("names", tuple(changes))


def partners(matching: Matching) -> dict[str, str]:
    """Names of nodes, values and constants of the first model to those of the second."""
    return {before: after for _, before, after in _named(matching)}


def _named(matching: Matching) -> Iterator[tuple[str, str, str]]:
    for ours, theirs in matching.pairs:
        if ours.node is not None and theirs.node is not None:
            if ours.node.name and theirs.node.name:
                yield "nodes", ours.node.name, theirs.node.name
            if ours.form is None and theirs.form is None:
                for one, other in zip(ours.node.outputs, theirs.node.outputs, strict=False):
                    yield from _values(one, other)
        for slot, other_slot in paired_slots(matching, ours, theirs):
            edge, other_edge = ours.edges[slot], theirs.edges[other_slot]
            if edge.constant is not None and other_edge.constant is not None:
                name, other_name = _start(edge), _start(other_edge)
                if name and other_name:
                    yield "constants", name, other_name
            if len(edge.links) != len(other_edge.links):
                continue
            for link, other_link in zip(edge.links, other_edge.links, strict=True):
                if link.op_type != other_link.op_type:
                    continue
                if link.name and other_link.name:
                    yield "nodes", link.name, other_link.name
                yield from _values(link.outputs[0], other_link.outputs[0])
                for grid, other_grid in zip(link.inputs[1:], other_link.inputs[1:], strict=False):
                    if grid is not None and other_grid is not None and grid.name and other_grid.name:
                        yield "constants", grid.name, other_grid.name


def _start(edge: Edge) -> str | None:
    value = edge.links[0].inputs[0] if edge.links else edge.value
    return None if value is None else value.name


def _values(one: ir.Value, other: ir.Value) -> Iterator[tuple[str, str, str]]:
    if one.name and other.name and not (one.is_graph_output() or other.is_graph_output()):
        yield "values", one.name, other.name


def _producer(first: ir.Model, second: ir.Model) -> list[Change]:
    ours, theirs = _origin(first), _origin(second)
    changes = []
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            what = f"{key}: {shortened(ours.get(key) or 'none')} -> {shortened(theirs.get(key) or 'none')}"
            facts = {"kind": "metadata", "key": key, "before": ours.get(key), "after": theirs.get(key)}
            changes.append(Change(Level.NAMES, what, 1, facts))
    return changes


def _origin(model: ir.Model) -> dict[str, str]:
    producer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    found = {"producer": producer} if producer else {}
    return {**found, **{f"metadata {key}": str(value) for key, value in model.metadata_props.items()}}
