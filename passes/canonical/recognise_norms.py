"""LayerNorm, RMSNorm and GroupNorm out of the primitive operators that exporters write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import (
    FreshNames,
    add_initializer,
    all_nodes,
    constant_array,
    make_node,
    scalar_constant,
    sole_consumer,
)
from qcompiler.passes.canonical.forms import Form, Role, annotate, annotate_all
from qcompiler.passes.canonical.matching import (
    behind_casts,
    leaks,
    next_through_casts,
    other_operand,
    producer,
    reduction_axes,
    replace_with,
    with_scalar,
)
from qcompiler.pipeline import Outcome, Pass, Skip

_WHOLE = {
    "LayerNormalization": Form.LAYER_NORM,
    "RMSNormalization": Form.RMS_NORM,
    "GroupNormalization": Form.GROUP_NORM,
}


@dataclass
class _Norm:
    """One match: y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * gain + bias, mean absent in RMSNorm."""

    data: ir.Value
    axes: tuple[int, ...]
    epsilon: float
    centered: bool
    result: ir.Value
    inner: list[ir.Node] = field(default_factory=list)
    gain: ir.Value | None = None
    bias: ir.Value | None = None
    gain_node: ir.Node | None = None
    bias_node: ir.Node | None = None


@dataclass(frozen=True)
class RecogniseNorms(Pass):
    """(x - mean) / sqrt(var + eps) * gain + bias becomes LayerNormalization; without mean and bias RMSNormalization.

    Squares as Pow(2) or Mul(d, d), the root as Sqrt or Pow, its inverse as Div or Reciprocal, constants on either side,
    Casts to float32 around the statistics, Keras's x * s + (bias - mean * s). The operator computes its statistics in
    float32. Where the target lacks the operator, or the axes are not the last one (GroupNorm), the nodes stay and are
    annotated.

    Attributes:
        native_ops: Operators that the target takes and the model's opset has.
    """

    name: ClassVar[str] = "recognise-norms"
    native_ops: frozenset[str] = frozenset({"LayerNormalization"})

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        skipped: list[Skip] = []
        modified = False
        fresh = FreshNames(model)
        for node in list(all_nodes(model)):
            if (
                node.domain == ""
                and node.op_type in _WHOLE
                and annotate(node, _WHOLE[node.op_type], Role.WHOLE, node.name or "")
            ):
                modified = True
                matched.append(node.name or "")
            if node.domain != "" or node.op_type not in ("Sqrt", "Pow") or node.metadata_props.get("qcompile.form"):
                continue
            found = _match(node)
            if isinstance(found, str):
                if found:
                    skipped.append(Skip(node.name or node.op_type, found))
                continue
            for each in _one_each(found, node, fresh):
                site = each.result.name or ""
                self._apply(each, site, fresh)
                modified = True
                matched.append(site)
        return Outcome(modified, tuple(matched), tuple(skipped))

    def _apply(self, found: _Norm, site: str, fresh: FreshNames) -> None:
        form = Form.GROUP_NORM
        if found.axes == (-1,):
            form = Form.LAYER_NORM if found.centered else Form.RMS_NORM
        op = "LayerNormalization" if found.centered else "RMSNormalization"
        channels = found.data.shape[-1] if found.data.shape is not None and len(found.data.shape) else None
        taken = op in self.native_ops and found.result.dtype == found.data.dtype
        if form is not Form.GROUP_NORM and taken and isinstance(channels, int):
            node = _single_node(found, op, channels, fresh)
            annotate(node, form, Role.WHOLE, site)
            node.name = fresh(site)
            return
        roles = [(node, Role.CAST if node.op_type == "Cast" else Role.INNER) for node in found.inner]
        special = {id(found.gain_node): Role.GAIN, id(found.bias_node): Role.BIAS}
        annotate_all([(node, special.get(id(node), role)) for node, role in roles], form, site)


def _single_node(found: _Norm, op: str, channels: int, fresh: FreshNames) -> ir.Node:
    root = found.inner[-1].graph
    if not isinstance(root, ir.Graph):
        raise ValueError("the norm belongs to no graph")
    site, dtype = found.result.name or op, found.result.dtype or ir.DataType.FLOAT

    def flat(value: ir.Value | None, default: float | None, name: str) -> ir.Value | None:
        array = constant_array(value) if value is not None else None
        if array is None:
            return (
                None
                if default is None
                else add_initializer(root, np.full(channels, default, dtype.numpy()), fresh(name))
            )
        if array.shape == (channels,) and value is not None and value.const_value is not None:
            return value
        wide = np.broadcast_to(array.reshape(-1), (channels,))
        return add_initializer(root, np.ascontiguousarray(wide), fresh(name))

    inputs: list[ir.Value | None] = [found.data, flat(found.gain, 1.0, f"{site}_gain")]
    bias = flat(found.bias, None, f"{site}_bias")
    if bias is not None:
        inputs.append(bias)
    attributes = {"axis": -1, "epsilon": found.epsilon, "stash_type": 1}
    node = ir.node(op, inputs, attributes)
    replace_with(found.result, node, found.inner)
    return node


def _match(root: ir.Node) -> _Norm | str:
    """A match around this square root, or why not; an empty reason where nothing looks like a norm.

    An Add of an epsilon may be missing.
    """
    exponent = scalar_constant(root.inputs[1]) if root.op_type == "Pow" else 0.5
    if exponent not in (0.5, -0.5):
        return ""
    shifted = producer(root.inputs[0], "Add")
    split = with_scalar(shifted) if shifted is not None else (root.inputs[0], 0.0)  # exporters drop an epsilon of 1e-8
    variance = producer(behind_casts(split[0]), "ReduceMean") if split is not None else None
    if split is None or variance is None:
        return ""
    axes = reduction_axes(variance)
    if axes is None:
        return "the axes of the mean are not constant"
    if not variance.attributes.get_int("keepdims", 1):
        return "the mean drops its dimension"
    squared, square = _squared(variance.inputs[0])
    if squared is None or square is None:
        return "no square under the mean"
    inner = [square, variance, *([shifted] if shifted is not None else []), root]
    centered = producer(behind_casts(squared), "Sub")
    mean = producer(centered.inputs[1], "ReduceMean") if centered is not None else None
    data = squared
    is_centered = False
    if (
        centered is not None
        and mean is not None
        and centered.inputs[0] is not None
        and (behind_casts(mean.inputs[0]) is behind_casts(centered.inputs[0]) and reduction_axes(mean) == axes)
    ):
        inner = [mean, centered, *_casts_behind(centered, squared), *inner]
        data, is_centered = centered.inputs[0], True
    found = _Norm(data, axes, float(split[1]), is_centered, root.outputs[0], inner)
    statistics = list(found.inner)
    reason = _normalized(found, root, squared, exponent)
    if reason:
        found.inner = statistics
        if not _keras(found, root, mean, exponent):
            return reason
    _absorb_affine(found)
    leak = leaks(found.inner, found.result)
    return f"{leak.name} is read elsewhere" if leak is not None else found


def _one_each(found: _Norm, root: ir.Node, fresh: FreshNames) -> list[_Norm]:
    """The match, or where several gains read what it normalizes (norms of one value, computed once), one for each."""
    end, casts = found.result, list[ir.Node]()
    while (cast := sole_consumer(end)) is not None and cast.op_type == "Cast":
        casts.append(cast)
        end = cast.outputs[0]
    uses = tuple(end.uses())
    scaled = all(use.node.op_type == "Mul" and _per_channel(other_operand(use.node, end), found.data) for use in uses)
    if found.gain is not None or found.axes != (-1,) or len(uses) < 2 or end.is_graph_output() or not scaled:
        return [found]
    roots = [root]
    for use in uses[1:]:
        copies = _copied([*found.inner, *casts], fresh)
        use.node.replace_input_with(use.idx, copies[end].outputs[0])
        roots.append(copies[root.outputs[0]])
    return [each for item in roots if isinstance(each := _match(item), _Norm)]


def _copied(nodes: list[ir.Node], fresh: FreshNames) -> dict[ir.Value, ir.Node]:
    """Copies of these nodes, in order, behind the last one; by the value of which each makes a copy."""
    made: dict[ir.Value, ir.Node] = {}
    anchor = nodes[-1]
    for node in nodes:
        value = node.outputs[0]
        inputs = [made[item].outputs[0] if item in made else item for item in node.inputs]
        copy = make_node(node.op_type, inputs, dict(node.attributes), output=fresh(f"{value.name}_copy"),
                         dtype=value.dtype, shape=value.shape)  # fmt: skip
        assert isinstance(anchor.graph, ir.Graph)
        anchor.graph.insert_after(anchor, copy)
        made[value], anchor = copy, copy
    return made


def _casts_behind(node: ir.Node, value: ir.Value) -> list[ir.Node]:
    """The Casts from a node's output to the value: torch centres in float16 and squares in float32."""
    found: list[ir.Node] = []
    while value is not node.outputs[0] and (cast := producer(value, "Cast")) is not None and cast.inputs[0] is not None:
        found.insert(0, cast)
        value = cast.inputs[0]
    return found


