"""Alignment of what is left: in the order of the walk, as the longest common runs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from difflib import SequenceMatcher

from qcompiler.diffing.matching import Matching
from qcompiler.diffing.vertex import Vertex

_LONGEST_ALIGNMENT = 3000


def align_layers(matching: Matching) -> None:
    """Layers with weights of the same shapes, as they follow one another, whatever stands between them."""
    layers: list[list[int]] = []
    words: list[list[Hashable]] = []
    for skeleton, free in zip((matching.first, matching.second), matching.free(), strict=True):
        shapes = {index: _matrix_shapes(skeleton.vertices[index]) for index in free}
        layers.append([index for index in free if shapes[index]])
        words.append([(skeleton.vertices[index].family, shapes[index]) for index in layers[-1]])
    for pair in _common_run(layers, words):
        matching.add(*pair)


def align_rest(matching: Matching) -> None:
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
