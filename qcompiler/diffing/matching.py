"""Which vertex of one model is which of the other: from hashes of everything around, and by growth from pairs found.

Four rounds, from strict labels to loose ones. In each, vertices whose surroundings occur once on both sides become
pairs, and pairs grow along edges. Then layers are aligned by the shapes of their weights, surroundings that occur
equally often are paired in the order of the walk, and what is left is aligned where neighbours are pairs.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher

from qcompiler.diffing.labels import Numbers, Strictness, labels_of
from qcompiler.diffing.neighbourhood import hashes_above, hashes_around, hashes_below
from qcompiler.diffing.skeleton import INPUT, OUTPUT, Skeleton, Vertex

_STEPS = (6, 3, 1)
_LONGEST_ALIGNMENT = 3000


class Matching:
    """Pairs of vertices.

    Attributes:
        to_second: Vertex of the first to vertex of the second, -1 for none.
        to_first: The other way.
    """

    def __init__(self, first: Skeleton, second: Skeleton) -> None:
        self.first, self.second = first, second
        self.to_second = [-1] * len(first.vertices)
        self.to_first = [-1] * len(second.vertices)
        self._number_first = [-1] * len(first.vertices)
        self._number_second = [-1] * len(second.vertices)
        self._pairs: list[tuple[int, int]] = []

    @property
    def pairs(self) -> list[tuple[Vertex, Vertex]]:
        """Pairs in the first model's order."""
        rank = self.first.rank
        ordered = sorted(self._pairs, key=lambda pair: rank[pair[0]])
        return [(self.first.vertices[one], self.second.vertices[other]) for one, other in ordered]

    def free(self) -> tuple[list[int], list[int]]:
        """Vertices without a partner, in each model's order."""
        return (
            [index for index in self.first.order if self.to_second[index] < 0],
            [index for index in self.second.order if self.to_first[index] < 0],
        )

    def add(self, one: int, other: int) -> bool:
        """Make a pair where both are free and of one family."""
        if self.to_second[one] >= 0 or self.to_first[other] >= 0:
            return False
        if self.first.vertices[one].family != self.second.vertices[other].family:
            return False
        self.to_second[one], self.to_first[other] = other, one
        self._number_first[one] = self._number_second[other] = len(self._pairs)
        self._pairs.append((one, other))
        return True

    def numbers(self) -> tuple[list[int], list[int]]:
        """By vertex the number of its pair."""
        return self._number_first, self._number_second

    def since(self, count: int) -> list[tuple[int, int]]:
        """Pairs in the order in which they were made, from the `count`-th on."""
        return self._pairs[count:]

    def __len__(self) -> int:
        return len(self._pairs)


def match(first: Skeleton, second: Skeleton) -> Matching:
    """Pair vertices; what stays without a partner was removed or added."""
    matching, numbers = Matching(first, second), Numbers()
    _seed(matching)
    labels = {}
    for strictness in Strictness:
        labels[strictness] = labels_of(first, strictness, numbers), labels_of(second, strictness, numbers)
        _by_everything(matching, labels[strictness], numbers)
        _grow_all(matching, labels, strictness)
        for steps in _STEPS:
            if strictness is not Strictness.OPERATOR and _by_surroundings(
                matching, labels[strictness], numbers, steps, once=True
            ):
                _grow_all(matching, labels, strictness)
    _align_layers(matching)
    _grow_all(matching, labels, Strictness.OPERATOR)
    for strictness in Strictness:
        for steps in (*_STEPS, 0) if strictness < Strictness.BARE else (2,):
            if _by_surroundings(matching, labels[strictness], numbers, steps, once=False):
                _grow_all(matching, labels, Strictness.OPERATOR)
    _align(matching)
    _grow_all(matching, labels, Strictness.OPERATOR)
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


Labels = Mapping[Strictness, tuple[Sequence[int], Sequence[int]]]


def _by_everything(matching: Matching, labels: tuple[Sequence[int], Sequence[int]], numbers: Numbers) -> None:
    """Pairs of vertices with all above and all below alike; then with all above, or all below, where that is unique."""
    sides = (matching.first, matching.second)
    above = [hashes_above(side, label, numbers) for side, label in zip(sides, labels, strict=True)]
    below = [hashes_below(side, label, numbers) for side, label in zip(sides, labels, strict=True)]
    free = matching.free()
    both = [{index: (above[side][index], below[side][index]) for index in free[side]} for side in (0, 1)]
    _pair_classes(matching, both[0], both[1], once=False)
    for hashes in (above, below):
        free = matching.free()
        found = [{index: hashes[side][index] for index in free[side]} for side in (0, 1)]
        _pair_classes(matching, found[0], found[1], once=True)


