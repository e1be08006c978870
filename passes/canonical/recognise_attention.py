"""Softmax attention: both products, scale, mask and softmax, whatever order the exporter wrote them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import all_nodes, constant_array, rank, scalar_constant
from qcompiler.passes.canonical.forms import Form, Role, annotate, annotate_all
from qcompiler.passes.canonical.matching import is_activation, producer, with_scalar
from qcompiler.pipeline import Outcome, Pass, Skip

_Roles = list[tuple[ir.Node, Role]]
_LAYOUT = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten")
_MAX_STEPS = 8


@dataclass(frozen=True)
class RecogniseAttention(Pass):
    """softmax(Q K^T * scale + mask) V is annotated: `qk`, `scale`, `mask_add`, `softmax`, `pv`, `repeat`.

    So is clipped softmax (Bondarenko et al., arXiv:2306.12929, equation 4), clip((zeta - gamma) softmax + gamma, 0, 1)
    V, with `stretch` and `clip`: it gives exact zeros, and no zero needs a score far below the others.

    Scores capped by c tanh(s / c) (Gemma 2) are a form of their own, CAPPED_ATTENTION, with `cap`: no fused kernel
    takes that.

    The scale stands on the scores or on Q or K or both, as Mul or Div; the mask is added or chosen by Where; heads of
    K and V may be repeated by Expand for grouped queries. Nothing is rewritten: both products stay MatMuls, which
    quantize.
    """

    name: ClassVar[str] = "recognise-attention"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        skipped: list[Skip] = []
        modified = False
        for node in all_nodes(model):
            if node.domain != "" or node.op_type not in ("Softmax", "Attention"):
                continue
            site = node.name or node.op_type
            if node.op_type == "Attention":
                modified |= annotate(node, Form.ATTENTION, Role.WHOLE, site)
                matched.append(site)
                continue
            roles = _match(node)
            if isinstance(roles, str):
                skipped.append(Skip(site, roles))
            else:
                capped = any(role is Role.CAP for _, role in roles)
                form = Form.CAPPED_ATTENTION if capped else Form.ATTENTION
                modified |= annotate_all(roles, form, site)
                matched.append(site)
        return Outcome(modified, tuple(matched), tuple(skipped))


def _match(softmax: ir.Node) -> _Roles | str:
    axis, dims = softmax.attributes.get_int("axis", -1), rank(softmax.inputs[0])
    if axis != -1 and axis + 1 != dims:
        return "the softmax is not over the last axis"
    scores = _scores(softmax.inputs[0], _MAX_STEPS)
    if scores is None:
        return "no product of two activations in front of the softmax"
    behind = _product_behind(softmax)
    if isinstance(behind, str):
        return behind
    roles: _Roles = [(softmax, Role.SOFTMAX), *scores, *behind]
    for node, role in (*scores, *behind):
        if role is Role.QK:
            roles += _operand_roles(node.inputs[0]) + _operand_roles(node.inputs[1])
        elif role is Role.PV:
            roles += _operand_roles(node.inputs[1])
    return roles


def _scores(value: ir.Value | None, steps: int) -> _Roles | None:
    """Nodes from the softmax's operand back to the product; None where there is none."""
    node = producer(value)
    if node is None or steps == 0:
        return None
    if node.op_type == "MatMul":
        return [(node, Role.QK)] if is_activation(node.inputs[0]) and is_activation(node.inputs[1]) else None
    if (data := _scaled(node)) is not None:
        rest = _scores(data, steps - 1)
        return None if rest is None else [(node, Role.SCALE), *rest]
    if node.op_type in ("Add", "Where", "Max", "Sub", "Sum"):
        found = [part for item in node.inputs if (part := _scores(item, steps - 1)) is not None]
        return [(node, Role.MASK_ADD), *(pair for part in found for pair in part)] if found else None
    if node.op_type in ("Cast", "Tanh"):
        rest = _scores(node.inputs[0], steps - 1)
        role = Role.CAP if node.op_type == "Tanh" else Role.CAST
        return None if rest is None else [(node, role), *rest]
    if node.op_type in _LAYOUT:
        return _scores(node.inputs[0], steps - 1)
    return None


def _scaled(node: ir.Node) -> ir.Value | None:
    """What is multiplied or divided by one constant, or by one for each head (the cosine attention of Swin V2)."""
    for index in {"Mul": (0, 1), "Div": (0,)}.get(node.op_type, ()):
        factor = constant_array(node.inputs[1 - index])
        if factor is not None and all(size == 1 for size in factor.shape[-2:]):
            return node.inputs[index]
    return None


def _product_behind(softmax: ir.Node) -> _Roles | str:
    """The product that reads the probabilities, with what stands between; or why there is none."""
    paths: list[tuple[ir.Value, _Roles]] = [(softmax.outputs[0], [])]
    reason = "no product of two activations behind the softmax"
    for _ in range(_MAX_STEPS):
        following: list[tuple[ir.Value, _Roles]] = []
        for value, between in paths:
            stretched = bool(between) and between[-1][1] is Role.STRETCH
            for use in value.uses():
                node, index = use.node, use.idx
                if node.op_type == "MatMul" and is_activation(node.inputs[1 - index]):
                    if not stretched:
                        return [*between, (node, Role.PV)]
                    reason = "the softmax is stretched and not clipped"
                elif node.op_type == "Clip" and index == 0:
                    if len(node.inputs) > 1 and scalar_constant(node.inputs[1]) == 0:
                        following.append((node.outputs[0], [*between, (node, Role.CLIP)]))
                    else:
                        reason = "the softmax is clipped, and not from 0 on"
                elif node.op_type in ("Mul", "Div", "Add", "Sub") and with_scalar(node) is not None:
                    following.append((node.outputs[0], [*between, (node, Role.STRETCH)]))
                elif node.op_type == "Cast":
                    cast = Role.STRETCH if stretched else Role.CAST
                    following.append((node.outputs[0], [*between, (node, cast)]))
                elif node.op_type == "Where" and index > 0 and not stretched:
                    following.append((node.outputs[0], [*between, (node, Role.MASK_ADD)]))
                elif node.op_type in (*_LAYOUT, "Dropout"):
                    following.append((node.outputs[0], between))
        paths = following
    return reason


def _operand_roles(value: ir.Value | None) -> _Roles:
    """Scales and head repeats on the way to Q, K or V."""
    roles: _Roles = []
    for _ in range(_MAX_STEPS):
        node = producer(value)
        if node is None:
            break
        if node.op_type in ("Mul", "Div") and (split := with_scalar(node)) is not None:
            roles.append((node, Role.SCALE))
            value = split[0]
        elif node.op_type in ("Expand", "Tile"):
            roles.append((node, Role.REPEAT))
            value = node.inputs[0]
        elif node.op_type in _LAYOUT or node.op_type == "Cast":
            value = node.inputs[0]
        else:
            break
    return roles
