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


def observe(model: ir.Model, values: Iterable[ir.Value]) -> dict[str, Array]:
    """Arrays by name, in one run of the whole model; nothing where it does not run on such inputs."""
    names = [str(value.name) for value in values]
    try:
        feeds = random_feeds(model)[0]
        return {**feeds, **Session(model, names, threads=1).run(feeds)}
    except (QcompileError, RuntimeError):
        return {}
    except Exception as error:  # onnxruntime's run-time errors have no common base
        if type(error).__module__.startswith("onnxruntime"):
            return {}
        raise
