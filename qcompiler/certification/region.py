"""Which inner values of two graphs must agree, and which weights are new."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir

_MOST_VALUES = 8
_SMALL = 16
"""Elements up to which constants are compared by content when nodes are."""


def settled_values(before: ir.Model, after: ir.Model) -> list[str]:
    """Float values of both graphs right behind the rewritten region, at most 8, in graph order.

    The region is every node that the other graph lacks: other operands, attributes or constants. A value behind it on
    which no node of the region depends any more should not have changed; one inside may have, as a scale that one layer
    gives and the next takes back. A rewrite may still rely on what stands behind, as on a softmax that takes any
    constant off its scores.
    """
    known = {str(value.name): node for node in before.graph for value in node.outputs}
    changed = [node for node in after.graph if not _same(node, known.get(str(node.outputs[0].name)))]
    behind = _reached(changed, forward=True)
    inside = _reached(changed, forward=False)
    found = [
        str(value.name)
        for node in after.graph
        if node in behind and node not in inside
        for value in node.outputs
        if value.name in known and _is_float(value) and not value.is_graph_output()
    ]
    return found[:_MOST_VALUES]


def new_weights(before: ir.Model, after: ir.Model) -> int:
    """How many float weights of `after` no weight of `before` equals bit by bit, whatever its shape or name.

    One that more nodes read than before is new too: a rewrite may bring in again what another one brought before.
    """
    old, new = _weights(before), _weights(after)
    left = [tensor for key, (tensor, uses) in new.items() if uses > old.get(key, (tensor, 0))[1]]
    if not left:
        return 0
    sizes = {tensor.nbytes for tensor in left}
    freed = Counter[bytes]()
    for key, (tensor, uses) in old.items():
        if tensor.nbytes in sizes:
            freed[_digest(tensor)] += uses - new.get(key, (tensor, 0))[1]
    wanted = Counter[bytes]()
    for tensor in left:
        wanted[_digest(tensor)] += new[id(tensor)][1] - old.get(id(tensor), (tensor, 0))[1]
    return sum(freed[_digest(tensor)] < wanted[_digest(tensor)] for tensor in left)


def _same(node: ir.Node, other: ir.Node | None) -> bool:
    if other is None or (node.op_type, node.domain) != (other.op_type, other.domain):
        return False
    if len(node.inputs) != len(other.inputs) or node.attributes.keys() != other.attributes.keys():
        return False
    if any(not _same_attribute(item, other.attributes[name]) for name, item in node.attributes.items()):
        return False
    return all(_same_operand(*pair) for pair in zip(node.inputs, other.inputs, strict=True))


def _same_attribute(one: ir.Attr, other: ir.Attr) -> bool:
    if one.type != other.type or one.type == ir.AttributeType.GRAPH:
        return False  # bodies count as changed: looking into them is not worth it
    if one.type == ir.AttributeType.TENSOR:
        return bool(np.array_equal(one.as_tensor().numpy(), other.as_tensor().numpy()))
    return bool(one.value == other.value)


def _same_operand(one: ir.Value | None, other: ir.Value | None) -> bool:
    if one is None or other is None:
        return one is other
    first, second = one.const_value, other.const_value
    if first is None and second is None:
        return one.name == other.name
    if first is None or second is None or first is second:
        return first is second
    small = first.size <= _SMALL and first.size == second.size
    return small and np.array_equal(first.numpy(), second.numpy())


def _reached(start: Iterable[ir.Node], *, forward: bool) -> set[ir.Node]:
    """Forward: the nodes and all behind them. Backward: all strictly in front of one of them."""
    waiting, found = list(start), set(start) if forward else set[ir.Node]()
    while waiting:
        node = waiting.pop()
        near = node.successors() if forward else node.predecessors()
        for other in near:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _weights(model: ir.Model) -> dict[int, tuple[Any, int]]:
    """Float constants of more than one element by identity, and by how many operands they are read."""
    found: dict[int, tuple[Any, int]] = {}
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and _is_float(value) and tensor.size > 1:
                found[id(tensor)] = tensor, found.get(id(tensor), (tensor, 0))[1] + len(value.uses())
    return found


def _digest(tensor: ir.TensorProtocol) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(tensor.numpy()).data, digest_size=16).digest()


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()
