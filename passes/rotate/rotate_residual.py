"""Rotate a residual stream: its writers by Q, its readers by Q transposed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.passes.rotate.draws import Draw, Draws, draw_of, misfit
from qcompiler.passes.rotate.hadamard import rotation, rotation_keeping_ones
from qcompiler.passes.rotate.marks import mark
from qcompiler.passes.rotate.outcome import rotate_sites
from qcompiler.passes.rotate.residual_streams import NoStream, Stream, residual_streams
from qcompiler.passes.rotate.turn import Turn, WeightEditor, form_of_bias, wide_array
from qcompiler.passes.sites.records import Reader, Reals, Site
from qcompiler.pipeline import Outcome, Pass

_SMALLEST_GAIN = 1e-3
"""A bias that has to stay in its norm is divided by the gain; below this share of the largest it would blow up."""


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
    kept = [site for site in stream.norms if site.bias is not None and not _takes_bias(site)]
    if any(_gain_is_small(site) for site in kept):
        return f"norm {kept[0].name} has a bias that its readers cannot take and a gain near zero"
    for operand in stream.writers:
        editor.turn(operand, by)
        mark(operand.node, "residual")
    for reader in stream.readers:
        editor.turn(reader.weight, by)
    for site in stream.norms:
        _rotate_norm(editor, site, by)
    return ""


def _rotate_norm(editor: WeightEditor, site: Site, by: Turn) -> None:
    gain = np.broadcast_to(wide_array(site.scales[0].value).reshape(-1), (site.channels,)).copy()
    if site.bias is not None:
        bias = np.broadcast_to(wide_array(site.bias.value).reshape(-1), (site.channels,))
        if _takes_bias(site):
            for reader in site.readers:
                _add_to_bias(editor, reader, bias)
            editor.put(site.bias, np.zeros(site.channels))
        else:
            editor.put(site.bias, by(bias / gain))
    for reader in site.readers:
        editor.turn(reader.weight, by, gain)
    editor.put(site.scales[0], np.ones(site.channels))
    mark(site.scales[0].node, "residual")


def _takes_bias(site: Site) -> bool:
    return all(reader.bias is not None for reader in site.readers)


def _gain_is_small(site: Site) -> bool:
    gain = np.abs(wide_array(site.scales[0].value))
    return bool(gain.min() <= _SMALLEST_GAIN * gain.max())


def _add_to_bias(editor: WeightEditor, reader: Reader, bias: Reals) -> None:
    assert reader.bias is not None
    weight = wide_array(reader.weight.value)
    matrix = weight.reshape(weight.shape[:2])  # a 1x1 Conv is one
    moved = bias @ (matrix if reader.weight.axis == 0 else matrix.T)
    old = wide_array(reader.bias.value).reshape(-1)
    editor.put(reader.bias, form_of_bias(reader.bias, old + moved))
