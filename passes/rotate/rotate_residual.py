"""Rotate a residual stream: its writers by Q, its readers by Q transposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.passes.fold.fold_norm_gain import fold_gain, why_not_folded
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
    """

    name: ClassVar[str] = "rotate-residual"
    sites: tuple[str, ...] | None = None
    seed: int = 0

    def run(self, model: ir.Model) -> Outcome:
        editor = WeightEditor(model)

        def act(found: Stream | NoStream) -> str:
            return found.reason if isinstance(found, NoStream) else _rotate(editor, found, self.seed)

        return rotate_sites(residual_streams(model), self.sites, act)


def _rotate(editor: WeightEditor, stream: Stream, seed: int) -> str:
    for site in stream.norms:
        if reason := why_not_folded(site):
            return f"norm {site.name}: {reason}"
    matrix = (rotation_keeping_ones if stream.centred else rotation)(stream.channels, seed)
    by = Turn(matrix)
    for operand in stream.writers:
        editor.turn(operand, by)
        mark(operand.node, "residual")
    for reader in stream.readers:
        editor.turn(reader.weight, by)
    for site in stream.norms:
        fold_gain(editor, site, by)
        mark(site.scales[0].node, "residual")
    return ""