def _squared(value: ir.Value | None) -> tuple[ir.Value | None, ir.Node | None]:
    node = producer(behind_casts(value), "Pow", "Mul")
    if node is None:
        return None, None
    if node.op_type == "Mul":
        return (node.inputs[0], node) if node.inputs[0] is node.inputs[1] else (None, None)
    return (node.inputs[0], node) if scalar_constant(node.inputs[1]) == 2 else (None, None)


def _normalized(found: _Norm, root: ir.Node, squared: ir.Value, exponent: float) -> str:
    """d / s or d * (1 / s); adds the nodes and sets the result."""
    node = next_through_casts(root.outputs[0], found.inner)
    if node is None:
        return "the root is read more than once"
    inverse = exponent < 0
    if not inverse and (
        node.op_type == "Reciprocal" or (node.op_type == "Div" and scalar_constant(node.inputs[0]) == 1)
    ):
        found.inner.append(node)
        inverse = True
        node = next_through_casts(node.outputs[0], found.inner)
        if node is None:
            return "the root is read more than once"
    if node.op_type != ("Mul" if inverse else "Div"):
        return f"{node.op_type} behind the root"
    pair = [behind_casts(value) for value in node.inputs]
    if not any(value is behind_casts(squared) for value in (pair if inverse else pair[:1])):
        return "what is divided is not what was squared"
    found.inner.append(node)
    found.result = node.outputs[0]
    return ""


