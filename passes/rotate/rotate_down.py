"""Rotate what a down projection reads, by nodes in front of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from qcompiler.passes.canonical.forms import Form, form_of
from qcompiler.passes.rotate.draws import Draws
from qcompiler.passes.rotate.rotate_in_front import rotate_in_front
from qcompiler.passes.sites.layer_sites import mlp_sites
from qcompiler.passes.sites.records import Refusal, Site
from qcompiler.pipeline import Outcome, Pass


def down_sites(model: ir.Model) -> list[Site | Refusal]:
    """What the down projections of gated and plain MLPs read, where only they do."""
    found: list[Site | Refusal] = []
    for site in mlp_sites(model):
        if isinstance(site, Refusal):
            found.append(site)
        elif any(form_of(reader.node) is Form.ROTATION for reader in site.readers):
            found.append(Refusal(site.kind, site.name, "it is rotated already"))
        elif site.value.shape is None or site.axis != -1 or any(r.node.op_type == "Conv" for r in site.readers):
            found.append(Refusal(site.kind, site.name, "its channels are not the last axis of a known rank"))
        else:
            found.append(site)
    return found


@dataclass(frozen=True)
class RotateDown(Pass):
    """h -> down_proj W   becomes   h -> rotation K -> K^T W: the nonlinearity in front lets no rotation pass.

    K is one Hadamard matrix up to 64 channels, else the product of two over the same channels (Reshape, two MatMuls,
    Reshape). The added MatMuls stay float.

    Source: QuaRot, arXiv:2404.00456, section 4, stage 1b.

    Attributes:
        sites: Names of what is rotated; None for all.
        seed: Of the signs in K.
        draws: Sites with signs, or an order of their channels, of their own.
    """

    name: ClassVar[str] = "rotate-down"
    sites: tuple[str, ...] | None = None
    seed: int = 0
    draws: Draws = field(default=(), repr=False)

    def run(self, model: ir.Model) -> Outcome:
        return rotate_in_front(model, down_sites(model), self.sites, self.seed, self.draws)
