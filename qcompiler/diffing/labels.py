"""Labels of vertices, from strict to loose, as numbers that both graphs share."""

from __future__ import annotations

from enum import IntEnum

from qcompiler.diffing.skeleton import Skeleton
from qcompiler.diffing.vertex import INPUT, OUTPUT, Vertex


class Strictness(IntEnum):
    """What two vertices must share to be called alike."""

    CONTENT = 0
    """Operator, attributes, and the content of its constants."""
    SHAPE = 1
    """Operator, attributes, and the shapes of its constants."""
    BARE = 2
    """Operator and the shapes of its constants."""
    OPERATOR = 3
    """Operator."""


class Numbers:
    """Any hashable thing to a number: equal things, equal numbers. One table for both graphs, so nothing collides."""

    def __init__(self) -> None:
        self._known: dict[object, int] = {}

    def __call__(self, thing: object) -> int:
        return self._known.setdefault(thing, len(self._known))


def labels_of(skeleton: Skeleton, strictness: Strictness, numbers: Numbers) -> list[int]:
    """A number for each vertex."""
    return [numbers(_label(skeleton, vertex, strictness)) for vertex in skeleton.vertices]


def _label(skeleton: Skeleton, vertex: Vertex, strictness: Strictness) -> object:
    if vertex.family in (INPUT, OUTPUT):
        return vertex.family, vertex.scope, vertex.place
    if strictness is Strictness.OPERATOR:
        return (vertex.family,)
    constants: list[tuple[str, object]] = []
    for slot, edge in vertex.edges.items():
        if edge.source is not None or edge.constant is None:
            continue
        if strictness is Strictness.CONTENT:
            constants.append((str(slot), skeleton.digest(edge.constant)))
        else:
            constants.append((str(slot), tuple(edge.constant.shape.numpy())))
    if vertex.commutes:
        constants = [("", content) for _, content in constants]
    attributes = () if strictness is Strictness.BARE else tuple(sorted(vertex.attributes.items()))
    return vertex.family, attributes, tuple(sorted(constants, key=str))
