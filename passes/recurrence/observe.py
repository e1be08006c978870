"""What values of a model are on seeded inputs, for rewrites that recognise by what is computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.synthetic import random_feeds
from qcompiler.errors import QcompileError
from qcompiler.session import Session

Array = np.ndarray[Any, Any]

_LENGTH = 67
"""For lengths that vary: a prime, so that no chunk is whole, above the usual chunk of 64."""
_SHORTEST = 32
"""Free sizes that are seeded smaller are batches."""


def observe(model: ir.Model, values: Iterable[ir.Value]) -> dict[str, Array]:
    """Arrays by name, in one run of the whole model; nothing where it does not run on such inputs."""
    names = [str(value.name) for value in values]
    try:
        feeds = random_feeds(model, shapes=_odd_lengths(model))[0]
        return {**feeds, **Session(model, names, threads=1).run_sample(feeds)}
    except QcompileError:
        return {}


def _odd_lengths(model: ir.Model) -> dict[str, tuple[int, ...]]:
    feeds, shapes = random_feeds(model)[0], {}
    for value in model.graph.inputs:
        sizes = feeds[str(value.name)].shape
        named = list(value.shape or sizes)
        shapes[str(value.name)] = tuple(
            _LENGTH if not isinstance(name, int) and size >= _SHORTEST else size
            for name, size in zip(named, sizes, strict=True)
        )
    return shapes
