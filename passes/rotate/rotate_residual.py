"""Rotate a residual stream: its writers by Q, its readers by Q transposed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from qcompiler.passes.fold.fold_norm_gain import fold_gain, why_not_folded
from qcompiler.passes.rotate.draws import Draw, Draws, draw_of, misfit
from qcompiler.passes.rotate.hadamard import rotation, rotation_keeping_ones
from qcompiler.passes.rotate.marks import mark
from qcompiler.passes.rotate.outcome import rotate_sites
from qcompiler.passes.rotate.residual_streams import NoStream, Stream, residual_streams
from qcompiler.passes.rotate.turn import Turn, WeightEditor
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class RotateResidual(Pass):
    """x -> norm(gain, bias) -> W   becomes   x Q -> norm(1, 0) -> Q^T diag(gain) W, and every writer of x writes x Q.

    RMSNorm takes any orthogonal Q. LayerNorm also takes the mean off, so Q maps the vector of ones to itself: then
    mean(x Q) = mean(x), and LayerNorm(x Q) = LayerNorm(x) Q holds as it stands. The mean need not be absorbed into the
    writers first, the norm stays the operator that it is, and no node is added. The norm's bias goes into the biases of
    its readers; where one has none it stays in the norm as (bias / gain) Q.
    Products are taken in float64 and rounded once. Initializers are never written in place: tied tables get a copy.

    Source: QuaRot, arXiv:2404.00456, section 3; SliceGPT, arXiv:2401.15024, section 3.1.

    Attributes:
        sites: Names of streams; None for all.
        seed: Of the signs in Q.
        draws: Sites with signs, or an order of their channels, of their own.
    """

    name: ClassVar[str] = "rotate-residual"
    sites: tuple[str, ...] | None = None
    seed: int = 0
    draws: Draws = field(default=(), repr=False)

    def run(self, model: ir.Model) -> Outcome:
        editor = WeightEditor(model)

        def act(found: Stream | NoStream) -> str:
            if isinstance(found, NoStream):
                return found.reason
            draw = draw_of(self.draws, found.name, self.seed)
            return misfit(draw, found.channels) or turn_stream(editor, found, stream_turn(found, draw))

        return rotate_sites(residual_streams(model), self.sites, act)


def stream_turn(stream: Stream, draw: Draw) -> Turn:
    """Q for a stream: one that keeps the mean where a norm takes it off."""
    made = rotation_keeping_ones if stream.centred else rotation
    return Turn(made(stream.channels, draw.seed, draw.places(stream.channels)))


def turn_stream(editor: WeightEditor, stream: Stream, by: Turn) -> str:
    """Multiply a stream by Q, and gains and biases of its norms into their readers; why not, or ""."""
    for site in stream.norms:
        if reason := why_not_folded(site):
            return f"norm {site.name}: {reason}"
    for operand in stream.writers:
        editor.turn(operand, by)
        mark(operand.node, "residual")
    for reader in stream.readers:
        editor.turn(reader.weight, by)
    for site in stream.norms:
        fold_gain(editor, site, by)
        mark(site.scales[0].node, "residual")
    return ""
