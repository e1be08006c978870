"""What the output projections of gated recurrences read: y * silu(z), or the norm of it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qcompiler.graph import is_constant
from qcompiler.passes.canonical.forms import ACTIVATION_FORMS, Form, form_of, site_of
from qcompiler.passes.canonical.matching import behind_casts, producer
from qcompiler.passes.recurrence.roles import TensorRole, tensor_role
from qcompiler.passes.sites.layer_sites import mlp_sites
from qcompiler.passes.sites.norm_sites import norm_sites
from qcompiler.passes.sites.readers import find_readers
from qcompiler.passes.sites.records import Kind, Reader, Refusal, Site


def gated_sites(model: ir.Model) -> list[Site | Refusal]:
    """Tensors y * silu(z), y no layer's own result, that layers alone read: of a Mamba-1 block the product itself, of
    a Mamba-2 block the norm behind it, whose gain then is the site's scale.

    Products with the role GATED, and others of the same form where the recurrence was not recognised (chunked matrix
    products). What `down_sites` takes, the product of two layers, is left to it. In graph order.
    """
    taken = {item.name for item in mlp_sites(model) if isinstance(item, Site)}
    norms = {_normalized(site): site for site in norm_sites(model) if isinstance(site, Site)}
    found: list[Site | Refusal] = []
    for node in model.graph:
        product = node.outputs[0] if node.op_type == "Mul" and form_of(node) is None else None
        if product is None or product.name in taken or not _is_gated(node):
            continue
        behind = norms.get(product)
        item = _plain(product) if behind is None else _normed(behind)
        if item is not None:
            found.append(item)
    return found


def _is_gated(node: ir.Node) -> bool:
    if tensor_role(node.outputs[0]) is TensorRole.GATED:
        return True
    if any(is_constant(value) for value in node.inputs):
        return False
    makers = (producer(behind_casts(value)) for value in node.inputs)
    return any(maker is not None and form_of(maker) in ACTIVATION_FORMS for maker in makers)


def _plain(value: ir.Value) -> Site | Refusal | None:
    found = find_readers(value)
    if not found.layers and not found.refusal:
        return None  # nothing that a rotation could be folded into
    if found.refusal or found.edges:
        return Refusal(Kind.GATED, str(value.name), found.refusal or "other nodes than layers read it too")
    channels = value.shape[-1] if value.shape is not None and len(value.shape) else None
    refusal = _why_not(found.layers, channels)
    if refusal or not isinstance(channels, int):
        return Refusal(Kind.GATED, str(value.name), refusal)
    return Site(Kind.GATED, value, channels, (), None, tuple(found.layers), shifts=False)


def _normed(site: Site) -> Site | Refusal:
    """The norm of the product; its gain is given where it can be folded into the readers."""
    if site.edges:
        return Refusal(Kind.GATED, site.name, "other nodes than layers read its norm too")
    refusal = _why_not(site.readers, site.channels)
    if refusal:
        return Refusal(Kind.GATED, site.name, refusal)
    gains = site.scales if site.bias is None else ()
    return Site(Kind.GATED, site.value, site.channels, gains, None, site.readers, shifts=False)


def _why_not(readers: Sequence[Reader], channels: int | ir.SymbolicDim | None) -> str:
    if any(form_of(reader.node) is Form.ROTATION for reader in readers):
        return "it is rotated already"
    if not isinstance(channels, int) or any(reader.node.op_type in ("Conv", "ConvTranspose") for reader in readers):
        return "its channels are not the last axis of a known size"
    return ""


def _normalized(site: Site) -> ir.Value | None:
    """What the norm of this site reads."""
    waiting = [site.value.producer()]
    seen: set[ir.Node] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for value in node.inputs:
            maker = None if value is None else value.producer()
            if value is None or is_constant(value):
                continue
            if maker is None or form_of(maker) is None or site_of(maker) != site_of(node):
                return value
            waiting.append(maker)
    return None
