"""Rotate what the output projection of a gated recurrence reads, by nodes in front of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from qcompiler.passes.rotate.draws import Draws
from qcompiler.passes.rotate.gated_sites import gated_sites
from qcompiler.passes.rotate.rotate_in_front import rotate_in_front
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
        draws: Sites with signs, or an order of their channels, of their own.
    """

    name: ClassVar[str] = "rotate-gated"
    sites: tuple[str, ...] | None = None
    seed: int = 0
    draws: Draws = field(default=(), repr=False)

    def run(self, model: ir.Model) -> Outcome:
        return rotate_in_front(model, gated_sites(model), self.sites, self.seed, self.draws, take_gain=True)
