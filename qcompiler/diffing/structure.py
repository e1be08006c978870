"""Section "structure": operators added, removed or replaced, attributes, wiring, and links of edges."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable

from qcompiler.diffing.attributes import default_texts, same_attribute
from qcompiler.diffing.changes import Change, Level, Section
from qcompiler.diffing.edits import Edit, edits_of
from qcompiler.diffing.families import operator_name
from qcompiler.diffing.matching import Matching
from qcompiler.diffing.operator_counts import operators_of
from qcompiler.diffing.precision import link_names
from qcompiler.diffing.slots import paired_slots, same_source
from qcompiler.diffing.vertex import Vertex
from qcompiler.diffing.words import counted, few, shortened

_LISTED = 9


def structure_section(matching: Matching, *, explained: bool) -> Section:
    """What was built differently.

    Args:
        explained: Another section already says why operator counts may differ.
    """
    changes = [*_edit_changes(matching), *_attributes(matching), *_wiring(matching), *_links(matching)]
    if not changes and not explained:
        changes = _sharing(matching)
    free = [len([index for index in side if _is_operator(matching, place, index)])
            for place, side in enumerate(matching.free())]  # fmt: skip
    facts = {"matched": sum(ours.node is not None for ours, _ in matching.pairs), "removed": free[0], "added": free[1]}
    return Section("structure", tuple(sorted(changes, key=lambda item: -item.count)), (), facts)


def _is_operator(matching: Matching, place: int, index: int) -> bool:
    return (matching.first, matching.second)[place].vertices[index].node is not None


def _edit_changes(matching: Matching) -> Iterable[Change]:
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Edit]] = defaultdict(list)
    for edit in edits_of(matching):
        groups[edit.removed, edit.added].append(edit)
    for (removed, added), edits in groups.items():
        first = edits[0]
        if removed and added:
            what = f"{_listed(removed)} -> {_listed(added)}"
        else:
            what = f"{'removed' if removed else 'added'} {_listed(removed or added)}"
        where = few(shortened(name) for edit in edits for name in edit.names[:1])
        place = _place(first) if len(edits) == 1 else f"{len(edits)} times: {where}"
        facts = {"kind": "edit", "removed": list(removed), "added": list(added), "places": [
            {"nodes": list(edit.names), "behind": list(edit.behind), "before": list(edit.before)} for edit in edits
        ]}  # fmt: skip
        yield Change(Level.STRUCTURE, f"{what} ({place})", len(edits), facts)


def _place(edit: Edit) -> str:
    parts = [few(edit.names, 1)]
    if edit.behind:
        parts.append(f"behind {few(edit.behind, 1)}")
    if edit.before:
        parts.append(f"before {few(edit.before, 1)}")
    return ", ".join(parts)


def _listed(operators: tuple[str, ...]) -> str:
    return ", ".join(operators) if len(operators) <= _LISTED else f"{len(operators)} operators: {counted(operators)}"


def _attributes(matching: Matching) -> Iterable[Change]:
    groups: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for ours, theirs in matching.pairs:
        if ours.node is None or theirs.node is None:
            continue
        one, other = ours.node, theirs.node
        if operator_name(one.domain, one.op_type) != operator_name(other.domain, other.op_type):
            key = "", "", operator_name(one.domain, one.op_type), operator_name(other.domain, other.op_type)
            groups[key].append(ours.label)
        if ours.form is not None or theirs.form is not None:
            continue
        rank = _rank(ours) or _rank(theirs)
        for name in sorted({*ours.attributes, *theirs.attributes}):
            before, after = _attribute(ours, theirs, name), _attribute(theirs, ours, name)
            if not same_attribute(name, before, after, rank):
                groups[ours.family, name, before, after].append(ours.label)
    for (family, name, before, after), labels in groups.items():
        what = f"{family} {name}: " if family else ""
        what += f"{shortened(before)} -> {shortened(after)} ({few(labels)})"
        facts = {"kind": "attribute", "operator": family, "attribute": name, "before": before, "after": after,
                 "nodes": labels}  # fmt: skip
        yield Change(Level.STRUCTURE, what, len(labels), facts)


def _attribute(vertex: Vertex, partner: Vertex, name: str) -> str:
    """Its text; where only another opset has it, what that opset takes it to be."""
    if name in vertex.attributes or partner.node is None:
        return vertex.attributes.get(name, "")
    return default_texts(partner.node.op_type, partner.node.domain, partner.opset).get(name, "none")


def _rank(vertex: Vertex) -> int | None:
    value = vertex.node.inputs[0] if vertex.node is not None and vertex.node.inputs else None
    return None if value is None or value.shape is None else len(value.shape)


def _wiring(matching: Matching) -> Iterable[Change]:
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for ours, theirs in matching.pairs:
        if ours.form is not None or theirs.form is not None:
            continue
        for slot, what in _rewired(matching, ours, theirs):
            groups[ours.family, _place_word(slot), what].append(ours.label)
    for (family, place, what), labels in groups.items():
        facts = {"kind": "wiring", "operator": family, "input": place, "what": what, "nodes": labels}
        yield Change(Level.STRUCTURE, f"{place} of {family} {few(labels)} {what}", len(labels), facts)


def _rewired(matching: Matching, ours: Vertex, theirs: Vertex) -> Iterable[tuple[object, str]]:
    """Inputs that read something else, came or went, where no edit explains that."""
    pairs = list(paired_slots(matching, ours, theirs))
    for slot, other in pairs:
        edge, their_edge = ours.edges[slot], theirs.edges[other]
        if edge.source is None and their_edge.source is None:
            continue
        if same_source(matching, edge, their_edge) or _edited(matching, edge.source, their_edge.source):
            continue
        before = _origin(matching.first.vertices, edge.source, str(edge.value.name))
        after = _origin(matching.second.vertices, their_edge.source, str(their_edge.value.name))
        yield slot, f"reads {after}, read {before}"
    used = {slot for slot, _ in pairs}, {other for _, other in pairs}
    for slot in ours.edges:
        if slot not in used[0] and not _free_source(matching.to_second, ours, slot):
            yield slot, "is gone"
    for slot in theirs.edges:
        if slot not in used[1] and not _free_source(matching.to_first, theirs, slot):
            yield slot, "is new"


def _place_word(slot: object) -> str:
    return " ".join(map(str, slot)) if isinstance(slot, tuple) else f"input {slot}"


def _edited(matching: Matching, source: int | None, other: int | None) -> bool:
    """Whether an edit explains it: one of the sources has no partner."""
    removed = source is not None and matching.to_second[source] < 0
    added = other is not None and matching.to_first[other] < 0
    return removed or added


def _free_source(partner: list[int], vertex: Vertex, slot: object) -> bool:
    source = vertex.edges[slot].source
    return source is not None and partner[source] < 0


def _origin(vertices: list[Vertex], source: int | None, name: str) -> str:
    return f"constant {shortened(name)}" if source is None else shortened(vertices[source].label)


def _links(matching: Matching) -> Iterable[Change]:
    """Casts and Identities that came or went between partners."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    seen: set[Hashable] = set()
    for ours, theirs in matching.pairs:
        if ours.form is not None or theirs.form is not None:
            continue
        for slot, other in paired_slots(matching, ours, theirs):
            edge, their_edge = ours.edges[slot], theirs.edges[other]
            before, after = Counter(link_names(edge)), Counter(link_names(their_edge))
            key = tuple(map(id, edge.links)), tuple(map(id, their_edge.links))
            if before == after or key in seen:
                continue
            seen.add(key)
            for word, difference in (("removed", before - after), ("added", after - before)):
                for operator in difference:
                    groups[word, operator].append(f"{ours.label}[{slot}]")
    for (word, operator), places in groups.items():
        facts = {"kind": "links", "what": word, "operator": operator, "places": places}
        what = f"{word} {operator} on the way to {few(places)}"
        yield Change(Level.STRUCTURE, what, len(places), facts)


def _sharing(matching: Matching) -> list[Change]:
    """Equal edges from other counts of nodes: one pair for all readers, or one each."""
    ours, theirs = operators_of(matching.first.model), operators_of(matching.second.model)
    if ours == theirs:
        return []
    differing = (name for name in sorted({*ours, *theirs}) if ours[name] != theirs[name])
    words = [f"{name} {ours[name]} -> {theirs[name]}" for name in differing]
    facts = {"kind": "sharing", "counts": words}
    return [Change(Level.STRUCTURE, f"the same computation from other counts of nodes: {', '.join(words)}", 1, facts)]
