"""Graphs for arm64 load on x86 too, where onnxruntime rewrites signed pairs."""

from __future__ import annotations

import numpy as np
import pytest

import qcompiler
from tests.building import build

TAILS = {
    "transpose": "a = Conv(x, w) y = Transpose<perm = [0, 2, 3, 1]>(a)",
    "reshape": "a = Conv(x, w) y = Reshape(a, shape)",
    "transpose, float, transpose": "a = Conv(x, w) t = Transpose<perm = [0, 2, 3, 1]>(a) s = Softmax(t) "
    "u = Transpose<perm = [0, 3, 1, 2]>(s) y = Conv(u, v)",
}


@pytest.mark.parametrize("tail", list(TAILS))
def test_layout_behind_the_last_conv(tail: str) -> None:
    """onnxruntime put int8 pairs below the layout operator, made them uint8, and then refused the mixture."""
    random = np.random.default_rng(0)
    model = build(
        f"m (float[1, 3, 8, 8] x) => (float y) {{ {TAILS[tail]} }}",
        w=random.standard_normal((16, 3, 3, 3)).astype(np.float32),
        v=random.standard_normal((4, 16, 3, 3)).astype(np.float32),
        shape=np.array([1, 16, 36]),
    )
    result = qcompiler.compile(model, target="ort-cpu-arm64")
    assert result.facts["model"]["leftovers"] == []
    assert result.verification["model"].outputs[0].sqnr > 15
