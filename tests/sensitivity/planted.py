"""A model of three layers, the second of which reads a channel that is far larger than all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from tests.building import build

TEXT = """m (float[N, 16] x) => (float[N, 8] y) {
    [first] h = MatMul(x, a) g = Relu(h) [second] i = MatMul(g, b) j = Relu(i) [third] y = MatMul(j, c) }"""
LARGE = 60.0


def planted() -> ir.Model:
    """One channel of `g` is LARGE times as large as it was, and its row of `b` as much smaller."""
    random = np.random.default_rng(0)
    a, b, c = (random.standard_normal(shape).astype(np.float32) / 4 for shape in ((16, 32), (32, 32), (32, 8)))
    a[:, 5] *= LARGE
    b[5] /= LARGE
    return build(TEXT, a=a, b=b, c=c)


def samples(count: int = 12, seed: int = 1) -> list[dict[str, Any]]:
    """Feeds of one row."""
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal((1, 16)).astype(np.float32)} for _ in range(count)]
