"""Fused regions: which nodes one kernel does together, and what it reads and writes.

A region begins at a matrix product, a normalization, a softmax, a reduction or a move of elements; elementwise nodes
behind it join, as they do in TensorRT's kernels. What follows from constants and shapes alone is no kernel. Q joins
what makes its input and DQ what reads its output, so that the codes are what crosses between regions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import onnx_ir as ir

from qcompiler.bench.node_cost import INTEGER_OPS, MATRIX_OPS, is_free, operations
from qcompiler.bench.node_shapes import NodeRun
from qcompiler.graph import is_constant

Precision = Literal["fp16", "int8"]

_POINTWISE: Final = frozenset({
    "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Clip", "Sigmoid", "Tanh",
    "HardSigmoid", "HardSwish", "Softplus", "Mish", "Swish", "Gelu", "Erf", "Exp", "Log", "Sqrt", "Reciprocal", "Pow",
    "Min", "Max", "Where", "Cast", "Not", "And", "Or", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual",
    "Sin", "Cos", "Floor", "Ceil", "Round", "Sign", "QuantizeLinear", "BatchNormalization", "FastGelu", "BiasGelu",
    "QuickGelu",
})  # fmt: skip
_WEIGHTED: Final = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
_BYTES: Final = {"float": 2, "float16": 2, "bfloat16": 2, "double": 2, "int64": 8, "int32": 4, "bool": 1, "uint8": 1,
                 "int8": 1, "uint64": 8, "uint32": 4, "int16": 2, "uint16": 2, "int4": 0.5, "uint4": 0.5}  # fmt: skip


@dataclass(slots=True)
class Region:
    """Nodes that one kernel does; bytes and operations are those of all its calls.

    Attributes:
        name: Name of its first node, or of what that makes.
        integer: Whether its matrix product is one of 8-bit integers.
    """

    name: str
    op: str
    nodes: list[int]
    order: int = 0
    calls: int = 1
    matrix: float = 0.0
    vector: float = 0.0
    bytes: float = 0.0
    integer: bool = False
    _read: set[ir.Value] = field(default_factory=set)


def fused_regions(model: ir.Model, runs: Mapping[int, NodeRun], precision: Precision) -> list[Region]:
    """Regions in graph order.

    Args:
        runs: Of `profile_nodes`.
        precision: "fp16" passes over Q and DQ; "int8" takes them, and where the graph has none, it supposes all of
            Conv, Gemm and MatMul with a constant weight quantized at their inputs.
    """
    return _Builder(model, runs, precision).build()


class _Builder:
    def __init__(self, model: ir.Model, runs: Mapping[int, NodeRun], precision: Precision) -> None:
        self._nodes = list(model.graph.all_nodes())
        self._runs, self._precision = runs, precision
        self._home: dict[ir.Value, Region] = {}
        self._types: dict[ir.Value, tuple[str, int]] = {}
        for place, run in runs.items():
            node = self._nodes[place]
            present = [value for value in node.inputs if value is not None]
            named = [value for value in node.outputs if value.name]
            for value, (word, shape) in [*zip(present, run.inputs, strict=False),
                                         *zip(named, run.outputs, strict=False)]:  # fmt: skip
                self._types.setdefault(value, (word, math.prod(shape)))
        self._known = _known_before(self._nodes)
        quantizes = any(node.op_type == "QuantizeLinear" or node.op_type in INTEGER_OPS for node in self._nodes)
        self._supposed = precision == "int8" and not quantizes

    def build(self) -> list[Region]:
        regions: list[Region] = []
        for place, node in enumerate(self._nodes):
            run = self._runs.get(place)
            if run is None or node.op_type == "DequantizeLinear" or is_free(node) or self._passed_over(node):
                continue
            if node.outputs and node.outputs[0] in self._known:
                continue
            sources = list(dict.fromkeys(self._source(value) for value in node.inputs if value is not None))
            region = self._joined(node, sources, run)
            if region is None:
                name = node.name or node.outputs[0].name or node.op_type
                region = Region(name, node.op_type, [], len(regions), run.calls)
                regions.append(region)
            self._add(region, place, node, sources, run)
        for region in regions:
            self._count_writes(region)
        return regions

    def _passed_over(self, node: ir.Node) -> bool:
        return self._precision == "fp16" and node.op_type == "QuantizeLinear"

    def _source(self, value: ir.Value) -> ir.Value:
        """What a kernel really reads: behind DQ, layout changes, and in "fp16" behind Q."""
        while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
            layout = is_free(node) and node.op_type not in ("Shape", "Size", "Constant", "Scan", "Loop", "If")
            folded = node.op_type in ("Transpose", "Cast") and value in self._known
            if not (layout or folded or node.op_type == "DequantizeLinear" or self._passed_over(node)):
                break
            value = node.inputs[0]
        return value

    def _joined(self, node: ir.Node, sources: Iterable[ir.Value], run: NodeRun) -> Region | None:
        """The region that an elementwise node continues: the latest that makes an input, so that none waits for
        itself."""
        homes = [self._home[value] for value in sources if value in self._home]
        if node.op_type not in _POINTWISE or not homes:
            return None
        region = max(homes, key=lambda home: home.order)
        return region if region.calls == run.calls else None

    def _readers(self, value: ir.Value) -> Iterable[ir.Node]:
        """Nodes that read a value, seen through DQ and layout changes; a graph's caller is none."""
        for use in value.uses():
            through = use.node.op_type == "DequantizeLinear" or self._passed_over(use.node)
            if (through or is_free(use.node)) and use.node.outputs and use.idx == 0:
                yield from self._readers(use.node.outputs[0])
            else:
                yield use.node

    def _is_returned(self, value: ir.Value) -> bool:
        """Whether the graph, or the graph of a body, returns the value, perhaps reshaped."""
        if value.is_graph_output():
            return True
        layouts = [use.node for use in value.uses() if use.idx == 0 and is_free(use.node) and use.node.outputs]
        return any(self._is_returned(node.outputs[0]) for node in layouts)

    def _add(self, region: Region, place: int, node: ir.Node, sources: list[ir.Value], run: NodeRun) -> None:
        region.nodes.append(place)
        count = operations(node, run) * run.calls
        if node.op_type in MATRIX_OPS:
            region.matrix += count
            region.integer = self._is_integer(node)
        else:
            region.vector += count
        inside = {value for item in region.nodes for value in self._nodes[item].outputs}
        for value in sources:
            if value not in inside and value not in region._read:
                region._read.add(value)
                region.bytes += self._size(value, node, run) * run.calls
        for value in node.outputs:
            self._home[value] = region

    def _is_integer(self, node: ir.Node) -> bool:
        if self._precision == "fp16":
            return False
        if self._supposed:
            return _takes_int8(node)
        behind = [value.producer() for value in node.inputs[:2] if value is not None]
        return node.op_type in INTEGER_OPS or all(n is not None and n.op_type == "DequantizeLinear" for n in behind)

    def _size(self, value: ir.Value, reader: ir.Node, run: NodeRun) -> float:
        word, count = self._types.get(value, ("float", 0))
        if reader.op_type in ("Gather", "Slice", "GatherElements", "GatherND") and value is reader.inputs[0]:
            count = min(count, math.prod(run.outputs[0][1]))  # only what is taken
        if self._precision == "fp16" and word in ("int8", "uint8") and self._is_code(value):
            return 2.0 * count
        if self._supposed and _takes_int8(reader) and value in [self._source(v) for v in reader.inputs[:2] if v]:
            return float(count)
        return _BYTES.get(word, 4) * count

    def _is_code(self, value: ir.Value) -> bool:
        return any(use.node.op_type == "DequantizeLinear" and use.idx == 0 for use in value.uses())

    def _count_writes(self, region: Region) -> None:
        inside = {id(self._nodes[place]) for place in region.nodes}
        for place in region.nodes:
            for value in self._nodes[place].outputs:
                outside = [node for node in self._readers(value) if id(node) not in inside]
                if (outside or self._is_returned(value)) and value in self._types:
                    word, count = self._types[value]
                    only_int8 = self._supposed and outside and all(_takes_int8(node) for node in outside)
                    width = 1 if only_int8 and word == "float" else _BYTES.get(word, 4)
                    region.bytes += width * count * self._runs[place].calls


def _known_before(nodes: Iterable[ir.Node]) -> set[ir.Value]:
    """Values that a builder folds or computes beside the kernels: from constants, and from shapes."""
    found: set[ir.Value] = set()
    for node in nodes:
        inputs = [value for value in node.inputs if value is not None]
        constant = bool(inputs) and all(value in found or is_constant(value) for value in inputs)
        if constant or node.op_type in ("Shape", "Size", "Constant"):
            found.update(node.outputs)
    return found


def _takes_int8(node: ir.Node) -> bool:
    weights = node.inputs[1] if len(node.inputs) > 1 else None
    while weights is not None and weights.const_value is None:
        producer = weights.producer()
        weights = producer.inputs[0] if producer is not None and producer.op_type in ("Identity", "Transpose") else None
    return node.op_type in _WEIGHTED and weights is not None
