"""Rotate the values of attention head by head, into the layers on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.passes.rotate.hadamard import rotation
from qcompiler.passes.rotate.head_values import HeadValues, head_values
from qcompiler.passes.rotate.marks import mark
from qcompiler.passes.rotate.outcome import rotate_sites
from qcompiler.passes.rotate.turn import Turn, WeightEditor
from qcompiler.passes.sites.records import Refusal
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class RotateHeads(Pass):
    """v_proj -> softmax(..) V -> o_proj   becomes   v_proj (1 (x) R) -> softmax(..) V -> (1 (x) R)^T o_proj.

    R [size of a head] is the same for all heads, so that grouped queries share it; attention mixes positions, not
    channels, and lets it pass. No node is added.

    Source: QuaRot, arXiv:2404.00456, section 4, stage 1c.

    Attributes:
        sites: Names of the joined heads; None for all.
        seed: Of the signs in R.
    """

    name: ClassVar[str] = "rotate-heads"
    sites: tuple[str, ...] | None = None
    seed: int = 0

    def run(self, model: ir.Model) -> Outcome:
        editor = WeightEditor(model)
        turns: dict[int, Turn] = {}

        def act(found: HeadValues | Refusal) -> str:
            if not isinstance(found, HeadValues):
                return found.reason
            by = turns.setdefault(found.size, Turn(rotation(found.size, self.seed)))
            for operand in found.made:
                editor.turn(operand, by, part=found.part)
            for reader in found.readers:
                editor.turn(reader.weight, by)
                mark(reader.node, "heads")
            return ""

        return rotate_sites(head_values(model), self.sites, act)
