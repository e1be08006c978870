"""Edits: vertices without a partner, as connected pieces with what they were replaced by and where they stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

import networkx as nx

from qcompiler.diffing.families import operator_name
from qcompiler.diffing.matching import Matching
from qcompiler.diffing.skeleton import Skeleton
from qcompiler.diffing.vertex import INPUT, OUTPUT


@dataclass(frozen=True, slots=True)
class Edit:
    """A piece that gave way to another; either may be empty.

    Attributes:
        removed: Operators of the first model, in the order of the walk.
        added: Operators of the second.
        names: Labels of `removed`, or of `added` where nothing was removed.
        behind: What the piece reads, by names of the first model.
        before: What reads the piece, likewise.
    """

    removed: tuple[str, ...]
    added: tuple[str, ...]
    names: tuple[str, ...]
    behind: tuple[str, ...]
    before: tuple[str, ...]


def edits_of(matching: Matching) -> list[Edit]:
    """All edits, in the order of the walk."""
    graph = nx.Graph()
    ports: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)
    for side, (skeleton, free) in enumerate(
        zip((matching.first, matching.second), matching.free(), strict=True)
    ):
        partner = matching.to_second if side == 0 else matching.to_first
        for index in free:
            vertex = skeleton.vertices[index]
            if vertex.family in (INPUT, OUTPUT) and vertex.owner is None:
                continue  # the interface has these
            graph.add_node((side, index))
            if vertex.owner is not None and partner[vertex.owner] < 0:
                graph.add_edge((side, index), (side, vertex.owner))
            for slot, edge in vertex.edges.items():
                if edge.source is None:
                    continue
                if partner[edge.source] < 0:
                    graph.add_edge((side, index), (side, edge.source))
                else:
                    ports["above", _common(side, edge.source, partner), edge.port, _slot(skeleton, index, slot)].append(
                        (side, index)
                    )
            for reader, slot, _ in vertex.readers:
                if partner[reader] >= 0:
                    ports["below", _common(side, reader, partner), _slot(skeleton, reader, slot)].append((side, index))
    for key, members in ports.items():
        sides = [side for side, _ in members]
        if len(members) == 2 and sorted(sides) == [0, 1]:  # the one place where both stood
            graph.add_edge(*members)
        elif isinstance(key, tuple) and key[0] == "below":
            nx.add_path(graph, members)
    ends = {member for member in graph if _skeleton(matching, member).vertices[member[1]].node is None}
    found = [_edit(matching, part - ends) for part in nx.connected_components(graph) if part - ends]
    return [edit for _, edit in sorted(found, key=lambda item: item[0])]


def _common(side: int, index: int, partner: list[int]) -> int:
    return index if side == 0 else partner[index]


def _slot(skeleton: Skeleton, index: int, slot: object) -> str:
    return "" if skeleton.vertices[index].commutes else str(slot)


def _skeleton(matching: Matching, member: tuple[int, int]) -> Skeleton:
    return (matching.first, matching.second)[member[0]]


def _edit(matching: Matching, part: set[tuple[int, int]]) -> tuple[tuple[int, int], Edit]:
    sides = []
    for side, skeleton in enumerate((matching.first, matching.second)):
        rank = skeleton.rank
        members = sorted((index for where, index in part if where == side), key=rank.__getitem__)
        sides.append([skeleton.vertices[index] for index in members])
    shown = 0 if sides[0] else 1
    skeleton = (matching.first, matching.second)[shown]
    inside = {vertex.index for vertex in sides[shown]}
    behind, before = [], []
    for vertex in sides[shown]:
        for edge in vertex.edges.values():
            if edge.source is not None and edge.source not in inside:
                behind.append(skeleton.vertices[edge.source].label)
        before += [skeleton.vertices[reader].label for reader, _, _ in vertex.readers if reader not in inside]
    operators = [
        tuple(operator_name(vertex.node.domain, vertex.node.op_type) for vertex in side if vertex.node is not None)
        for side in sides
    ]
    names = tuple(vertex.label for vertex in sides[shown])
    start = skeleton.rank[sides[shown][0].index]
    edit = Edit(operators[0], operators[1], names, tuple(dict.fromkeys(behind)), tuple(dict.fromkeys(before)))
    return (shown, start), edit
