"""Section "quantization": coverage, precisions that changed, scales and zero points that moved, new float islands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from qcompiler.diffing.changes import Change, Level, Section
from qcompiler.diffing.families import LAYOUT, WEIGHTED
from qcompiler.diffing.islands import float_islands
from qcompiler.diffing.matching import Matching
from qcompiler.diffing.precision import Array, Grid, Precision, compute_slots, is_integer, precision
from qcompiler.diffing.skeleton import Skeleton
from qcompiler.diffing.slots import paired_slots
from qcompiler.diffing.vertex import OUTPUT, Edge, Vertex
from qcompiler.diffing.words import counted, few, number, percent


def quantization_section(matching: Matching, tolerance: float) -> Section:
    """Precision by operator and scale by edge.

    Args:
        tolerance: Largest |after - before| / before of a scale that is no change.
    """
    integer = [[is_integer(side, vertex) for vertex in side.vertices] for side in (matching.first, matching.second)]
    changes = [*_precisions(matching), *_islands(matching, integer), *_scales(matching, tolerance)]
    rows, coverage = _coverage(matching, integer)
    offsets = [_offsets(side) for side in (matching.first, matching.second)]
    facts = {"coverage": coverage, "tolerance": tolerance, "nonzero_zero_points": {
        "before": len(offsets[0]), "after": len(offsets[1]), "examples": sorted(offsets[1])[:20]}}  # fmt: skip
    notes = []
    if offsets[0] or offsets[1]:
        notes.append(f"zero points that are not 0: {len(offsets[0])} -> {len(offsets[1])}")
    return Section("quantization", tuple(changes), tuple(notes), facts, rows)


def _precisions(matching: Matching) -> list[Change]:
    groups: dict[tuple[str, str], list[tuple[Vertex, Vertex]]] = defaultdict(list)
    for ours, theirs in matching.pairs:
        if ours.family in LAYOUT:  # what they read shows at their readers
            continue
        before, after = (
            _state(side, vertex)
            for side, vertex in ((matching.first, ours), (matching.second, theirs))
        )
        if before and after and not _alike(before, after):
            groups[_words(ours, before), _words(theirs, after)].append((ours, theirs))
    changes = []
    for (before_words, after_words), pairs in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        operators = counted(ours.family for ours, _ in pairs)
        names = few(ours.label for ours, _ in pairs)
        what = f"{before_words} -> {after_words}: {operators} ({names})"
        facts = {"kind": "precision", "before": before_words, "after": after_words,
                 "operators": [[ours.family, ours.label, theirs.label] for ours, theirs in pairs]}  # fmt: skip
        changes.append(Change(Level.PRECISION, what, len(pairs), facts))
    return changes


def _state(skeleton: Skeleton, vertex: Vertex) -> list[Precision]:
    return [precision(skeleton, vertex, slot) for slot in compute_slots(skeleton, vertex)]


def _words(vertex: Vertex, state: Sequence[Precision]) -> str:
    words = [item.word for item in state]
    return " x ".join(words) if vertex.family in WEIGHTED else ", ".join(dict.fromkeys(words))


def _alike(before: Sequence[Precision], after: Sequence[Precision]) -> bool:
    """Equal words in any order; what is unknown on one side is no change, nor are codes told from unknown numbers."""
    if len(before) != len(after):
        return sorted({item.word for item in before}) == sorted({item.word for item in after})
    ones, others = sorted(before, key=_word), sorted(after, key=_word)
    return all(
        one.word == other.word or (one.quantized == other.quantized and not (one.type and other.type))
        for one, other in zip(ones, others, strict=True)
    )


def _word(item: Precision) -> str:
    return item.word


def _islands(matching: Matching, integer: Sequence[Sequence[bool]]) -> list[Change]:
    """Islands of the second model in which something was integer in the first; named as there."""
    second = matching.second
    islands = []
    for island in float_islands(second, integer[1]):
        lost = [matching.to_first[index] for index in island if second.vertices[index].family not in (*LAYOUT, OUTPUT)]
        lost = [index for index in lost if index >= 0 and integer[0][index]]
        if lost:
            islands.append([matching.first.vertices[index].label for index in lost])
    if not islands:
        return []
    word = "new float island" if len(islands) == 1 else f"{len(islands)} new float islands"
    what = f"{word} between integer operators: {few(name for names in islands for name in names)}"
    return [Change(Level.PRECISION, what, len(islands), {"kind": "float_islands", "islands": islands})]


def _scales(matching: Matching, tolerance: float) -> list[Change]:
    """One change for each quantizer that moved, with all its readers."""
    found: dict[object, tuple[float, str, dict[str, object]]] = {}
    readers: dict[object, list[str]] = defaultdict(list)
    for ours, theirs in matching.pairs:
        if ours.form is not theirs.form:  # other kernels fold scales into one another
            continue
        for slot, other in paired_slots(matching, ours, theirs):
            before = precision(matching.first, ours, slot, 0)
            after = precision(matching.second, theirs, other, 0)
            if not (before.quantized and after.quantized) or before.word != after.word:
                continue
            moved = _moved(before.grids, after.grids, tolerance)
            if moved is None:
                continue
            key = _origin(ours.edges[slot])
            found.setdefault(key, (*moved, {"source": _source_label(matching.first, ours.edges[slot])}))
            readers[key].append(f"{ours.label}[{slot}]")
    changes = []
    for key, (drift, words, facts) in sorted(found.items(), key=lambda item: -item[1][0]):
        what = f"{facts['source']}: {words}, read by {few(readers[key])}"
        known = {"kind": "scale", "drift": None if np.isinf(drift) else float(f"{drift:.6g}"), "readers": readers[key]}
        changes.append(Change(Level.SCALES, what, 1, {**facts, **known}))
    return changes


def _moved(before: Sequence[Grid], after: Sequence[Grid], tolerance: float) -> tuple[float, str] | None:
    """The largest drift and its words; None where nothing moved further than the tolerance."""
    if len(before) != len(after):
        before, after = before[-1:], after[-1:]
    worst: tuple[float, str] | None = None
    for one, other in zip(before, after, strict=True):
        if one.scale is not None and other.scale is not None and one.scale.size == other.scale.size:
            drift, words = _drift(one.scale, other.scale)
            if drift > tolerance and (worst is None or drift > worst[0]):
                worst = drift, words
        zeros = [np.asarray(0 if item.zero is None else item.zero) for item in (one, other)]
        if np.any(np.not_equal(*zeros)):
            ends = [str(int(zero.reshape(-1)[0])) for zero in zeros]
            worst = np.inf, f"zero point {ends[0]} -> {ends[1]}" + (f", {worst[1]}" if worst else "")
    return worst


def _drift(one: Array, other: Array) -> tuple[float, str]:
    before, after = one.astype(np.float64).reshape(-1), other.astype(np.float64).reshape(-1)
    ratios = (after - before) / np.where(before == 0, np.finfo(np.float32).tiny, before)
    place = int(np.argmax(np.abs(ratios)))
    text = f"scale {number(before[place])} -> {number(after[place])} ({percent(ratios[place])})"
    if before.size > 1:
        text += f" at channel {place} of {before.size}"
    return float(abs(ratios[place])), text


def _origin(edge: Edge) -> object:
    for link in reversed(edge.links):
        if link.op_type in ("DequantizeLinear", "QuantizeLinear"):
            return id(link)
    return id(edge.constant) if edge.source is None else (edge.source, edge.port)


def _source_label(skeleton: Skeleton, edge: Edge) -> str:
    if edge.source is None:
        return edge.links[0].inputs[0].name or "constant" if edge.links and edge.links[0].inputs[0] else str(
            edge.value.name
        )
    return skeleton.vertices[edge.source].label


def _coverage(
    matching: Matching, integer: Sequence[Sequence[bool]]
) -> tuple[tuple[tuple[str, str, str], ...], dict[str, dict[str, list[int]]]]:
    counts: dict[str, list[list[int]]] = {}
    for place, (side, states) in enumerate(zip((matching.first, matching.second), integer, strict=True)):
        for vertex in side.vertices:
            if vertex.family in WEIGHTED:
                entry = counts.setdefault(vertex.family, [[0, 0], [0, 0]])[place]
                entry[0] += states[vertex.index]
                entry[1] += 1
    rows = tuple(
        (f"integer {family}", f"{before[0]} of {before[1]}", f"{after[0]} of {after[1]}")
        for family, (before, after) in sorted(counts.items())
        if before[0] or after[0]
    )
    return rows, {family: {"before": one, "after": other} for family, (one, other) in sorted(counts.items())}


def _offsets(skeleton: Skeleton) -> set[str]:
    """Sources of activations that are read with a zero point other than 0."""
    found = set()
    for vertex in skeleton.vertices:
        for slot, edge in vertex.edges.items():
            if edge.source is None or not isinstance(slot, int):
                continue
            state = precision(skeleton, vertex, slot, 0)
            if state.quantized and any(grid.zero is not None and np.any(grid.zero != 0) for grid in state.grids):
                found.add(f"{skeleton.vertices[edge.source].label}:{edge.port}")
    return found
