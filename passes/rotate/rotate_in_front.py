"""One rotation in front of the layers that read a tensor, taken back in their weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from qcompiler.passes.rotate.draws import Draws, draw_of, misfit
from qcompiler.passes.rotate.hidden_makers import hidden_makers
from qcompiler.passes.rotate.insert_rotation import RotationInserter, online_turn
from qcompiler.passes.rotate.outcome import rotate_sites
from qcompiler.passes.rotate.turn import WeightEditor, wide_array
from qcompiler.passes.sites.records import Refusal, Site
from qcompiler.pipeline import Outcome


def rotate_in_front(
    model: ir.Model,
    found: Iterable[Site | Refusal],
    wanted: Sequence[str] | None,
    seed: int,
    draws: Draws = (),
    *,
    take_gain: bool = False,
) -> Outcome:
    """x becomes x K at each site, W of its readers K^T W.

    An order of the channels that is no product of two goes into the layers that make x, so that no node is added.

    Args:
        seed: Of the signs in K.
        draws: Sites with signs or an order of their own.
        take_gain: Whether the site's own scale, a norm's gain, goes into the readers before.
    """
    editor = WeightEditor(model)
    inserter = RotationInserter(model, editor.names)

    def act(site: Site | Refusal) -> str:
        if isinstance(site, Refusal):
            return site.reason
        draw = draw_of(draws, site.name, seed)
        if why := misfit(draw, site.channels):
            return why
        by = online_turn(site.channels, draw)
        if by.order is not None:
            makers = hidden_makers(site.value, site.channels)
            if makers is None:
                return "no layer in front of it can take another order of its channels"
            for operand in makers:
                editor.reorder(operand, by.order)
        uses = tuple(site.value.uses())
        rotated = inserter.insert(site.value, by, uses[0].node)
        for use in uses:
            use.node.replace_input_with(use.idx, rotated)
        gain = None
        for operand in site.scales if take_gain else ():
            gain = np.broadcast_to(wide_array(operand.value).reshape(-1), (site.channels,)).copy()
            editor.put(operand, np.ones(site.channels))
        for reader in site.readers:
            editor.turn(reader.weight, by, gain)
        return ""

    return rotate_sites(found, wanted, act)
