"""Section "interface": what callers and runtimes depend on: inputs, outputs, types, shapes, opsets."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qcompiler.diffing.changes import Change, Level, Section
from qcompiler.diffing.matching import Matching
from qcompiler.diffing.precision import type_name
from qcompiler.diffing.vertex import INPUT, OUTPUT, Vertex
from qcompiler.diffing.words import few, shape


def interface_section(matching: Matching) -> Section:
    """Differences of inputs, outputs, opset imports and IR version."""
    first, second = matching.first.model, matching.second.model
    changes: list[Change] = []
    for family, word in ((INPUT, "input"), (OUTPUT, "output")):
        changes += _values(matching, family, word)
    ours, theirs = _opsets(first), _opsets(second)
    for domain in sorted({*ours, *theirs}):
        if ours.get(domain) != theirs.get(domain):
            before, after = ours.get(domain), theirs.get(domain)
            facts = {"kind": "opset", "domain": domain, "before": before, "after": after}
            what = f"opset {domain}: {_or_none(before)} -> {_or_none(after)}"
            changes.append(Change(Level.INTERFACE, what, 1, facts))
    if first.ir_version != second.ir_version:
        facts = {"kind": "ir_version", "before": first.ir_version, "after": second.ir_version}
        what = f"IR version: {first.ir_version} -> {second.ir_version}"
        changes.append(Change(Level.INTERFACE, what, 1, facts))
    return Section("interface", tuple(changes))


def _values(matching: Matching, family: str, word: str) -> list[Change]:
    ours, theirs = (
        [vertex for vertex in side.vertices if vertex.family == family and vertex.owner is None and not vertex.scope]
        for side in (matching.first, matching.second)
    )
    changes = []
    common = []
    for vertex in ours:
        partner = matching.to_second[vertex.index]
        if partner < 0:
            what = f"{word} {vertex.label!r} is gone: {_signature(vertex)}"
            changes.append(_change(what, word, vertex.label, None))
            continue
        common.append((vertex, matching.second.vertices[partner]))
        changes += _signature_changes(word, *common[-1])
    for vertex in theirs:
        if matching.to_first[vertex.index] < 0:
            what = f"{word} {vertex.label!r} is new: {_signature(vertex)}"
            changes.append(_change(what, word, None, vertex.label))
    places = [other.place for _, other in common]
    if places != sorted(places):
        what = f"{word}s in another order: {few((other.label for _, other in sorted(common, key=_place)), 6)}"
        changes.append(_change(what, word, None, None))
    return changes


def _place(pair: tuple[Vertex, Vertex]) -> int:
    return pair[1].place


def _signature_changes(word: str, ours: Vertex, theirs: Vertex) -> list[Change]:
    changes = []
    if ours.label != theirs.label:
        changes.append(_change(f"{word} {ours.label!r} is now called {theirs.label!r}", word, ours.label, theirs.label))
    before, after = (type_name(vertex.value.dtype if vertex.value else None) for vertex in (ours, theirs))
    if before != after:
        changes.append(_change(f"{word} {ours.label!r}: {before} -> {after}", word, before, after))
    one, other = _sizes(ours), _sizes(theirs)
    if _fixed(one) != _fixed(other):
        what = f"{word} {ours.label!r}: {shape(one)} -> {shape(other)}"
        changes.append(_change(what, word, shape(one), shape(other)))
    return changes


def _change(what: str, word: str, before: str | None, after: str | None) -> Change:
    return Change(Level.INTERFACE, what, 1, {"kind": word, "before": before, "after": after})


def _signature(vertex: Vertex) -> str:
    return f"{type_name(vertex.value.dtype if vertex.value else None)}{shape(_sizes(vertex))}"


def _sizes(vertex: Vertex) -> list[object] | None:
    if vertex.value is None or vertex.value.shape is None:
        return None
    return [size if isinstance(size, int) else size.value for size in vertex.value.shape]


def _fixed(sizes: Sequence[object] | None) -> list[int | None] | None:
    """Sizes that vary have names that nothing depends on."""
    return None if sizes is None else [size if isinstance(size, int) else None for size in sizes]


def _opsets(model: ir.Model) -> dict[str, int]:
    return {domain or "ai.onnx": version for domain, version in model.opset_imports.items()}


def _or_none(version: int | None) -> str:
    return "not imported" if version is None else str(version)
