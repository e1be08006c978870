"""Pairing of vertices that look alike: class by class, and within a class by how well neighbours agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import islice

from qcompiler.diffing.growth import spread
from qcompiler.diffing.matching import Matching
from qcompiler.diffing.vertex import Vertex

_TRIED = 16


def pair_classes(
    matching: Matching,
    ours: Mapping[int, Hashable],
    theirs: Mapping[int, Hashable],
    labels: tuple[Sequence[int], Sequence[int]],
    *,
    once: bool,
) -> bool:
    """Pair the members of equal classes of equal size; of size 1 only where `once`.

    Classes of size 1 come first. In larger ones each member takes the free partner whose neighbours agree best with
    the pairs so far, and that choice spreads along the edges before the next is made: copies stay together.

    Args:
        ours: Vertex to class, in the order in which choices are made.
        labels: What neighbours must share for a choice to spread.
    """
    mine, others = _members(ours), _members(theirs)
    equal = [(members, others[key]) for key, members in mine.items() if len(members) == len(others.get(key, ()))]
    known = len(matching)
    for members, partners in equal:
        if len(members) == 1:
            matching.add(members[0], partners[0])
    if once:
        return len(matching) > known
    spread(matching, labels, known)
    for members, partners in equal:
        left = dict.fromkeys(partners)
        for one in members:
            if matching.to_second[one] >= 0:
                continue
            candidates = _free(matching, left)
            if candidates:
                start = len(matching)
                scores = [_agreement(matching, one, other) for other in candidates]
                matching.add(one, candidates[scores.index(max(scores))])
                spread(matching, labels, start)
    return len(matching) > known


def _members(classes: Mapping[int, Hashable]) -> dict[Hashable, list[int]]:
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in classes.items():
        found[key].append(index)
    return found


def _free(matching: Matching, left: dict[int, None]) -> list[int]:
    """Some free vertices of `left`, which forgets the others that it meets."""
    found = []
    for other in list(islice(left, 4 * _TRIED)):
        if matching.to_first[other] >= 0:
            del left[other]
        else:
            found.append(other)
    return found[:_TRIED]


def _agreement(matching: Matching, one: int, other: int) -> int:
    """Neighbours that are pairs at the same place, less neighbours whose partners are not there."""
    ours, theirs = matching.first.vertices[one], matching.second.vertices[other]
    read = {(_slot(theirs, slot), edge.port, edge.source) for slot, edge in theirs.edges.items()}
    score = 0
    for slot, edge in ours.edges.items():
        if edge.source is not None and matching.to_second[edge.source] >= 0:
            found = (_slot(ours, slot), edge.port, matching.to_second[edge.source]) in read
            score += 1 if found else -1
    readers = {(reader, _slot(matching.second.vertices[reader], slot), port) for reader, slot, port in theirs.readers}
    for reader, slot, port in ours.readers:
        partner = matching.to_second[reader]
        if partner >= 0:
            score += 1 if (partner, _slot(matching.first.vertices[reader], slot), port) in readers else -1
    return score


def _slot(vertex: Vertex, slot: object) -> object:
    return "" if vertex.commutes else slot