def _by_surroundings(
    matching: Matching, labels: tuple[Sequence[int], Sequence[int]], numbers: Numbers, steps: int, *, once: bool
) -> bool:
    free, fixed = matching.free(), matching.numbers()
    if not free[0] or not free[1]:
        return False
    ours = hashes_around(matching.first, labels[0], numbers, free[0], fixed[0], steps)
    theirs = hashes_around(matching.second, labels[1], numbers, free[1], fixed[1], steps)
    return _pair_classes(matching, ours, theirs, once=once)


def _pair_classes(
    matching: Matching, ours: Mapping[int, Hashable], theirs: Mapping[int, Hashable], *, once: bool
) -> bool:
    """Pair the members of equal classes of equal size; of size 1 only where `once`."""
    classes: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in theirs.items():
        classes[key].append(index)
    mine: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in ours.items():
        mine[key].append(index)
    made = False
    for key, members in mine.items():
        partners = classes.get(key, [])
        if len(members) == len(partners) and (len(members) == 1 or not once):
            for one, other in zip(members, partners, strict=True):
                made |= matching.add(one, other)
    return made


def _grow_all(matching: Matching, labels: Labels, up_to: Strictness) -> None:
    """Grow with strict labels as far as that goes before looser ones are tried."""
    level = Strictness.CONTENT
    while level <= up_to:
        before = len(matching)
        _grow(matching, labels[level])
        if level > Strictness.CONTENT and len(matching) > before:
            level = Strictness.CONTENT
        elif level == up_to:
            return
        else:
            level = Strictness(level + 1)


def _grow(matching: Matching, labels: tuple[Sequence[int], Sequence[int]]) -> None:
    queue = deque(matching.since(0))
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


def _align_layers(matching: Matching) -> None:
    """Layers with weights of the same shapes, as they follow one another, whatever stands between them."""
    layers: list[list[int]] = []
    words: list[list[Hashable]] = []
    for skeleton, free in zip((matching.first, matching.second), matching.free(), strict=True):
        shapes = {index: _matrix_shapes(skeleton.vertices[index]) for index in free}
        layers.append([index for index in free if shapes[index]])
        words.append([(skeleton.vertices[index].family, shapes[index]) for index in layers[-1]])
    for pair in _common_run(layers, words):
        matching.add(*pair)


def _align(matching: Matching) -> None:
    """What is left, in the order of the walk, where two of one operator have neighbours that are a pair."""
    sides = (matching.first, matching.second)
    free = matching.free()
    words = [[side.vertices[index].family for index in indices] for side, indices in zip(sides, free, strict=True)]
    for pair in _common_run(free, words):
        if _share_a_neighbour(matching, *pair):
            matching.add(*pair)


def _common_run(
    indices: Sequence[Sequence[int]], words: Sequence[Sequence[Hashable]]
) -> Iterator[tuple[int, int]]:
    """Pairs of indices whose words follow one another on both sides; none where the lists are too long for that."""
    if max(map(len, words)) > _LONGEST_ALIGNMENT:
        return
    for one, other, size in SequenceMatcher(None, words[0], words[1], autojunk=False).get_matching_blocks():
        for offset in range(size):
            yield indices[0][one + offset], indices[1][other + offset]


def _matrix_shapes(vertex: Vertex) -> tuple[tuple[int, ...], ...]:
    held = [edge.constant for edge in vertex.edges.values() if edge.source is None and edge.constant is not None]
    return tuple(sorted(tuple(tensor.shape.numpy()) for tensor in held if len(tensor.shape) > 1))


def _share_a_neighbour(matching: Matching, one: int, other: int) -> bool:
    ours, theirs = matching.first.vertices[one], matching.second.vertices[other]
    near = {matching.to_second[index] for index in _near(ours)} - {-1}
    return bool(near & _near(theirs))


def _near(vertex: Vertex) -> set[int]:
    read = {edge.source for edge in vertex.edges.values() if edge.source is not None}
    return read | {reader for reader, _, _ in vertex.readers}
