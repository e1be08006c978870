"""Rotate queries and keys alike: their products stay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import FreshNames
from qcompiler.passes.rotate.draws import Draws, draw_of, misfit
from qcompiler.passes.rotate.hadamard import rotation
from qcompiler.passes.rotate.insert_rotation import RotationInserter
from qcompiler.passes.rotate.outcome import rotate_sites
from qcompiler.passes.rotate.score_operands import ScoreOperands, score_operands
from qcompiler.passes.rotate.turn import Turn
from qcompiler.passes.sites.records import Refusal
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class RotateScores(Pass):
    """Q K^T   becomes   (Q R) (K R)^T, R [size of a head], as a MatMul on each side.

    Behind the rotary embedding, which turns pairs of channels by position and lets no other rotation pass; keys of a
    cache are rotated behind it, so that the cache holds what it held. The added MatMuls stay float.

    Source: QuaRot, arXiv:2404.00456, section 4, stage 2c.

    Attributes:
        sites: Names of the products; None for all.
        seed: Of the signs in R.
        draws: Sites with signs, or an order of their channels, of their own.
    """

    name: ClassVar[str] = "rotate-scores"
    sites: tuple[str, ...] | None = None
    seed: int = 0
    draws: Draws = field(default=(), repr=False)

    def run(self, model: ir.Model) -> Outcome:
        inserter = RotationInserter(model, FreshNames(model))

        def act(found: ScoreOperands | Refusal) -> str:
            if not isinstance(found, ScoreOperands):
                return found.reason
            draw = draw_of(self.draws, found.name, self.seed)
            if why := misfit(draw, found.size):
                return why
            _rotate(inserter, found, Turn(rotation(found.size, draw.seed, draw.places(found.size))))
            return ""

        return rotate_sites(score_operands(model), self.sites, act)


def _rotate(inserter: RotationInserter, found: ScoreOperands, by: Turn) -> None:
    product = found.product
    queries, keys = product.inputs[:2]
    assert queries is not None and keys is not None
    product.replace_input_with(0, inserter.insert(queries, by, product))
    if found.keys is None:
        product.replace_input_with(1, inserter.insert_columns(keys, by, product))
        return
    node, index = found.keys
    value = node.inputs[index]
    assert value is not None
    node.replace_input_with(index, inserter.insert(value, by, node))
