"""One rotation in front of the layers that read a tensor, taken back in their weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

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
    *,
    take_gain: bool = False,
) -> Outcome:
    """x becomes x K at each site, W of its readers K^T W.

    Args:
        seed: Of the signs in K.
        take_gain: Whether the site's own scale, a norm's gain, goes into the readers before.
    """
    editor = WeightEditor(model)
    inserter = RotationInserter(model, editor.names)

    def act(site: Site | Refusal) -> str:
        if isinstance(site, Refusal):
            return site.reason
        by = online_turn(site.channels, seed)
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
