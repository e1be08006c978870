"""Which layers a comparison shows: not the product whose zero point the bias behind it takes up."""

from __future__ import annotations

import numpy as np

from qcompiler.evaluation.layers import layer_outputs
from qcompiler.plan import QuantPlan
from qcompiler.scheme import INT8_ACTIVATION, QuantScheme, TensorQuant
from tests.building import build

MODEL = build(
    "g (float[N, 3] x) => (float[N, 2] y, float[N, 2] z) "
    "{ [a] p = MatMul(x, w) [b] y = Add(p, v) [c] z = MatMul(x, w) }",
    w=np.ones((3, 2), np.float32), v=np.ones(2, np.float32),
)  # fmt: skip


def plan(scheme: QuantScheme) -> QuantPlan:
    quant = TensorQuant(scheme, np.asarray(0.1, np.float32))
    return QuantPlan(tensors={"x": quant}, nodes={"a": (0,), "c": (0,)})


def test_products_and_the_bias_behind_each() -> None:
    assert layer_outputs(MODEL, plan(INT8_ACTIVATION)) == ["p", "y", "z"]


def test_a_product_of_a_tensor_with_a_zero_point_counts_behind_its_bias() -> None:
    assert layer_outputs(MODEL, plan(QuantScheme(symmetric=False))) == ["y", "z"]
