"""Orders of channels: which channel stands at each place of a matrix, and with which sign.

An order holds a channel for each place; ~channel (-1 - channel) where its sign is turned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from qcompiler.passes.sites.records import Channels, Reals

Order = tuple[int, ...]
"""Empty for channels as they are."""
_LEVELLED = 64


def split_signs(order: Sequence[int]) -> tuple[Channels, Reals]:
    """Channels and signs, by place."""
    held = np.asarray(order, np.int64)
    return np.where(held < 0, ~held, held), np.where(held < 0, -1.0, 1.0)


def shuffled(size: int, seed: int) -> Order:
    """A random order: channels sorted by digests of seed and channel, the same on every machine."""
    return tuple(sorted(range(size), key=lambda channel: hashlib.sha256(f"{seed}:{channel}".encode()).digest()))


def dealt(peaks: Reals, rows: int, columns: int) -> Order:
    """Channels from large to small along diagonals of [rows, columns]: no two of the largest share a row or a column.

    Four channels at the corners of a rectangle meet with the same signs in every second column of a product of two
    matrices; on a diagonal there is none. Blocks are dealt as in DuQuant (arXiv:2406.01721, section 3.2), which goes
    through them in zigzag.
    """
    ranked = _ranked(peaks)
    round_trip = int(np.lcm(rows, columns))
    made = np.empty(rows * columns, np.int64)
    for place, channel in enumerate(ranked):
        made[place % rows * columns + (place + place // round_trip) % columns] = channel
    return tuple(made.tolist())


def dealt_by_factor(peaks: Reals, rows: int, columns: int) -> Order:
    """The rows of [rows, columns] by their largest channel, then the columns: what a product of two orders can do."""
    table = peaks.reshape(rows, columns)
    first, second = _ranked(table.max(1)), _ranked(table.max(0))
    return tuple((first[:, None] * columns + second).reshape(-1).tolist())


def levelled(means: Reals, matrix: Reals) -> Order:
    """Channels placed such that their means add up in no column: the largest first, each at the place and with the sign
    that lower the sum of the fourth powers of means P S H most; from the `_LEVELLED`-th on as they come.

    Entries of the matrix are taken to be of one size, so that of sum_j (y_j + s a m_j)^4 only the terms that are odd
    in the sign s differ from place to place: 4 s a sum_j m_j (y_j^3 + a^2 m^2 y_j).

    Args:
        means: By channel.
        matrix: S H, [channels, channels].
    """
    ranked, size = _ranked(np.abs(means)), means.size
    sums, free = np.zeros(size), np.ones(size, bool)
    made = np.empty(size, np.int64)
    for channel in ranked[:_LEVELLED]:
        mean = float(means[channel])
        odd = matrix @ (sums**3 + mean * mean / size * sums) * mean
        place = int(np.argmax(np.where(free, np.abs(odd), -1.0)))
        turned = odd[place] > 0
        made[place], free[place] = (~channel if turned else channel), False
        sums += (-mean if turned else mean) * matrix[place]
    made[free] = ranked[_LEVELLED:]
    return tuple(made.tolist())


def parts_of(order: Sequence[int], rows: int, columns: int) -> tuple[Order, Order] | None:
    """The orders of rows and of columns that an order is the product of; None where it is none."""
    table = np.asarray(order, np.int64).reshape(rows, columns)
    first, second = table[:, 0] // columns, table[0] % columns
    if not np.array_equal(table, first[:, None] * columns + second):
        return None
    return tuple(first.tolist()), tuple(second.tolist())


def _ranked(sizes: Reals) -> Channels:
    """From large to small; the first of equals comes first."""
    return np.argsort(-np.asarray(sizes, np.float64), kind="stable")
