"""Pairs of vertices: which of one model is which of the other."""

from __future__ import annotations

from qcompiler.diffing.skeleton import Skeleton
from qcompiler.diffing.vertex import Vertex


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
