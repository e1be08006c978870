"""The part of a graph between the readers of a tensor and their joint end, with the readers' weights as inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph import FreshNames, make_node, rank
from qcompiler.passes.equalize.joint_end import JointEnd
from qcompiler.passes.equalize.trial_graph import add_input
from qcompiler.passes.sites.records import Site


@dataclass(frozen=True, slots=True)
class JointRegion:
    """A model whose only output is the joint end.

    Its inputs are, for each reader, what it reads, a weight [channels, outputs] and an offset [outputs], all float32,
    and what stands beside them under the names that it has in the whole model.

    Attributes:
        reads: Names of the first; one name where several readers read one tensor.
    """

    model: ir.Model
    reads: tuple[str, ...]
    weights: tuple[str, ...]
    offsets: tuple[str, ...]


def joint_region(model: ir.Model, site: Site, end: JointEnd) -> JointRegion:
    """MatMul(x, w) or Gemm(x, w, b) of each reader   becomes   Add(MatMul(x, weight), offset), all behind is copied.

    An offset is the bias of a Gemm and whatever a shift moves; the bias of a MatMul is an Add behind.
    """
    outputs = [reader.node.outputs[0] for reader in site.readers]
    held = {value: None for node in end.nodes for value in node.inputs if value is not None and value.is_initializer()}
    graph = ir.GraphView(
        [*outputs, *end.beside], [end.value], nodes=end.nodes, initializers=tuple(held),
        opset_imports=model.graph.opset_imports, name="joint",
    ).clone()  # fmt: skip
    for value in graph.inputs:  # sizes that were inferred wrongly would refuse the samples
        value.shape = None if value.shape is None else ir.Shape([None] * len(value.shape))
    made = ir.Model(graph, ir_version=model.ir_version)
    names = FreshNames(made)
    read: dict[ir.Value | None, ir.Value] = {}
    weights, offsets, nodes = list[ir.Value](), list[ir.Value](), list[ir.Node]()
    starts = list(graph.inputs)[: len(outputs)]
    del graph.inputs[: len(outputs)]
    for reader, output in zip(site.readers, starts, strict=True):
        source = reader.node.inputs[0]
        if source not in read:
            read[source] = add_input(graph, names("read"), [None] * (rank(source) or 2))
        weights.append(add_input(graph, names("weight"), (None, None)))
        offsets.append(add_input(graph, names("offset"), (None,)))
        shape, wide = output.shape, ir.DataType.FLOAT
        product = make_node("MatMul", [read[source], weights[-1]], output=names("product"), dtype=wide, shape=shape)
        moved = make_node("Add", [product.outputs[0], offsets[-1]], output=names("moved"), dtype=wide, shape=shape)
        to = output.dtype or wide
        cast = make_node("Cast", [moved.outputs[0]], {"to": to.value}, output=names("cast"), dtype=to, shape=shape)
        output.replace_all_uses_with(cast.outputs[0])
        nodes += [product, moved, cast]
    graph.insert_before(graph[0], nodes)
    reads = tuple(str(read[reader.node.inputs[0]].name) for reader in site.readers)
    return JointRegion(made, reads, _names(weights), _names(offsets))


def _names(values: Sequence[ir.Value]) -> tuple[str, ...]:
    return tuple(str(value.name) for value in values)
