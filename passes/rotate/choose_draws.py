"""Signs and orders of channels chosen on data, site by site, by what the layers behind lose."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.passes.equalize.reader_loss import reader_loss
from qcompiler.passes.equalize.sample_rows import Rows, sample_rows
from qcompiler.passes.rotate.draw_sites import DrawSite, draw_sites
from qcompiler.passes.rotate.draws import Draw
from qcompiler.passes.rotate.hadamard import rotation
from qcompiler.passes.rotate.orders import dealt, dealt_by_factor, levelled
from qcompiler.passes.rotate.rotations import Rotation
from qcompiler.passes.sites.records import Reals
from qcompiler.precision import Precisions
from qcompiler.session import Feeds

SEEDS = (1, 2, 3)
"""Signs that are tried besides those of seed 0."""
WORTH = 0.98
"""Of the loss of seed 0, what another draw may leave at most: a smaller difference is chance."""
_ROWS = 128
"""Of each tensor that are judged."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Draws by site, and for the report the losses of all that were tried.

    Attributes:
        losses: Site to name of a draw to the mean loss of the readers; "seed 0" is the default.
        taken: Site to the name of its draw.
    """

    rotations: tuple[Rotation, ...]
    losses: dict[str, dict[str, float]]
    taken: dict[str, str]

    def facts(self) -> dict[str, Any]:
        """SQNR in dB at the readers."""
        return {
            name: {"taken": self.taken[name]} | {draw: round(float(-10 * np.log10(max(loss, 1e-12))), 2)
                                                for draw, loss in losses.items()}
            for name, losses in self.losses.items()
        }  # fmt: skip


def choose_draws(
    model: ir.Model,
    taken: Sequence[Rotation],
    feeds: Sequence[Feeds],
    quantized: Collection[str],
    precisions: Precisions,
    *,
    threads: int = 0,
) -> Chosen:
    """For each site the draw of at most eight whose readers lose least.

    Args:
        model: Left as it is.
        quantized: Names of layers that read integers.
    """
    copy = model.clone()
    sites = draw_sites(copy, taken, quantized)
    rows = sample_rows(copy, [tensor for site in sites for tensor in site.tensors], feeds, threads=threads)
    losses: dict[str, dict[str, float]] = {}
    names: dict[str, str] = {}
    own: dict[str, dict[str, Draw]] = {}
    for site in sites:
        tried = drawn(site, rows)
        found = {name: loss_of(site, draw, rows, precisions) for name, draw in tried.items()}
        best = min(found, key=lambda name: found[name])
        best = best if found[best] <= WORTH * found["seed 0"] else "seed 0"
        losses[site.name], names[site.name] = found, best
        if best != "seed 0":
            own.setdefault(site.kind, {})[site.name] = tried[best]
    made = tuple(replace(item, draws=tuple(sorted(own.get(item.kind, {}).items()))) for item in taken)
    return Chosen(made, losses, names)


def drawn(site: DrawSite, rows: Mapping[str, Rows]) -> dict[str, Draw]:
    """What is tried at a site, at most eight.

    Signs of four seeds. Where the matrix is one, channels ordered so that their means do not add up (`levelled`), and
    dealt over two factors near the root as if it were two; where it is two, dealt over these, with two seeds. Two
    random orders, where every order can be made.
    """
    tried = {f"seed {seed}": Draw(seed) for seed in (0, *SEEDS)}
    seen = np.concatenate([_rows(rows[tensor.name], site.channels) for tensor in site.tensors])
    if not len(seen):
        return tried
    peaks, (left, right) = np.abs(seen).max(0), site.parts
    if left == 1:
        level = levelled(seen.astype(np.float64).mean(0), rotation(site.channels))
        tried["levelled"] = Draw(order=level)
        tried["dealt"] = Draw(order=dealt(peaks, *_near_root(site.channels)))
    else:
        order = (dealt if site.free else dealt_by_factor)(peaks, left, right)
        tried |= {"dealt": Draw(order=order), "dealt, seed 1": Draw(1, order=order)}
    if site.free:
        tried |= {f"shuffled {seed}": Draw(shuffle=seed) for seed in (1, 2)}
    return tried


def loss_of(site: DrawSite, draw: Draw, rows: Mapping[str, Rows], precisions: Precisions) -> float:
    """Of all readers, the mean over tensors of `reader_loss`."""
    by = site.turn(draw)
    return float(np.mean([
        reader_loss(tensor, _few(rows[tensor.name].rows), precisions, by) for tensor in site.tensors
    ]))  # fmt: skip


def _few(rows: Reals) -> Reals:
    return rows[:: max(1, len(rows) // _ROWS)]


def _rows(seen: Rows, channels: int) -> Reals:
    """[.., channels] of the heads one under the other."""
    return _few(seen.rows).reshape(-1, channels)


def _near_root(size: int) -> tuple[int, int]:
    side = max(divisor for divisor in range(1, int(size**0.5) + 1) if size % divisor == 0)
    return side, size // side
