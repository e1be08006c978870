"""Labels of vertices, from strict to loose, as numbers that both graphs share."""

from __future__ import annotations

from enum import IntEnum

import onnx_ir as ir

from qcompiler.diffing.constants import constant_of
from qcompiler.diffing.skeleton import Skeleton
from qcompiler.diffing.vertex import INPUT, OUTPUT, Vertex


class Strictness(IntEnum):
    """What two vertices must share to be called alike."""

    EXACT = 0
    """Operator, attributes, the content of its constants, and the links of its edges with their scales."""
    CONTENT = 1
    """Operator, attributes, and the content of its constants."""
    SHAPE = 2
    """Operator, attributes, and the shapes of its constants."""
    BARE = 3
    """Operator and the shapes of its constants."""
    OPERATOR = 4
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


def link_marks(skeleton: Skeleton, strictness: Strictness, numbers: Numbers) -> dict[int, int]:
    """By edge, as its id, a number for what its links do; empty where the labels leave links out."""
    if strictness is not Strictness.EXACT:
        return {}
    edges = (edge for vertex in skeleton.vertices for edge in vertex.edges.values() if edge.links)
    return {id(edge): numbers(tuple(_link(skeleton, link) for link in edge.links)) for edge in edges}


def _link(skeleton: Skeleton, link: ir.Node) -> object:
    constants = (constant_of(value) for value in link.inputs[1:] if value is not None)
    held = tuple(skeleton.digest(tensor) for tensor in constants if tensor is not None)
    return link.op_type, link.attributes.get_int("to", 0), link.attributes.get_int("axis", 1), held


def _label(skeleton: Skeleton, vertex: Vertex, strictness: Strictness) -> object:
    if vertex.family in (INPUT, OUTPUT):
        return vertex.family, vertex.scope, vertex.place
    if strictness is Strictness.OPERATOR:
        return (vertex.family,)
    constants: list[tuple[str, object]] = []
    for slot, edge in vertex.edges.items():
        if edge.source is not None or edge.constant is None:
            continue
        if strictness <= Strictness.CONTENT:
            constants.append((str(slot), skeleton.digest(edge.constant)))
        else:
            constants.append((str(slot), tuple(edge.constant.shape.numpy())))
    if vertex.commutes:
        constants = [("", content) for _, content in constants]
    attributes = () if strictness is Strictness.BARE else tuple(sorted(vertex.attributes.items()))
    return vertex.family, attributes, tuple(sorted(constants, key=str))
