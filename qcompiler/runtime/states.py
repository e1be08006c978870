"""Which outputs are the next values of which inputs, told from names, element types and shapes."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.runtime.signature import Tensor
from qcompiler.state_names import next_values


def pair_states(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> dict[str, str]:
    """Input to output of each state.

    Names go together as in `next_values`; the two must have the same element type and number of dimensions, and sizes
    that are not both fixed and different.
    """
    taken, given = ({item.name: item for item in ends} for ends in (inputs, outputs))
    return next_values(taken, given, lambda one, other: _fit(taken[one], given[other]))


def _fit(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype:
        return False
    if one.shape is None or other.shape is None:
        return True
    if len(one.shape) != len(other.shape):
        return False
    pairs = zip(one.shape, other.shape, strict=True)
    return all(not isinstance(a, int) or not isinstance(b, int) or a == b for a, b in pairs)
