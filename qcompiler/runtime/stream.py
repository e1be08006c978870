"""Stateful models: each run's states are the next run's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from qcompiler.errors import UsageError
from qcompiler.runtime.signature import Array, Tensor, bind, check_names

if TYPE_CHECKING:
    from qcompiler.runtime.model import RuntimeModel


class Stream:
    """Runs of one model that carry its states; made by `RuntimeModel.stream`.

    A state that nobody gave begins at zero. Its symbolic sizes come from the other inputs (a batch); one that the
    graph itself makes longer (a cache of past keys) begins at 0.

    Attributes:
        states: The current states by input name; read them to keep a conversation, assign none.
    """

    def __init__(self, model: RuntimeModel, pairs: dict[str, str], states: Mapping[str, Array]) -> None:
        if not pairs:
            raise UsageError("the model carries no state", hint="pairs={'input': 'output'} names one")
        self._model, self._pairs = model, pairs
        self._inputs = {item.name: item for item in model.inputs}
        outputs = {item.name: item for item in model.outputs}
        for name, output in pairs.items():
            if name not in self._inputs or output not in outputs:
                raise UsageError(f"no input {name!r} with an output {output!r}", where="pairs")
        by_output = {output: name for name, output in pairs.items()}
        self._grown = {name: outputs[output] for name, output in pairs.items()}
        self.states: dict[str, Array] = {}
        for name, array in states.items():
            own = name if name in pairs else by_output.get(name)
            if own is None:
                known = ", ".join(pairs)
                raise UsageError(f"{name!r} is no state of the model", where="states", hint=f"the states are {known}")
            self.states[own] = _in_codes(np.asarray(array), model.state_scales.get(own))

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run on the inputs that are no states and keep the new states; all outputs by name.

        Raises:
            UsageError: As `RuntimeModel.run`; or the size of a first state can't be told from the feeds.
        """
        check_names([name for name in self._inputs if name not in self._pairs], feeds)
        if len(self.states) < len(self._pairs):
            self._begin(feeds)
        outputs = self._model.run({**feeds, **self.states})
        self.states = {name: outputs[output] for name, output in self._pairs.items()}
        return outputs

    def reset(self) -> None:
        """Forget all states: the next run begins at zero."""
        self.states = {}

    def _begin(self, feeds: Mapping[str, Array]) -> None:
        sizes: dict[str, int] = {}
        for name, array in {**feeds, **self.states}.items():
            bind(self._inputs[name], array, sizes)
        missing = [self._inputs[name] for name in self._pairs if name not in self.states]
        made = {item.name: _zeros(item, self._grown[item.name], sizes) for item in missing}
        self.states |= made


def _in_codes(array: Array, scale: float | None) -> Array:
    """What the model takes: codes where it takes codes and got floats."""
    if scale is None or array.dtype.kind != "f":
        return array
    codes: Array = np.clip(np.rint(array.astype(np.float32) / np.float32(scale)), -128, 127).astype(np.int8)
    return codes


def _zeros(item: Tensor, next_value: Tensor, sizes: Mapping[str, int]) -> Array:
    where, hint = f"input {item.name!r}", "give it to stream(states=...)"
    dtype = item.numpy_dtype
    if item.shape is None or dtype is None:
        raise UsageError("shape or element type of this state is unknown", where=where, hint=hint)
    shape = []
    for axis, dim in enumerate(item.shape):
        grows = next_value.shape is None or next_value.shape[axis] != dim
        size = dim if isinstance(dim, int) else sizes.get(dim or "", 0 if grows else None)
        if size is None:
            raise UsageError(f"the inputs don't tell the size {dim!r} of this state", where=where, hint=hint)
        shape.append(size)
    return np.zeros(shape, dtype)
