"""Forms that the planner must know, and how nodes say which one they belong to.

A recognised subgraph leaves three strings in `metadata_props` of each of its nodes: the form, the node's role in it,
and the site: the name of the value or node that the instance is known by, the same for all its nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import onnx_ir as ir

FORM_KEY = "qcompile.form"
ROLE_KEY = "qcompile.role"
SITE_KEY = "qcompile.site"


class Form(str, Enum):
    """What a subgraph is."""

    LAYER_NORM = "layer_norm"
    RMS_NORM = "rms_norm"
    GROUP_NORM = "group_norm"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    QUICK_GELU = "quick_gelu"
    SILU = "silu"
    HARD_SWISH = "hard_swish"
    MISH = "mish"
    ATTENTION = "attention"
    CAPPED_ATTENTION = "capped_attention"
    ROTARY = "rotary"
    ROTATION = "rotation"
    SPLIT = "split"


NORM_FORMS = frozenset({Form.LAYER_NORM, Form.RMS_NORM, Form.GROUP_NORM})
ATTENTION_FORMS = frozenset({Form.ATTENTION, Form.CAPPED_ATTENTION})
ACTIVATION_FORMS = frozenset({Form.GELU, Form.GELU_TANH, Form.QUICK_GELU, Form.SILU, Form.HARD_SWISH, Form.MISH})


class Role(str, Enum):
    """What a node does in its form.

    WHOLE: the form as one operator. INNER: a step of a norm or activation that nobody else reads. RESULT: the step
    whose output is the form's. QK and PV: the two attention products. REPEAT: key or value heads repeated for grouped
    queries. MASK_ADD: Add or Where that brings the mask (or a position bias) to the scores. CAP: Tanh over the scores.
    STRETCH and CLIP: of a clipped softmax, clip((zeta - gamma) p + gamma, 0, 1), what is multiplied and added, and the
    clip.
    """

    WHOLE = "whole"
    INNER = "inner"
    RESULT = "result"
    GAIN = "gain"
    BIAS = "bias"
    QK = "qk"
    PV = "pv"
    SCALE = "scale"
    MASK_ADD = "mask_add"
    CAP = "cap"
    SOFTMAX = "softmax"
    STRETCH = "stretch"
    CLIP = "clip"
    REPEAT = "repeat"
    CAST = "cast"


def form_of(node: ir.Node) -> Form | None:
    """The form that this node belongs to."""
    held = node.metadata_props.get(FORM_KEY)
    return Form(held) if held else None


def role_of(node: ir.Node) -> Role | None:
    """What this node does in its form."""
    held = node.metadata_props.get(ROLE_KEY)
    return Role(held) if held else None


def site_of(node: ir.Node) -> str | None:
    """The instance that this node belongs to."""
    return node.metadata_props.get(SITE_KEY)


def annotate(node: ir.Node, form: Form, role: Role, site: str) -> bool:
    """Write the three strings; False where the node bears them already or belongs to another form, which it keeps."""
    if FORM_KEY in node.metadata_props:
        return False
    node.metadata_props.update({FORM_KEY: form.value, ROLE_KEY: role.value, SITE_KEY: site})
    return True


def annotate_all(roles: Iterable[tuple[ir.Node, Role]], form: Form, site: str) -> bool:
    """Annotate several nodes; whether any of them was new."""
    new = [annotate(node, form, role, site) for node, role in roles]
    return any(new)