def _keras(found: _Norm, root: ir.Node, mean: ir.Node | None, exponent: float) -> bool:
    """x * s + (bias - mean * s) with s = gain / sqrt(...): Keras and TensorFlow's batch form."""
    if mean is None or not found.centered:
        return False
    inner = list(found.inner)
    scale = root.outputs[0]
    node = sole_consumer(scale)
    if exponent > 0:
        if node is None or not (
            node.op_type == "Reciprocal" or (node.op_type == "Div" and scalar_constant(node.inputs[0]) == 1)
        ):
            return False
        inner.append(node)
        scale = node.outputs[0]
        node = sole_consumer(scale)
    gain: ir.Value | None = None
    if node is not None and node.op_type == "Mul" and constant_array(other_operand(node, scale)) is not None:
        gain, scale = other_operand(node, scale), node.outputs[0]
        inner.append(node)
        gain_node = node
    else:
        gain_node = None
    products = [use.node for use in scale.uses()]
    if len(products) != 2 or any(item.op_type != "Mul" for item in products):
        return False
    of_data = next((item for item in products if other_operand(item, scale) is found.data), None)
    of_mean = next((item for item in products if other_operand(item, scale) is mean.outputs[0]), None)
    shift = sole_consumer(of_mean.outputs[0]) if of_mean is not None else None
    total = sole_consumer(of_data.outputs[0]) if of_data is not None else None
    if (
        of_data is None
        or of_mean is None
        or shift is None
        or total is None
        or shift.op_type != "Sub"
        or total.op_type != "Add"
    ):
        return False
    if shift.inputs[1] is not of_mean.outputs[0] or other_operand(total, of_data.outputs[0]) is not shift.outputs[0]:
        return False
    if not (_per_channel(shift.inputs[0], found.data) and (gain is None or _per_channel(gain, found.data))):
        return False
    found.inner = [*inner, of_data, of_mean, shift, total]
    found.gain, found.bias, found.gain_node, found.bias_node = gain, shift.inputs[0], gain_node, total
    found.result = total.outputs[0]
    return True


def _absorb_affine(found: _Norm) -> None:
    """Take in gain and bias where they are constants along the last axis."""
    if found.bias is not None or found.gain is not None or found.axes != (-1,):
        return
    casts: list[ir.Node] = []
    node = next_through_casts(found.result, casts)
    narrow = _narrow(found, casts)
    if node is None or node.op_type != "Mul" or (casts and not narrow):
        return
    source = found.result if not casts else casts[-1].outputs[0]
    gain = other_operand(node, source)
    if not _per_channel(gain, found.data):
        return
    if narrow:
        found.data = behind_casts(found.data) or found.data
    found.inner += [*casts, node]
    found.gain, found.gain_node, found.result = gain, node, node.outputs[0]
    follower = sole_consumer(found.result)
    if follower is not None and follower.op_type == "Add" and found.centered:
        bias = other_operand(follower, found.result)
        if _per_channel(bias, found.data):
            found.inner.append(follower)
            found.bias, found.bias_node, found.result = bias, follower, follower.outputs[0]


def _narrow(found: _Norm, casts: list[ir.Node]) -> bool:
    """float16 -> Cast -> statistics in float32 -> Cast -> float16: the operator does that by itself."""
    source = behind_casts(found.data)
    return bool(casts) and source is not None and source.dtype == casts[-1].outputs[0].dtype


def _per_channel(value: ir.Value | None, data: ir.Value) -> bool:
    """Whether the value is a constant with an element per channel of `data`, or a single one."""
    array = constant_array(value)
    channels = data.shape[-1] if data.shape is not None and len(data.shape) else None
    if array is None or any(size != 1 for size in array.shape[:-1]):
        return False
    return array.size == 1 or not isinstance(channels, int) or array.size == channels
