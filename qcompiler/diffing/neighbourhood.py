"""Hashes of a vertex with what lies around it: everything above, everything below, or a few steps both ways."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from qcompiler.diffing.labels import Numbers
from qcompiler.diffing.skeleton import Skeleton
from qcompiler.diffing.vertex import Vertex

Marks = Mapping[int, int]
"""By edge, as its id, what its links do; an edge that is not in it has none."""


def hashes_above(skeleton: Skeleton, labels: Sequence[int], numbers: Numbers, marks: Marks) -> list[int]:
    """A number that is equal where the vertex and all that it depends on are alike."""
    found = [-1] * len(skeleton.vertices)
    for index in skeleton.order:
        vertex = skeleton.vertices[index]
        read = [
            (_slot(vertex, slot), edge.port, marks.get(id(edge), -1), -1 if edge.source is None else found[edge.source])
            for slot, edge in vertex.edges.items()
            if edge.source is not None or id(edge) in marks
        ]
        found[index] = numbers(("above", labels[index], tuple(sorted(read))))
    return found


def hashes_below(skeleton: Skeleton, labels: Sequence[int], numbers: Numbers, marks: Marks) -> list[int]:
    """A number that is equal where the vertex and all that depends on it are alike."""
    found = [-1] * len(skeleton.vertices)
    for index in reversed(skeleton.order):
        vertex = skeleton.vertices[index]
        readers = [
            (_slot(skeleton.vertices[reader], slot), port,
             marks.get(id(skeleton.vertices[reader].edges[slot]), -1), found[reader])
            for reader, slot, port in vertex.readers
        ]  # fmt: skip
        found[index] = numbers(("below", labels[index], tuple(sorted(readers))))
    return found


def hashes_around(
    skeleton: Skeleton, labels: Sequence[int], numbers: Numbers, marks: Marks,
    free: Collection[int], fixed: Sequence[int], steps: int,
) -> dict[int, int]:  # fmt: skip
    """A number for each vertex of `free`: equal where all within `steps` are alike.

    Args:
        fixed: By vertex the number of its pair, -1 where it has none; pairs are what neighbours hold on to.
    """
    current = {index: labels[index] for index in free}

    def look(index: int) -> tuple[int, int]:
        return (1, fixed[index]) if fixed[index] >= 0 else (0, current[index])

    for _ in range(steps):
        following = {}
        for index in free:
            vertex = skeleton.vertices[index]
            read = [
                (_slot(vertex, slot), edge.port, marks.get(id(edge), -1), look(edge.source))
                for slot, edge in vertex.edges.items()
                if edge.source is not None
            ]
            readers = [
                (_slot(skeleton.vertices[reader], slot), port,
                 marks.get(id(skeleton.vertices[reader].edges[slot]), -1), look(reader))
                for reader, slot, port in vertex.readers
            ]  # fmt: skip
            following[index] = numbers((current[index], tuple(sorted(read)), tuple(sorted(readers))))
        current = following
    return current


def _slot(vertex: Vertex, slot: object) -> str:
    return "" if vertex.commutes else str(slot)
