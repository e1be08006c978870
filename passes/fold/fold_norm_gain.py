"""A norm's gain and bias go into the layers that read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.passes.rotate.turn import Turn, WeightEditor, form_of_bias, wide_array
from qcompiler.passes.sites.norm_sites import norm_sites
from qcompiler.passes.sites.records import Operand, Reader, Reals, Refusal, Site
from qcompiler.pipeline import Outcome, Pass, Skip

_SMALLEST_GAIN = 1e-3
"""A bias that has to stay in its norm is divided by the gain; below this share of the largest it would blow up."""


@dataclass(frozen=True)
class FoldNormGain(Pass):
    """norm(gain, bias) -> W x + b   becomes   norm(1, 0) -> (W diag(gain)) x + (b + W bias).

    The first step of rotations (QuaRot, arXiv:2404.00456, section 3) and of OutlierTune for RMSNorm models
    (arXiv:2406.18832); by itself it moves what is large in a gain into the weights. Where a reader has no bias, or a
    shift is not exact (padded convolutions), the norm's bias stays there as bias / gain. No node is added. Products are
    taken in float64 and rounded once; constants are never written in place, so that tied ones keep their other users.

    Not part of a compile unless asked for: `--passes +fold-norm-gain`.
    """

    name: ClassVar[str] = "fold-norm-gain"

    def run(self, model: ir.Model) -> Outcome:
        editor = WeightEditor(model, "folded")
        matched: list[str] = []
        skipped: list[Skip] = []
        for found in norm_sites(model):
            if not isinstance(found, Refusal) and _is_plain(found):
                continue
            reason = found.reason if isinstance(found, Refusal) else why_not_folded(found)
            if reason or isinstance(found, Refusal):
                skipped.append(Skip(found.name, reason))
                continue
            fold_gain(editor, found)
            matched.append(found.name)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def why_not_folded(site: Site) -> str:
    """Why the gain of this norm cannot go into its readers, or ""."""
    if site.edges:
        return "other nodes than layers read it too"
    if site.bias is not None and not _takes_bias(site):
        gain = np.abs(wide_array(site.scales[0].value))
        if gain.min() <= _SMALLEST_GAIN * gain.max():
            return "it has a bias that its readers cannot take and a gain near zero"
    return ""


def fold_gain(editor: WeightEditor, site: Site, by: Turn | None = None) -> None:
    """Gain 1 and, where the readers take it, bias 0; the readers' weights then are by^T diag(gain) W.

    Args:
        by: Turns the normalized channels besides; a bias that stays becomes (bias / gain) by.
    """
    turn = Turn(np.ones((1, 1))) if by is None else by
    gain = _spread(site.scales[0], site.channels)
    if site.bias is not None:
        bias = _spread(site.bias, site.channels)
        if _takes_bias(site):
            for reader in site.readers:
                _add_to_bias(editor, reader, bias)
            editor.put(site.bias, form_of_bias(site.bias, np.zeros(site.channels)))
        else:
            editor.put(site.bias, form_of_bias(site.bias, turn(bias / gain)))
    for reader in site.readers:
        editor.turn(reader.weight, turn, gain)
    editor.put(site.scales[0], form_of_bias(site.scales[0], np.ones(site.channels)))


def _spread(operand: Operand, channels: int) -> Reals:
    """One number for each channel, float64."""
    return np.asarray(np.broadcast_to(wide_array(operand.value).reshape(-1), (channels,)).copy())


def _is_plain(site: Site) -> bool:
    """Whether there is nothing left to fold."""
    bias = site.bias is None or not _takes_bias(site) or not np.any(wide_array(site.bias.value))
    return bias and bool(np.all(wide_array(site.scales[0].value) == 1))


def _takes_bias(site: Site) -> bool:
    return site.shifts and all(reader.bias is not None for reader in site.readers)


def _add_to_bias(editor: WeightEditor, reader: Reader, bias: Reals) -> None:
    assert reader.bias is not None
    weight = wide_array(reader.weight.value)
    matrix = weight.reshape(weight.shape[:2])  # a 1x1 Conv is one
    moved = bias @ (matrix if reader.weight.axis == 0 else matrix.T)
    old = wide_array(reader.bias.value).reshape(-1)
    editor.put(reader.bias, form_of_bias(reader.bias, old + moved))
