"""Which inputs of which nodes are quantized, before any data is seen; and why each other node stays float."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, is_constant, is_float, rank
from qcompiler.passes.canonical.forms import Form, Role, form_of, role_of
from qcompiler.precision import ALL_8_BITS, Precision, Precisions
from qcompiler.target import Placement

WEIGHT_INPUT = 1
_FLOAT_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


@dataclass(slots=True)
class Sites:
    """The planner's choice of places.

    Attributes:
        activations: Node name to the indices of its activation inputs to quantize.
        weights: Node name to input index to the channel axis of that constant (None: per tensor).
        outputs: Node name to the name of its output, where that is quantized for all its readers.
        sources: Quantized tensor to the tensor whose range it has: itself, or what layout operators made it from.
        floats: Node name to the reason why it stays float.
        groups: Tensors that share a scale.
        zero_points: Source tensor to its zero point, where it has one (`choose_zero_points`).
        weight_bits: Node name to the width of its weight's grid.
        blocks: Node name to the size of the int4 blocks of its weight, where only that is quantized.
        bits: Source tensor to the width of its grid, the widest that a reader asks for: one tensor has one grid.
    """

    activations: dict[str, tuple[int, ...]] = field(default_factory=dict)
    weights: dict[str, dict[int, int | None]] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    floats: dict[str, str] = field(default_factory=dict)
    groups: list[tuple[str, ...]] = field(default_factory=list)
    zero_points: dict[str, int] = field(default_factory=dict)
    weight_bits: dict[str, int] = field(default_factory=dict)
    blocks: dict[str, int] = field(default_factory=dict)
    bits: dict[str, int] = field(default_factory=dict)

    def steps(self, source: str) -> int:
        """Codes of a source tensor above its zero: 127, or more where it has a zero point, or fewer with fewer bits."""
        return (1 << (self.bits.get(source, 8) - 1)) - 1 - self.zero_points.get(source, 0)


def select_sites(
    model: ir.Model,
    placement: Placement,
    float_nodes: Collection[str] = (),
    precisions: Precisions = ALL_8_BITS,
) -> Sites:
    """Choose the inputs to quantize.

    Args:
        model: Normalized: unique names, constants as initializers, types inferred.
        float_nodes: Names of nodes that the user keeps in float.
        precisions: Bits by node; what only has its weight quantized needs `placement.int4_blocks`.
    """
    sites = Sites()
    for node in model.graph.all_nodes():
        if node.op_type not in placement.weighted_ops or node.domain not in ("", "ai.onnx"):
            continue
        name = node.name or ""
        if node.graph is not model.graph:
            sites.floats[name] = _why_inner_stays_float(node)
        elif name in float_nodes:
            sites.floats[name] = "excluded by the user"
        elif form_of(node) is Form.ROTATION:
            sites.floats[name] = "an added rotation, which takes outliers away before anything is rounded"
        elif form_of(node) is Form.SPLIT:
            sites.floats[name] = "single hidden units that were split off because they are far larger than the others"
        else:
            reason = _select(node, placement, precisions.of(name), sites)
            if reason:
                sites.floats[name] = reason
    if placement.conv_outputs:
        _select_conv_outputs(model, sites)
    _group_concats(model, sites)
    return sites


def _why_inner_stays_float(node: ir.Node) -> str:
    if not any(is_constant(value) for value in node.inputs[:2]):
        return "a product of a recurrence, whose state would carry the error on"
    return "inside a subgraph, where calibration sees no values"


def _select_conv_outputs(model: ir.Model, sites: Sites) -> None:
    """Outputs of quantized Convs that all readers take as float: for speed, so only where activations have 8 bits."""
    for node in model.graph:
        output = node.outputs[0]
        if node.op_type != "Conv" or node.name not in sites.activations or output.is_graph_output():
            continue
        if any(sites.bits[source_of(value).name or ""] < 8 for value in node.inputs[:1] if value is not None):
            continue
        readers = _readers_past_relu(output)
        if not any(index in sites.activations.get(name, ()) for name, index in readers):
            sites.outputs[str(node.name)] = str(output.name)


def _readers_past_relu(value: ir.Value) -> list[tuple[str, int]]:
    """Name and input index of each reader, behind a Relu where that is the only one."""
    uses = tuple(value.uses())
    if len(uses) == 1 and uses[0].node.op_type == "Relu" and not uses[0].node.outputs[0].is_graph_output():
        uses = tuple(uses[0].node.outputs[0].uses())
    return [(str(use.node.name), use.idx) for use in uses]


def _select(node: ir.Node, placement: Placement, precision: Precision, sites: Sites) -> str:
    """Enter the node into `sites`, or return why it stays float."""
    inputs = list(node.inputs[:2])
    if len(inputs) < 2 or any(value is None or not is_float(value) for value in inputs):
        return "its inputs are not float tensors"
    constant = [is_constant(value) for value in inputs]
    if all(constant):
        return "both inputs are constant"
    if not any(constant):
        odd = [value.dtype for value in inputs if value is not None and value.dtype not in (None, *_FLOAT_TYPES)]
        if odd and odd[0] is not None:
            return f"its inputs are {odd[0].name.lower()}"
        if precision.weight_only:
            return "weight-only: both inputs are activations"
        if node.op_type not in placement.product_ops:
            return "its weight is computed at run time"
        if any((rank(value) or 2) < 2 for value in inputs):
            return "a product with a vector"
        if reason := _why_fused_in_half(node, placement):
            return reason
        _enter(node, (0, 1), {}, precision, sites)
        return ""
    weight_index = constant.index(True)
    weight = inputs[weight_index]
    assert weight is not None and weight.const_value is not None
    shape = weight.const_value.shape.numpy()
    if weight.const_value.dtype not in _FLOAT_TYPES:
        return f"its weight is {weight.const_value.dtype.name.lower()}"
    if len(shape) < 2 or 0 in shape:
        return "its weight is a vector or empty"
    if node.op_type != "MatMul" and weight_index != WEIGHT_INPUT:
        return "its weight is not the second input"
    if node.op_type == "Gemm" and node.attributes.get_int("transA"):
        return "Gemm with a transposed activation"
    if precision.weight_only:
        return _select_blocks(node, weight_index, shape, placement, sites)
    if node.op_type == "Conv" and (products := math.prod(shape[1:])) < placement.min_reduction:
        return f"sums {products} products per output, fewer than the {placement.min_reduction} that pay for rescaling"
    weights = {weight_index: _channel_axis(node, weight_index, len(shape))}
    _enter(node, (1 - weight_index,), weights, precision, sites)
    return ""


def _why_fused_in_half(node: ir.Node, placement: Placement) -> str:
    """Why an attention product stays float: its block fits the target's fused FP16 kernel and not the INT8 one.

    Both products know the head size and both lengths, so that they come to the same answer. Dynamic lengths count as
    short.
    """
    choice = placement.fused_half and placement.fused_int8_heads
    role = role_of(node) if choice and form_of(node) is Form.ATTENTION else None
    if role not in (Role.QK, Role.PV):
        return ""
    left, right = (list(value.shape) if value is not None and value.shape is not None else [] for value in node.inputs)
    if min(len(left), len(right)) < 2:
        return ""
    head = left[-1] if role is Role.QK else right[-1]
    lengths = [left[-2], right[-1] if role is Role.QK else right[-2]]
    if not isinstance(head, int) or not 16 <= head <= 256 or head % 8:
        return ""
    longest = max((size for size in lengths if isinstance(size, int)), default=0)
    if head in placement.fused_int8_heads and longest <= placement.fused_int8_tokens:
        return ""
    return f"fused attention takes head size {head} and {longest or 'dynamic'} positions in FP16 only"


def _select_blocks(node: ir.Node, index: int, shape: Sequence[int], placement: Placement, sites: Sites) -> str:
    """Enter the weight of a product [K, N] for int4 in blocks along K; or why it stays float."""
    if node.op_type not in ("MatMul", "Gemm") or index != WEIGHT_INPUT or len(shape) != 2:
        return "weight-only: int4 blocks are for one matrix behind an activation"
    axis = 1 if node.op_type == "Gemm" and node.attributes.get_int("transB") else 0
    size = next((size for size in placement.int4_blocks if shape[axis] % size == 0), None)
    if size is None:
        sizes = " or ".join(map(str, placement.int4_blocks))
        return f"weight-only: {shape[axis]} rows are no multiple of a block of {sizes}"
    name = node.name or ""
    sites.activations[name] = ()
    sites.weights[name] = {index: axis}
    sites.weight_bits[name], sites.blocks[name] = 4, size
    return ""


def _channel_axis(node: ir.Node, index: int, dims: int) -> int | None:
    """The axis of output channels of a constant input; None where a scale per channel does not factor out."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if node.attributes.get_int("group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB") else 1
    if dims > 2:
        return None  # a stack of matrices: integer kernels take per-column scales for one matrix only
    return 1 if index == 1 else 0


