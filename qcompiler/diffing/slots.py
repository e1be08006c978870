"""Which input of one vertex is which input of its partner."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.diffing.matching import Matching
from qcompiler.diffing.vertex import Edge, Vertex


def paired_slots(matching: Matching, ours: Vertex, theirs: Vertex) -> Iterator[tuple[object, object]]:
    """Slots of both; where order does not matter, those that read the same come together first."""
    if not ours.commutes:
        yield from ((slot, slot) for slot in ours.edges if slot in theirs.edges)
        return
    left = list(theirs.edges)
    unsure = []
    for slot, edge in ours.edges.items():
        found = next((other for other in left if same_source(matching, edge, theirs.edges[other])), None)
        if found is None:
            unsure.append(slot)
        else:
            left.remove(found)
            yield slot, found
    for slot in unsure:
        constant = ours.edges[slot].constant is not None
        found = next((other for other in left if (theirs.edges[other].constant is not None) == constant), None)
        if found is not None:
            left.remove(found)
            yield slot, found


def same_source(matching: Matching, edge: Edge, other: Edge) -> bool:
    """Whether both read the same: outputs of partners, or equal constants."""
    if edge.source is not None:
        return other.source is not None and matching.to_second[edge.source] == other.source and edge.port == other.port
    if edge.constant is None or other.constant is None:
        return edge.constant is other.constant
    if edge.constant.dtype != other.constant.dtype or edge.constant.shape != other.constant.shape:
        return False
    return matching.first.digest(edge.constant) == matching.second.digest(other.constant)
