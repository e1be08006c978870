"""Mamba-2's chunked matrix form (SSD), judged by what it computes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import onnx_ir as ir

from qcompiler.passes.recurrence.chunk_regions import Region
from qcompiler.passes.recurrence.observe import Array

_FIRST = 6
"""Steps by which most candidates are told apart."""
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class ChunkedForm:
    """y[t] = h[t] C[t], h[t] = exp(z[t]) h[t-1] + x[t] B[t]^T in one place of a model.

    Attributes:
        x, b, c: [B, T, H P], [B, T, G N], [B, T, G N], the last axes in any number.
        groups: G, by which B and C differ between heads.
        head, width: P and N.
        y: [B, T or more, H, P] or [B, T or more, H P]; further steps are zeros.
        filled_up: Whether y goes up to whole chunks.
        last: The last state [B, H, P, N], computed from the arrays seen.
    """

    decay: ir.Value
    x: ir.Value
    b: ir.Value
    c: ir.Value
    y: ir.Value
    heads: int
    groups: int
    head: int
    width: int
    chunk: int
    filled_up: bool
    last: Array


def judge(region: Region, seen: dict[str, Array]) -> ChunkedForm | None:
    """The form that the arrays of one run fit; None where none does."""
    z = seen.get(str(region.decay.name))
    if z is None or z.ndim != 3 or (z > 0).any():
        return None
    batch, length, heads = z.shape
    arrays = {value: seen[str(value.name)] for value in region.factors if str(value.name) in seen}
    along = [value for value, array in arrays.items() if array.ndim >= 3 and array.shape[:2] == (batch, length)]
    for x, b, c in permutations(along, 3):
        wide = arrays[x].reshape(batch, length, -1)
        if wide.shape[2] % heads or arrays[b].size != arrays[c].size:
            continue
        flat = [arrays[value].reshape(batch, length, -1) for value in (b, c)]
        for groups in (count for count in range(1, heads + 1) if heads % count == 0 and flat[0].shape[2] % count == 0):
            y, _ = recurrence(*(item[:1, :_FIRST] for item in (z, wide, *flat)), groups=groups)
            likely = [value for value in reversed(region.results) if _begins(seen.get(str(value.name)), y, length)]
            if not likely:
                continue
            y, last = recurrence(z, wide, *flat, groups=groups)
            place = next((value for value in likely if _is_y(seen[str(value.name)], y)), None)
            if place is not None:
                width = flat[0].shape[2] // groups
                return ChunkedForm(region.decay, x, b, c, place, heads, groups, wide.shape[2] // heads, width,
                                   region.chunk, seen[str(place.name)].shape[1] > length, last)  # fmt: skip
    return None


def recurrence(z: Array, x: Array, b: Array, c: Array, *, groups: int) -> tuple[Array, Array]:
    """y [B, T, H, P] and the last state [B, H, P, N] in float64, step by step."""
    batch, length, heads = z.shape
    wide = x.astype(np.float64).reshape(batch, length, heads, -1)
    spread = [np.repeat(item.astype(np.float64).reshape(batch, length, groups, -1), heads // groups, axis=2)
              for item in (b, c)]  # fmt: skip
    state = np.zeros((batch, heads, wide.shape[3], spread[0].shape[3]))
    rows = []
    for step in range(length):
        outer = wide[:, step, :, :, None] * spread[0][:, step, :, None, :]
        state = np.exp(z[:, step].astype(np.float64))[..., None, None] * state + outer
        rows.append(np.einsum("bhpn,bhn->bhp", state, spread[1][:, step]))
    return np.stack(rows, axis=1), state


def _begins(array: Array | None, y: Array, length: int) -> bool:
    """Whether an array of all steps could be y, of which the first steps of one row are known."""
    return array is not None and array.ndim in (3, 4) and array.shape[1] >= length and _is_y(array[:1, : y.shape[1]], y)


def _is_y(array: Array, y: Array) -> bool:
    if array.ndim not in (3, 4) or array.shape[0] != y.shape[0] or array.shape[1] < y.shape[1]:
        return False
    if array.shape[2:] not in (y.shape[2:], (y.shape[2] * y.shape[3],)) or not np.isfinite(array).all():
        return False
    length, bound = y.shape[1], _TOLERANCE * float(np.abs(y).max())
    head = array[:, :length].reshape(y.shape)
    return bool(np.abs(head - y).max() <= bound and np.abs(array[:, length:]).max(initial=0.0) <= bound)
