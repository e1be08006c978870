"""Values of attention whose heads can be rotated: the layers that make them and the one that reads them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.passes.canonical.forms import Role, role_of
from qcompiler.passes.canonical.matching import producer
from qcompiler.passes.rotate.marks import is_marked
from qcompiler.passes.sites.layer_sites import value_sites
from qcompiler.passes.sites.records import Refusal, Site


@dataclass(frozen=True, slots=True)
class HeadValues:
    """One attention.

    Attributes:
        site: Its value-output site.
        size: Channels of one head.
    """

    site: Site
    size: int


def head_values(model: ir.Model) -> list[HeadValues | Refusal]:
    """Each attention whose values come from a layer and whose joined heads only layers read (no cache between)."""
    found: list[HeadValues | Refusal] = []
    for item in value_sites(model):
        if isinstance(item, Refusal):
            found.append(item)
            continue
        size = _head_size(item)
        if is_marked(item.readers[0].node, "heads"):
            found.append(Refusal(item.kind, item.name, "it is rotated already"))
        elif size is None:
            found.append(Refusal(item.kind, item.name, "the size of its heads is not known"))
        else:
            found.append(HeadValues(item, size))
    return found


def _head_size(site: Site) -> int | None:
    joined = producer(site.value, "Reshape")
    back = producer(joined.inputs[0], "Transpose") if joined is not None else None
    product = producer(back.inputs[0], "MatMul") if back is not None else None
    shape = product.outputs[0].shape if product is not None and role_of(product) is Role.PV else None
    return shape[-1] if shape is not None and isinstance(shape[-1], int) else None
