"""Where the layers that read one tensor work together: behind attention, or behind the product of gate and up."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, sole_consumer
from qcompiler.passes.sites.records import Site

MOST_NODES = 256
"""Nodes looked at on the way: an attention with rotary embedding and repeated heads has about 60."""
_PRODUCTS = frozenset({"MatMul", "Einsum", "Attention"})
_LAYERS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN"})
_SIZES = frozenset({"Shape", "Size"})
"""What these give does not change with the numbers."""
_PARTS = frozenset({"Split", "Slice", "Gather"})
Origin = frozenset[int]


@dataclass(frozen=True, slots=True)
class JointEnd:
    """The first value that all of a site's readers have come together in, and the nodes that make it of their outputs.

    Attributes:
        value: Behind layout operators, as the next layer reads it.
        nodes: In graph order, without the readers.
        beside: What these nodes read besides the readers' outputs and constants: masks, tables, sizes, a cache.
    """

    value: ir.Value
    nodes: tuple[ir.Node, ...]
    beside: tuple[ir.Value, ...]


def graph_places(model: ir.Model) -> dict[ir.Node, int]:
    """The place of each node in graph order, which is topological."""
    return {node: place for place, node in enumerate(model.graph)}


def joint_end(site: Site, places: Mapping[ir.Node, int]) -> JointEnd | None:
    """The joint end of a site's readers; None where each of them is read for itself.

    The walk goes forward from the readers' outputs in graph order and keeps the values that still have to be read.
    Where one is left, all that depends on the readers passes through it. It is an end if on the way to it two operands
    that both depend on the readers met in a matrix product, or in a Mul of different readers (or parts of one reader,
    behind a Split): x * sigmoid(x) is an activation function of one tensor and no end. Another layer with a constant
    weight in front of the end, or a node with a body, is a refusal. What leaves as an output of the model (a cache of
    keys and values) is no obstacle: the next layer sees it at the end all the same.

    Args:
        places: `graph_places` of the model.
    """
    if any(reader.node.op_type not in ("MatMul", "Gemm") for reader in site.readers):
        return None
    walk = _Walk(places, {reader.node for reader in site.readers})
    end = walk.end()
    return None if end is None else _made(end, walk)


@dataclass(slots=True)
class _Walk:
    """Origins are sets of numbers: one for each reader, and one more for each part that a Split or the like makes."""

    places: Mapping[ir.Node, int]
    readers: set[ir.Node]
    origins: dict[ir.Value, Origin] = field(default_factory=dict)
    passed: list[ir.Node] = field(default_factory=list)
    _count: int = 0

    def end(self) -> ir.Value | None:
        """The first value that everything has come together in."""
        queue = sorted((self.places[node], node) for node in self.readers if node in self.places)
        queued, left, joint, ahead = set(self.readers), dict[ir.Value, int](), False, len(self.readers)
        if len(queue) != ahead:
            return None  # inside a body
        while queue:
            node = heapq.heappop(queue)[1]
            if node in self.readers:
                ahead -= 1
            else:
                self.passed.append(node)
                if _is_layer(node) or _has_body(node):
                    return None
                joint = joint or self._joins(node)
                for value in node.inputs:
                    if value in left:
                        left[value] -= 1
                        if not left[value]:
                            del left[value]
            for value in node.outputs:
                self.origins[value] = self._origin(node)
                reading = [use.node for use in value.uses() if use.node.op_type not in _SIZES]
                if len(queued) + len(reading) > MOST_NODES or any(item not in self.places for item in reading):
                    return None
                if reading:
                    left[value] = len(reading)
                for item in reading:
                    if item not in queued:
                        queued.add(item)
                        heapq.heappush(queue, (self.places[item], item))
            if joint and not ahead and len(left) == 1:
                return next(iter(left))
        return None

    def _origin(self, node: ir.Node) -> Origin:
        held = frozenset().union(*(self.origins.get(value, ()) for value in node.inputs if value is not None))
        if node in self.readers or node.op_type in _PARTS:
            self._count += 1
            return held | {self._count}
        return held

    def _joins(self, node: ir.Node) -> bool:
        met = [self.origins[value] for value in node.inputs if value in self.origins]
        if node.op_type in _PRODUCTS:
            return len(met) > 1
        return node.op_type == "Mul" and len(met) == 2 and bool(met[0] - met[1]) and bool(met[1] - met[0])


def _is_layer(node: ir.Node) -> bool:
    held = (value for value in node.inputs if value is not None and value.const_value is not None)
    return node.op_type in _LAYERS and any(value.shape is None or len(value.shape) > 1 for value in held)


def _has_body(node: ir.Node) -> bool:
    return any(item.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for item in node.attributes.values())


def _moves(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type in LAYOUT_OPS | {"Cast"}


def _layout_behind(value: ir.Value, walk: _Walk) -> list[ir.Node]:
    """Operators behind the value that only rename or move its elements, each the only reader of the one before."""
    found: list[ir.Node] = []
    node = sole_consumer(value)
    while node is not None and node in walk.places and _moves(node) and node.inputs[0] is value:
        found.append(node)
        value = node.outputs[0]
        node = sole_consumer(value)
    return found


def _made(met: ir.Value, walk: _Walk) -> JointEnd:
    """With the nodes that the end depends on, among those passed and the layout operators behind them."""
    behind = _layout_behind(met, walk)
    inside, found, beside = {*walk.passed, *behind}, set[ir.Node](), dict[ir.Value, None]()
    end = behind[-1].outputs[0] if behind else met
    queue = [end]
    while queue:
        value = queue.pop()
        node = value.producer()
        if node in walk.readers or value.is_initializer():
            continue
        if node is None or node not in inside:
            beside[value] = None
        elif node not in found:
            found.add(node)
            queue += [item for item in node.inputs if item is not None]
    nodes = sorted(found, key=walk.places.__getitem__)
    return JointEnd(end, tuple(nodes), tuple(sorted(beside, key=lambda value: str(value.name))))
