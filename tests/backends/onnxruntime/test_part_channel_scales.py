"""Scales by channel in front of operators that onnxruntime fuses: it must load the graph and compute the same."""

from __future__ import annotations

import numpy as np
import pytest

import qcompiler
from tests.building import build

BETWEEN = {
    "softmax": "s = Softmax<axis = 1>(a)",
    "sigmoid": "s = Sigmoid(a)",
    "residual": "b = Conv<pads = [1, 1, 1, 1]>(x, u) s = Add(a, b)",
    "pool": "s = MaxPool<kernel_shape = [1, 1]>(a)",
    "clip": "s = Clip(a, low)",
    "concat": "b = Conv<pads = [1, 1, 1, 1]>(x, u) c = Concat<axis = 0>(a, b) s = ReduceMean<keepdims = 1>(c, zero)",
}


@pytest.mark.parametrize("target", ["ort-cpu", "ort-cpu-arm64"])
@pytest.mark.parametrize("between", list(BETWEEN))
def test_graphs_load_and_keep_their_accuracy(between: str, target: str) -> None:
    random = np.random.default_rng(0)
    gains = np.geomspace(0.1, 3, 16, dtype=np.float32)[:, None, None, None]
    model = build(
        f"m (float[1, 8, 8, 8] x) => (float[1, 4, 8, 8] y) {{ "
        f"a = Conv<pads = [1, 1, 1, 1]>(x, w) {BETWEEN[between]} y = Conv<pads = [1, 1, 1, 1]>(s, v) }}",
        w=random.standard_normal((16, 8, 3, 3)).astype(np.float32) * gains,
        u=random.standard_normal((16, 8, 3, 3)).astype(np.float32),
        v=random.standard_normal((4, 16, 3, 3)).astype(np.float32),
        low=np.float32(-0.5),
        zero=np.array([0]),
    )  # fmt: skip
    result = qcompiler.compile(model, target=target)
    assert result.plan.outputs
    assert result.facts["model"]["leftovers"] == []
    assert result.facts["model"]["integer_kernels"] >= 2
    assert result.verification["model"].outputs[0].sqnr > 18
