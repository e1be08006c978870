"""LayerNorm, RMSNorm and GroupNorm out of the primitive operators that exporters write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import (
    FreshNames,
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
    with_scalar,
)
from qcompiler.passes.canonical.norm_match import Norm, absorb_affine, per_channel
from qcompiler.passes.canonical.norm_operator import put_operator
from qcompiler.pipeline import Outcome, Pass, Skip

_WHOLE = {
    "LayerNormalization": Form.LAYER_NORM,
    "RMSNormalization": Form.RMS_NORM,
    "GroupNormalization": Form.GROUP_NORM,
}


@dataclass(frozen=True)
class RecogniseNorms(Pass):
    """(x - mean) / sqrt(var + eps) * gain + bias becomes LayerNormalization; without mean and bias RMSNormalization.

    Squares as Pow(2) or Mul(d, d), the root as Sqrt or Pow, its inverse as Div or Reciprocal, constants on either side,
    Casts to float32 around the statistics, Keras's x * s + (bias - mean * s). The operator computes its statistics in
    float32. A norm over one other axis with a gain along it (channels-first, as in ConvNeXt and SAM) gets a Transpose
    on both sides. Where the target lacks the operator, or for other axes (GroupNorm), the nodes stay and are annotated.

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

    def _apply(self, found: Norm, site: str, fresh: FreshNames) -> None:
        form = Form.LAYER_NORM if found.centered else Form.RMS_NORM
        op = "LayerNormalization" if found.centered else "RMSNormalization"
        channels = found.channels
        taken = op in self.native_ops and found.result.dtype == found.data.dtype
        one_axis = found.axes == (-1,) or (len(found.axes) == 1 and found.gain is not None)
        if one_axis and taken and channels is not None:
            node = put_operator(found, op, channels, fresh)
            annotate(node, form, Role.WHOLE, site)
            node.name = fresh(site)
            return
        form = form if found.axes == (-1,) else Form.GROUP_NORM
        roles = [(node, Role.CAST if node.op_type == "Cast" else Role.INNER) for node in found.inner]
        special = {id(found.gain_node): Role.GAIN, id(found.bias_node): Role.BIAS}
        annotate_all([(node, special.get(id(node), role)) for node, role in roles], form, site)


def _match(root: ir.Node) -> Norm | str:
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
    found = Norm(data, axes, float(split[1]), is_centered, root.outputs[0], inner)
    statistics = list(found.inner)
    reason = _normalized(found, root, squared, exponent)
    if reason:
        found.inner = statistics
        if not _keras(found, root, mean, exponent):
            return reason
    absorb_affine(found)
    leak = leaks(found.inner, found.result)
    return f"{leak.name} is read elsewhere" if leak is not None else found


def _one_each(found: Norm, root: ir.Node, fresh: FreshNames) -> list[Norm]:
    """The match, or where several gains read what it normalizes (norms of one value, computed once), one for each."""
    end, casts = found.result, list[ir.Node]()
    while (cast := sole_consumer(end)) is not None and cast.op_type == "Cast":
        casts.append(cast)
        end = cast.outputs[0]
    uses = tuple(end.uses())
    scaled = all(use.node.op_type == "Mul" and per_channel(other_operand(use.node, end), found.data) for use in uses)
    if found.gain is not None or found.axes != (-1,) or len(uses) < 2 or end.is_graph_output() or not scaled:
        return [found]
    roots = [root]
    for use in uses[1:]:
        copies = _copied([*found.inner, *casts], fresh)
        use.node.replace_input_with(use.idx, copies[end].outputs[0])
        roots.append(copies[root.outputs[0]])
    return [each for item in roots if isinstance(each := _match(item), Norm)]


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


def _normalized(found: Norm, root: ir.Node, squared: ir.Value, exponent: float) -> str:
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


def _keras(found: Norm, root: ir.Node, mean: ir.Node | None, exponent: float) -> bool:
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
    if not (per_channel(shift.inputs[0], found.data) and (gain is None or per_channel(gain, found.data))):
        return False
    found.inner = [*inner, of_data, of_mean, shift, total]
    found.gain, found.bias, found.gain_node, found.bias_node = gain, shift.inputs[0], gain_node, total
    found.result = total.outputs[0]
    return True
