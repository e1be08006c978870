"""Weights behind switches: off they are the float weights, on those of the plan; shared ones are switched by reader."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompiler.numerics import dequantize, quantize, weight_scale
from qcompiler.passes.quant.switched_model import SwitchedModel
from qcompiler.plan import QuantPlan
from qcompiler.scheme import TensorQuant, int8_weight
from tests.building import build, per_tensor

RANDOM = np.random.default_rng(0)
W = RANDOM.standard_normal((8, 8)).astype(np.float32)
SCHEME = replace(int8_weight(1), bits=4)
QUANT = TensorQuant(SCHEME, weight_scale(W, SCHEME))
ROUNDED = dequantize(quantize(W, QUANT), QUANT)
X = RANDOM.standard_normal((3, 8)).astype(np.float32)
TEXT = "m (float[N, 8] x) => (float[N, 8] y, float[N, 8] z) { [one] y = MatMul(x, w) [two] z = MatMul(x, w) }"
PLAN = QuantPlan(
    tensors={"x": per_tensor(1e-6)}, nodes={"one": (), "two": ()}, weights={"one": {1: QUANT}, "two": {1: QUANT}}
)


def test_a_node_reads_rounded_weights_where_it_is_on() -> None:
    model = build(TEXT, w=W)
    switched = SwitchedModel(model, PLAN, [{"x": X}], weights=True)
    wanted, found = switched.outputs(0, ["two"])
    np.testing.assert_allclose(found["y"], X @ W, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found["y"], wanted["y"])
    np.testing.assert_allclose(found["z"], X @ ROUNDED, rtol=1e-5, atol=1e-5)
    assert np.abs(found["z"] - wanted["z"]).max() > 0.1
    assert [node.op_type for node in model.graph] == ["MatMul", "MatMul"] and list(model.graph.initializers) == ["w"]


def test_weights_stay_float_unless_asked_for() -> None:
    wanted, found = SwitchedModel(build(TEXT, w=W), PLAN, [{"x": X}]).outputs(0, ["one", "two"])
    np.testing.assert_array_equal(found["z"], wanted["z"])
