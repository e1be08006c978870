"""Which outputs are the next values of which inputs, told from their names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator


def next_values(
    inputs: Iterable[str], outputs: Collection[str], fit: Callable[[str, str], bool] = lambda _input, _output: True
) -> dict[str, str]:
    """Input to output of each state that a model carries from one call to the next.

    `past_key_values.3.key` goes with `present.3.key` (or `present_key_values.3.key`), `past_conv_state.0` with
    `present_conv_state.0`, `h_in` with `h_out`, `h` with `h_out`, `new_h`, `next_h` or `h_next`.

    Args:
        fit: Whether an input and an output can be the same state, by type and shape.
    """
    found: dict[str, str] = {}
    for name in inputs:
        match = next((item for item in _candidates(name) if item in outputs and fit(name, item)), None)
        if match is not None and match not in found.values():
            found[name] = match
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
