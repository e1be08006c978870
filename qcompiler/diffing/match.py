"""Which vertex of one model is which of the other: from hashes of everything around, and by growth from pairs found.

Four rounds, from strict labels to loose ones. In each, vertices whose surroundings occur once on both sides become
pairs, and pairs grow along edges. Then layers are aligned by the shapes of their weights, surroundings that occur
equally often are paired in the order of the walk, and what is left is aligned where neighbours are pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from qcompiler.diffing.alignment import align_layers, align_rest
from qcompiler.diffing.classes import pair_classes
from qcompiler.diffing.growth import grow
from qcompiler.diffing.labels import Numbers, Strictness, labels_of, link_marks
from qcompiler.diffing.matching import Matching
from qcompiler.diffing.neighbourhood import Marks, hashes_above, hashes_around, hashes_below
from qcompiler.diffing.skeleton import Skeleton
from qcompiler.diffing.vertex import INPUT, OUTPUT, Vertex

_STEPS = (6, 3, 1)
Labels = tuple[Sequence[int], Sequence[int]]


def match(first: Skeleton, second: Skeleton) -> Matching:
    """Pair vertices; what stays without a partner was removed or added."""
    matching, numbers = Matching(first, second), Numbers()
    _seed(matching)
    labels, marks = {}, {}
    for strictness in Strictness:
        labels[strictness] = labels_of(first, strictness, numbers), labels_of(second, strictness, numbers)
        marks[strictness] = link_marks(first, strictness, numbers), link_marks(second, strictness, numbers)
        _by_everything(matching, labels[strictness], numbers, marks[strictness])
        grow(matching, labels, strictness)
        for steps in _STEPS:
            if strictness is not Strictness.OPERATOR and _by_surroundings(
                matching, labels[strictness], numbers, marks[strictness], steps, once=True
            ):
                grow(matching, labels, strictness)
        if not all(matching.free()):
            return matching  # one side has found all its partners
    align_layers(matching)
    grow(matching, labels, Strictness.OPERATOR)
    for strictness in Strictness:
        for steps in (*_STEPS, 0) if strictness < Strictness.BARE else (2,):
            if _by_surroundings(matching, labels[strictness], numbers, marks[strictness], steps, once=False):
                grow(matching, labels, Strictness.OPERATOR)
    align_rest(matching)
    grow(matching, labels, Strictness.OPERATOR)
    return matching


def _seed(matching: Matching) -> None:
    """Inputs and outputs of the model and of functions: by name, then by position."""
    for family in (INPUT, OUTPUT):
        sides = [
            [vertex for vertex in skeleton.vertices if vertex.family == family and vertex.owner is None]
            for skeleton in (matching.first, matching.second)
        ]
        for key in (_by_name, _by_place):
            theirs = {key(vertex): vertex for vertex in sides[1] if matching.to_first[vertex.index] < 0}
            for vertex in sides[0]:
                if matching.to_second[vertex.index] < 0 and key(vertex) in theirs:
                    matching.add(vertex.index, theirs[key(vertex)].index)


def _by_name(vertex: Vertex) -> Hashable:
    return vertex.scope, vertex.label


def _by_place(vertex: Vertex) -> Hashable:
    return vertex.scope, vertex.place


def _by_everything(matching: Matching, labels: Labels, numbers: Numbers, marks: tuple[Marks, Marks]) -> None:
    """Pairs of vertices with all above and all below alike; then with all above, or all below, where that is unique."""
    sides = (matching.first, matching.second)
    above = [hashes_above(sides[place], labels[place], numbers, marks[place]) for place in (0, 1)]
    below = [hashes_below(sides[place], labels[place], numbers, marks[place]) for place in (0, 1)]
    both = [[numbers(pair) for pair in zip(*hashes, strict=True)] for hashes in zip(above, below, strict=True)]
    for hashes, once in ((both, False), (above, True), (below, True)):
        free = matching.free()
        ours, theirs = ({index: hashes[side][index] for index in free[side]} for side in (0, 1))
        pair_classes(matching, ours, theirs, (both[0], both[1]), once=once)


def _by_surroundings(
    matching: Matching, labels: Labels, numbers: Numbers, marks: tuple[Marks, Marks], steps: int, *, once: bool
) -> bool:
    free, fixed = matching.free(), matching.numbers()
    if not free[0] or not free[1]:
        return False
    ours = hashes_around(matching.first, labels[0], numbers, marks[0], free[0], fixed[0], steps)
    theirs = hashes_around(matching.second, labels[1], numbers, marks[1], free[1], fixed[1], steps)
    return pair_classes(matching, ours, theirs, labels, once=once)
