"""Products in a Scan's step are taken between small factors first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import FreshNames, all_nodes, sole_consumer
from qcompiler.passes.recurrence.build import Builder
from qcompiler.pipeline import Outcome, Pass

Extent = tuple[int | str | None, ...]
"""Sizes from the last axis to the first that is not 1; 1 where the factor is constant along the axis."""


@dataclass(frozen=True)
class GroupFactors(Pass):
    """x * (dt * B) becomes (x * dt) * B in the body of a Scan, where x and dt vary along the same axes, B along others.

    What is left in full size is one product with B; x * dt no longer depends on the size of B and can leave the body.
    """

    name: ClassVar[str] = "group-factors"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        fresh = FreshNames(model)
        for scan in list(all_nodes(model)):
            if scan.op_type == "Scan" and scan.domain == "":
                body = scan.attributes["body"].as_graph()
                regrouped = [_regroup(body, node, fresh) for node in list(body)]
                matched += [str(scan.name)] * any(regrouped)
        return Outcome(bool(matched), tuple(matched))


def _regroup(body: ir.Graph, root: ir.Node, fresh: FreshNames) -> bool:
    if not _is_mul(root) or _is_inner(root):
        return False
    leaves, sets, inner = _tree(root)
    extents = [_extent(value) for value in leaves]
    groups: dict[Extent, list[int]] = {}
    for place, extent in enumerate(extents):
        if extent is None:
            return False
        groups.setdefault(extent, []).append(place)
    if len(groups) < 2 or all(len(group) < 2 or frozenset(group) in sets for group in groups.values()):
        return False
    make = Builder(body, fresh, str(root.outputs[0].name))
    products = [_product(make, [leaves[place] for place in groups[extent]]) for extent in sorted(groups, key=_order)]
    result = _product(make, products)
    make.insert_before(root)
    output = root.outputs[0]
    name, result.type, result.shape = output.name, output.type, output.shape
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    body.remove([root, *inner], safe=True)
    output.name = None
    result.name = name
    return True


def _product(make: Builder, factors: list[ir.Value]) -> ir.Value:
    total = factors[0]
    for factor in factors[1:]:
        first, total = total, make.op("Mul", total, factor)
        total.shape = _broadcast(first, factor)
    return total


def _broadcast(one: ir.Value, other: ir.Value) -> ir.Shape | None:
    if one.shape is None or other.shape is None:
        return None
    shorter, longer = sorted((list(one.shape), list(other.shape)), key=len)
    ahead = len(longer) - len(shorter)
    return ir.Shape([*longer[:ahead], *(b if a == 1 else a for a, b in zip(longer[ahead:], shorter, strict=True))])


def _is_mul(node: ir.Node | None) -> bool:
    return node is not None and node.op_type == "Mul" and node.domain == ""


def _is_inner(node: ir.Node) -> bool:
    """Whether the node's only reader is a product of the same graph."""
    reader = sole_consumer(node.outputs[0])
    return _is_mul(reader) and reader is not None and reader.graph is node.graph


def _tree(root: ir.Node) -> tuple[list[ir.Value], set[frozenset[int]], list[ir.Node]]:
    """Factors, the sets of factors (by place) that the nodes multiply, and the inner nodes, readers first."""
    leaves: list[ir.Value] = []
    sets: set[frozenset[int]] = set()
    inner: list[ir.Node] = []

    def walk(node: ir.Node) -> frozenset[int]:
        places: frozenset[int] = frozenset()
        for value in node.inputs:
            assert value is not None
            producer = value.producer()
            if producer is not None and _is_mul(producer) and _is_inner(producer) and producer.graph is root.graph:
                inner.append(producer)
                places |= walk(producer)
            else:
                leaves.append(value)
                places |= {len(leaves) - 1}
        sets.add(places)
        return places

    walk(root)
    return leaves, sets, inner


def _extent(value: ir.Value) -> Extent | None:
    if value.shape is None:
        return None
    sizes = [size if isinstance(size, int) else size.value for size in value.shape]
    while sizes and sizes[0] == 1:
        sizes.pop(0)
    return tuple(sizes[::-1])


def _order(extent: Extent) -> tuple[int, str]:
    """Small before large."""
    return sum(size != 1 for size in extent), str(extent)


def outer_product_axes(one: ir.Value, other: ir.Value) -> bool:
    """Whether the product of [..., n, 1] and [..., 1, m] is an outer product over the last two axes."""
    sizes = [_last_two(value) for value in (one, other)]
    return sizes[0] is not None and sizes[1] is not None and sizes[0][1] == 1 and sizes[1][0] == 1


def _last_two(value: ir.Value) -> tuple[object, ...] | None:
    shape: Iterable[object] = () if value.shape is None else value.shape
    sizes = tuple(shape)[-2:]
    return sizes if len(sizes) == 2 else None
