"""Rotate what a down projection reads, by nodes in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.passes.canonical.forms import Form, form_of
from qcompiler.passes.rotate.insert_rotation import RotationInserter, online_turn
from qcompiler.passes.rotate.outcome import rotate_sites
from qcompiler.passes.rotate.turn import WeightEditor
from qcompiler.passes.sites.layer_sites import hidden_values
from qcompiler.passes.sites.readers import find_readers
from qcompiler.passes.sites.records import Kind, Refusal, Site
from qcompiler.pipeline import Outcome, Pass


def down_sites(model: ir.Model) -> list[Site | Refusal]:
    """What the down projections of gated and plain MLPs read, where only they do; of gated recurrences too, whose gate
    stands behind the scan (Quamba, arXiv:2410.13229, section 4.2, rotates the output of the scan)."""
    return [_site(kind, node.outputs[0]) for kind, node in hidden_values(model)]


def _site(kind: Kind, value: ir.Value) -> Site | Refusal:
    found = find_readers(value)
    channels = value.shape[-1] if value.shape is not None and len(value.shape) else None
    if found.refusal or found.edges:
        return Refusal(kind, str(value.name), found.refusal or "it is read by other nodes than layers")
    if any(form_of(reader.node) is Form.ROTATION for reader in found.layers):
        return Refusal(kind, str(value.name), "it is rotated already")
    if not isinstance(channels, int) or any(reader.node.op_type == "Conv" for reader in found.layers):
        return Refusal(kind, str(value.name), "its channels are not the last axis of a known rank")
    return Site(kind, value, channels, (), None, tuple(found.layers), shifts=False)


@dataclass(frozen=True)
class RotateDown(Pass):
    """h -> down_proj W   becomes   h -> rotation K -> K^T W: the nonlinearity in front lets no rotation pass.

    K is one Hadamard matrix up to 64 channels, else the product of two over the same channels (Reshape, two MatMuls,
    Reshape). The added MatMuls stay float.

    Source: QuaRot, arXiv:2404.00456, section 4, stage 1b.

    Attributes:
        sites: Names of what is rotated; None for all.
        seed: Of the signs in K.
    """

    name: ClassVar[str] = "rotate-down"
    sites: tuple[str, ...] | None = None
    seed: int = 0

    def run(self, model: ir.Model) -> Outcome:
        editor = WeightEditor(model)
        inserter = RotationInserter(model, editor.names)

        def act(found: Site | Refusal) -> str:
            if isinstance(found, Refusal):
                return found.reason
            by = online_turn(found.channels, self.seed)
            uses = tuple(found.value.uses())
            rotated = inserter.insert(found.value, by, uses[0].node)
            for use in uses:
                use.node.replace_input_with(use.idx, rotated)
            for reader in found.readers:
                editor.turn(reader.weight, by)
            return ""

        return rotate_sites(down_sites(model), self.sites, act)
