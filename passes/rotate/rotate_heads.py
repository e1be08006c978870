"""Rotate the values of attention head by head, into the layers on both sides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from qcompiler.passes.rotate.draws import Draw, Draws, draw_of, misfit
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
        draws: Sites with signs, or an order of their channels, of their own.
    """

    name: ClassVar[str] = "rotate-heads"
    sites: tuple[str, ...] | None = None
    seed: int = 0
    draws: Draws = field(default=(), repr=False)

    def run(self, model: ir.Model) -> Outcome:
        editor = WeightEditor(model)
        turns: dict[tuple[int, Draw], Turn] = {}

        def act(found: HeadValues | Refusal) -> str:
            if not isinstance(found, HeadValues):
                return found.reason
            draw = draw_of(self.draws, found.name, self.seed)
            if why := misfit(draw, found.size):
                return why
            if (found.size, draw) not in turns:
                turns[found.size, draw] = heads_turn(found.size, draw)
            by = turns[found.size, draw]
            for operand in found.made:
                editor.turn(operand, by, part=found.part)
            for reader in found.readers:
                editor.turn(reader.weight, by)
                mark(reader.node, "heads")
            return ""

        return rotate_sites(head_values(model), self.sites, act)


def heads_turn(size: int, draw: Draw) -> Turn:
    """R for heads of so many channels."""
    return Turn(rotation(size, draw.seed, draw.places(size)))
