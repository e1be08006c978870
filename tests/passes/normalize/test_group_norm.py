"""GroupNormalization of opset 18: deprecated, one gain for each group, and without shape inference in ONNX."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.normalize.pipeline import normalize_passes
from qcompiler.pipeline import Pipeline
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds


@pytest.mark.parametrize("opset", [19, 20, 21])
def test_group_norm_of_opset_18(opset: int) -> None:
    model = build(
        "m (float[2, 4, 3, 3] x) => (float[2, 4, 3, 3] y) { n = GroupNormalization<num_groups = 2>(x, g, b)"
        " y = Relu(n) }",
        opset=18,
        g=np.array([1.5, -2], np.float32),
        b=np.array([0.5, 1], np.float32),
    )
    made, runs = Pipeline(normalize_passes(opset)).run(model.clone())
    assert "GroupNormalization" not in ops_of(made)
    assert not any(run.outcome.diagnostics for run in runs)
    assert largest_error(model, made, random_feeds(model)) < 1e-5
