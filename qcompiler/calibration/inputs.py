"""What a model takes: names, types and shapes of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

Dim = int | str | None

_SEQUENCE_WORDS = ("seq", "len", "time", "token", "frames", "past", "context")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One graph input.

    Attributes:
        shape: Sizes, names of symbolic sizes, None where nothing is known.
        ranked: False where the model gives no shape; any shape then fits.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...]
    ranked: bool = True

    @property
    def batch(self) -> Dim:
        """The leading size; None for scalars and vectors of symbolic length, which have no batch."""
        if not self.shape or (len(self.shape) == 1 and not isinstance(self.shape[0], int)):
            return None
        return self.shape[0] if self.shape[0] is not None else "?"

    @property
    def batch_is_free(self) -> bool:
        """Whether the leading size is a batch of any size."""
        return isinstance(self.batch, str) and not any(word in self.batch.lower() for word in _SEQUENCE_WORDS)

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join('?' if dim is None else str(dim) for dim in self.shape)}]"


def input_specs(model: ir.Model) -> tuple[InputSpec, ...]:
    """The graph inputs that a caller must feed: those without an initializer."""
    specs = []
    for value in model.graph.inputs:
        if value.name is None or value.name in model.graph.initializers or value.const_value is not None:
            continue
        dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
        shape = (
            tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape) if value.shape is not None else ()
        )
        specs.append(InputSpec(value.name, np.dtype(dtype), shape, value.shape is not None))
    return tuple(specs)
