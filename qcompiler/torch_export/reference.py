"""What torch gives at each set of sizes, computed once, whichever exporters are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qcompiler.errors import UsageError
from qcompiler.session import Arrays
from qcompiler.torch_export.adapter import Adapter
from qcompiler.torch_export.dynamic_axes import PAST, SEQUENCE, TOTAL, Axes, is_sum
from qcompiler.torch_export.exporters import root_cause
from qcompiler.torch_export.quiet import hushed
from qcompiler.torch_export.trials import Sizes, resized, to_arrays

Tensors = Sequence[tuple[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Trial:
    """Inputs at some sizes and torch's outputs by name; `expected` is None where torch refuses, for `problem`."""

    sizes: tuple[tuple[str, int], ...]
    feeds: Arrays
    expected: Arrays | None
    problem: str = ""


def run_trials(adapter: Adapter, tensors: Tensors, axes: Axes, all_sizes: Sequence[Sizes], seed: int) -> list[Trial]:
    """One trial for each of `all_sizes`, the example's first.

    Raises:
        UsageError: torch cannot run the example, or the number of outputs depends on the sizes.
    """
    trials = []
    for index, sizes in enumerate(all_sizes):
        inputs = list(tensors) if index == 0 else resized(tensors, axes, sizes, seed + index)
        trials.append(_trial(adapter, inputs, sizes))
    first = trials[0]
    if first.expected is None:
        where = type(adapter.module).__name__
        raise UsageError(f"the module cannot run the example inputs: {first.problem}", where=where)
    if not first.expected:
        raise UsageError("the module returns no tensor", where=type(adapter.module).__name__)
    return trials


def _trial(adapter: Adapter, inputs: Tensors, sizes: Sizes) -> Trial:
    label = tuple(sizes.items())
    feeds = {name: array.copy() for name, array in to_arrays(inputs).items()}
    try:
        with hushed():
            named = adapter.named(*(tensor.clone() for _, tensor in inputs))
    except UsageError:
        raise
    except Exception as error:  # a module may raise anything
        return Trial(label, feeds, None, root_cause(error))
    return Trial(label, feeds, {name: _array(name, tensor) for name, tensor in named})


def _array(name: str, tensor: Tensor) -> Any:
    if tensor.dtype is torch.bfloat16:
        raise UsageError(f"output {name!r} is bfloat16, which cannot be compared here", hint="export module.float()")
    return tensor.detach().cpu().numpy()


def output_shapes(trials: Sequence[Trial]) -> dict[str, list[int | str]]:
    """Shapes of the outputs: an axis that follows one of the varying sizes bears its name, other varying ones "?"."""
    ran = [trial for trial in trials if trial.expected is not None]
    arrays = ran[0].expected or {}
    return {name: [_size(name, axis, ran) for axis in range(array.ndim)] for name, array in arrays.items()}


def _size(name: str, axis: int, ran: Sequence[Trial]) -> int | str:
    seen = [trial.expected[name].shape[axis] for trial in ran if trial.expected is not None]
    sizes = [dict(trial.sizes) for trial in ran]
    if is_sum(TOTAL, sizes[0]):
        sizes = [{**row, TOTAL: row[PAST] + row[SEQUENCE]} for row in sizes]
    for word in sizes[0]:
        if len({row[word] for row in sizes}) > 1 and [row[word] for row in sizes] == seen:
            return word
    return seen[0] if len(set(seen)) == 1 else f"{name}_dim_{axis}"
