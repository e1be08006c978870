"""Rows of attention probabilities with the values that they weigh: a bounded sample to judge levels by P times V."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.errors import CalibrationError

MOST_ROWS = 32
"""Rows of one head of one sample."""
ITEM_BYTES = 256 << 10
"""Of the rows of one item; longer rows are fewer."""
HEAD_BYTES = 1 << 20
"""Kept of one head, values included; but never fewer than two items, so that one may judge what the other chose."""
MOST_ITEMS = 8
_FEWEST_ITEMS = 2
_NO_LIMIT = b"\xff" * 9
"""Above every key of 8 bytes."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class AttentionItem:
    """One head of one sample.

    Attributes:
        key: Hash of the rows: which items are kept depends on their content, not on the order of samples.
        rows: P [rows, keys].
        values: V [keys, width].
    """

    key: bytes
    rows: Floats
    values: Floats

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.rows.nbytes + self.values.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class AttentionRows:
    """The items with the smallest keys of each head, as many as fit: mergeable in any order with the same result.

    Attributes:
        heads: Items by head, sorted by key.
        limits: The smallest key that each head had no room for; nothing from there on is kept, so that what was dropped
            early leaves no room for what comes late.
    """

    heads: tuple[tuple[AttentionItem, ...], ...] = ()
    limits: tuple[bytes, ...] = ()

    def observe(self, probabilities: npt.NDArray[Any], values: npt.NDArray[Any]) -> AttentionRows:
        """These items and those of a batch.

        Args:
            probabilities: [..., queries, keys]; the axis in front of queries, where there are more than three, is that
                of heads.
            values: [..., keys, width], which broadcasts against it.

        Raises:
            CalibrationError: Either holds NaN or infinity.
        """
        if not np.isfinite(probabilities).all() or not np.isfinite(values).all():
            raise CalibrationError("an attention product is NaN or infinite")
        lead = np.broadcast_shapes(probabilities.shape[:-2], values.shape[:-2])
        weights = np.broadcast_to(probabilities, (*lead, *probabilities.shape[-2:]))
        values = np.broadcast_to(values, (*lead, *values.shape[-2:]))
        count = lead[-1] if len(lead) > 1 else 1
        flat = [array.reshape(-1, count, *array.shape[-2:]) for array in (weights, values)]
        found: list[list[AttentionItem]] = [[] for _ in range(count)]
        for sample, held in zip(*flat, strict=True):
            for head in range(count):
                if sample[head].size and held[head].size:
                    found[head].append(_item(sample[head], held[head]))
        return self.merge(_rows(found, [_NO_LIMIT] * count))

    def merge(self, other: AttentionRows) -> AttentionRows:
        """The items of both, as many as are kept; associative and commutative."""
        if not self.heads or not other.heads:
            return self if self.heads else other
        if len(self.heads) != len(other.heads):
            raise ValueError("attention with another number of heads")
        joined = [[*mine, *theirs] for mine, theirs in zip(self.heads, other.heads, strict=True)]
        return _rows(joined, [min(pair) for pair in zip(self.limits, other.limits, strict=True)])


def _item(rows: npt.NDArray[Any], values: npt.NDArray[Any]) -> AttentionItem:
    most = max(1, min(MOST_ROWS, ITEM_BYTES // (4 * rows.shape[1])))
    chosen = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
    picked = np.ascontiguousarray(rows[chosen], np.float32)
    key = hashlib.blake2b(picked.tobytes(), digest_size=8).digest()
    return AttentionItem(key, picked, np.array(values, np.float32))


def _rows(heads: list[list[AttentionItem]], limits: list[bytes]) -> AttentionRows:
    kept = [_kept(items, limit) for items, limit in zip(heads, limits, strict=True)]
    return AttentionRows(tuple(items for items, _ in kept), tuple(limit for _, limit in kept))


def _kept(items: list[AttentionItem], limit: bytes) -> tuple[tuple[AttentionItem, ...], bytes]:
    """The longest beginning, by key and below the limit, that fits; and the first key that does not."""
    ordered = sorted((item for item in items if item.key < limit), key=lambda item: item.key)
    room = HEAD_BYTES
    for count, item in enumerate(ordered):
        room -= item.nbytes
        if count == MOST_ITEMS or (room < 0 and count >= _FEWEST_ITEMS):
            return tuple(ordered[:count]), item.key
    return tuple(ordered), limit
