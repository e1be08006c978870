"""Rotate what the output projection of a gated recurrence reads, by nodes in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.passes.rotate.gated_sites import gated_sites
from qcompiler.passes.rotate.insert_rotation import RotationInserter, online_turn
from qcompiler.passes.rotate.outcome import rotate_sites
from qcompiler.passes.rotate.turn import WeightEditor, wide_array
from qcompiler.passes.sites.records import Refusal, Site
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class RotateGated(Pass):
    """y * silu(z) -> out_proj W   becomes   y * silu(z) -> rotation K -> K^T W.

    A norm between them (Mamba-2) stays in front of the rotation, and its gain goes into the weights:
    norm(., gain) -> W   becomes   norm(., 1) -> rotation K -> K^T diag(gain) W; a norm with a bias keeps both.
    K is one Hadamard matrix up to 64 channels, else the product of two over the same channels (Reshape, two MatMuls,
    Reshape). The added MatMuls stay float.

    Source: Quamba, arXiv:2410.13229, section 4.2; Quamba2, arXiv:2503.22879.

    Attributes:
        sites: Names of what is rotated; None for all.
        seed: Of the signs in K.
    """

    name: ClassVar[str] = "rotate-gated"
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
            gain = None
            for operand in found.scales:
                gain = np.broadcast_to(wide_array(operand.value).reshape(-1), (found.channels,)).copy()
                editor.put(operand, np.ones(found.channels))
            for reader in found.readers:
                editor.turn(reader.weight, by, gain)
            return ""

        return rotate_sites(gated_sites(model), self.sites, act)
