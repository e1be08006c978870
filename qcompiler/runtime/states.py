"""Which outputs are the next values of which inputs, told from names, element types and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qcompiler.runtime.signature import Tensor


def pair_states(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> dict[str, str]:
    """Input to output of each state.

    `past_key_values.3.key` goes with `present.3.key` (or `present_key_values.3.key`), `past_conv_state.0` with
    `present_conv_state.0`, `h_in` with `h_out`, `h` with `h_out`, `new_h`, `next_h` or `h_next`; the two must have the
    same element type and number of dimensions, and sizes that are not both fixed and different.
    """
    known = {item.name: item for item in outputs}
    found: dict[str, str] = {}
    for item in inputs:
        match = next((name for name in _candidates(item.name) if name in known and _fit(item, known[name])), None)
        if match is not None and match not in found.values():
            found[item.name] = match
    return found


def _candidates(name: str) -> Iterator[str]:
    if name.startswith("past_key_values"):
        rest = name.removeprefix("past_key_values")
        yield from (f"present{rest}", f"present_key_values{rest}")
    if name.startswith("past"):
        yield f"present{name.removeprefix('past')}"
    if name.endswith("_in"):
        yield f"{name.removesuffix('_in')}_out"
    yield from (f"{name}_out", f"new_{name}", f"next_{name}", f"{name}_next")


def _fit(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype:
        return False
    if one.shape is None or other.shape is None:
        return True
    if len(one.shape) != len(other.shape):
        return False
    pairs = zip(one.shape, other.shape, strict=True)
    return all(not isinstance(a, int) or not isinstance(b, int) or a == b for a, b in pairs)
