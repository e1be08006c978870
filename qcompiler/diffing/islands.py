"""Float islands: connected float operators that have integer ones both before and behind them."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from qcompiler.diffing.skeleton import Skeleton
from qcompiler.diffing.vertex import INPUT, OUTPUT


def float_islands(skeleton: Skeleton, integer: Sequence[bool]) -> list[list[int]]:
    """The islands, each in the order of the walk.

    Args:
        integer: By vertex whether its kernel is one of integers.
    """
    graph = nx.Graph()
    before: set[int] = set()
    behind: set[int] = set()
    for vertex in skeleton.vertices:
        for edge in vertex.edges.values():
            if edge.source is None:
                continue
            if integer[edge.source] and not integer[vertex.index]:
                before.add(vertex.index)
            elif integer[vertex.index] and not integer[edge.source]:
                behind.add(edge.source)
            elif not integer[vertex.index] and not integer[edge.source]:
                graph.add_edge(edge.source, vertex.index)
    graph.add_nodes_from(before | behind)
    ends = [vertex.index for vertex in skeleton.vertices if vertex.family in (INPUT, OUTPUT)]
    graph.remove_nodes_from(ends)
    rank = skeleton.rank
    found = [sorted(part, key=rank.__getitem__) for part in nx.connected_components(graph)]
    return sorted((part for part in found if before & set(part) and behind & set(part)), key=lambda part: rank[part[0]])