def _enter(
    node: ir.Node, activations: tuple[int, ...], weights: dict[int, int | None], precision: Precision, sites: Sites
) -> None:
    name = node.name or ""
    sites.activations[name] = activations
    if weights:
        sites.weights[name] = weights
        sites.weight_bits[name] = precision.weights
    for index in activations:
        value = node.inputs[index]
        assert value is not None and value.name is not None
        source = sites.sources.setdefault(value.name, source_of(value).name or "")
        sites.bits[source] = max(sites.bits.get(source, 0), precision.activations)


def source_of(value: ir.Value) -> ir.Value:
    """The tensor that holds the same elements before layout operators moved them."""
    producer = value.producer()
    while producer is not None and producer.op_type in LAYOUT_OPS and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    return value


def _group_concats(model: ir.Model, sites: Sites) -> None:
    """Inputs of a Concat whose output is quantized share its scale, so that the pair may move in front of it."""
    for node in model.graph:
        if node.op_type == "Concat" and node.outputs[0].name in sites.sources:
            members = [value.name for value in node.inputs if value is not None and value.name in sites.sources]
            if members:
                group = (str(node.outputs[0].name), *(str(name) for name in members))
                sites.groups.append(group)
                widest = max(sites.bits[sites.sources[name]] for name in group)
                sites.bits.update({sites.sources[name]: widest for name in group})
