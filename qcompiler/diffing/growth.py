"""Growth of pairs along edges: what partners read at one place, and what reads them there, where that is unique."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence

from qcompiler.diffing.labels import Strictness
from qcompiler.diffing.matching import Matching
from qcompiler.diffing.skeleton import Skeleton
from qcompiler.diffing.vertex import Vertex

Labels = Mapping[Strictness, tuple[Sequence[int], Sequence[int]]]


def grow(matching: Matching, labels: Labels, up_to: Strictness) -> None:
    """Grow with strict labels as far as that goes before looser ones are tried."""
    level = Strictness.EXACT
    while level <= up_to:
        before = len(matching)
        spread(matching, labels[level], 0)
        if level > Strictness.EXACT and len(matching) > before:
            level = Strictness.EXACT
        elif level == up_to:
            return
        else:
            level = Strictness(level + 1)


def spread(matching: Matching, labels: tuple[Sequence[int], Sequence[int]], start: int) -> None:
    """Grow from the pairs made since there were `start` of them, and from those that this makes."""
    queue = deque(matching.since(start))
    while queue:
        one, other = queue.popleft()
        known = len(matching)
        for candidates in _neighbours(matching, one, other, labels):
            matching.add(*candidates)
        queue.extend(matching.since(known))


def _neighbours(
    matching: Matching, one: int, other: int, labels: tuple[Sequence[int], Sequence[int]]
) -> Iterable[tuple[int, int]]:
    ours, theirs = matching.first.vertices[one], matching.second.vertices[other]
    yield from _unique(_sources(matching.to_second, ours, labels[0]), _sources(matching.to_first, theirs, labels[1]))
    yield from _unique(
        _readers(matching.first, matching.to_second, ours, labels[0]),
        _readers(matching.second, matching.to_first, theirs, labels[1]),
    )
    if ours.owner is not None and theirs.owner is not None and ours.scope == theirs.scope:
        yield ours.owner, theirs.owner
    for key, inner in ours.boundary.items():
        if key in theirs.boundary:
            yield inner, theirs.boundary[key]


def _sources(partner: Sequence[int], vertex: Vertex, labels: Sequence[int]) -> dict[Hashable, set[int]]:
    found: dict[Hashable, set[int]] = defaultdict(set)
    for slot, edge in vertex.edges.items():
        if edge.source is not None and partner[edge.source] < 0:
            found["" if vertex.commutes else slot, edge.port, labels[edge.source]].add(edge.source)
    return found


def _readers(
    skeleton: Skeleton, partner: Sequence[int], vertex: Vertex, labels: Sequence[int]
) -> dict[Hashable, set[int]]:
    found: dict[Hashable, set[int]] = defaultdict(set)
    for reader, slot, port in vertex.readers:
        if partner[reader] < 0:
            found["" if skeleton.vertices[reader].commutes else slot, port, labels[reader]].add(reader)
    return found


def _unique(
    ours: Mapping[Hashable, set[int]], theirs: Mapping[Hashable, set[int]]
) -> Iterable[tuple[int, int]]:
    for key, members in ours.items():
        partners = theirs.get(key, set())
        if len(members) == 1 and len(partners) == 1:
            yield next(iter(members)), next(iter(partners))
