"""spread-softplus: Softplus out of operators that run in vectors."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.spelling.spread_softplus import SpreadSoftplus
from qcompiler.session import run_all
from tests.building import build
from tests.equivalence import ops_of

SPREAD = ["Abs", "Neg", "Exp", "Add", "Sub", "Sub", "Relu", "Log", "Add", "Add"]
WHERE = "s = Softplus (x)\n far = Greater (x, limit)\n y = Where (far, x, s)"
UNITS = 4
"""Roundings of float32 that reach the result: the exponential, the sum, the logarithm, the last sum."""


def model_of(body: str, limit: float = 20.0) -> ir.Model:
    return build(f"agraph (float[n] x) => (float[n] y) {{ {body} }}", limit=np.float32(limit))


@pytest.mark.parametrize("body", ["y = Softplus (x)", WHERE])
def test_values_keep_their_relative_precision(body: str) -> None:
    model = model_of(body)
    assert SpreadSoftplus().run(model).matched
    assert sorted(node for node in ops_of(model) if node not in ("Greater",)) == sorted(SPREAD)
    assert [value.name for value in model.graph.outputs] == ["y"]
    x = np.concatenate([np.linspace(-80, 80, 3001), [0.0, -1e-30, 1e30, -1e30]]).astype(np.float32)
    expected = np.logaddexp(0, x.astype(np.float64))
    got = run_all(model, [{"x": x}])[0]["y"]
    normal = expected > 1e-37
    assert (np.abs(got - expected) <= UNITS * 2.0**-24 * expected * 2)[normal].all()
    assert not SpreadSoftplus().run(model).modified


def test_double_keeps_double() -> None:
    model = build("agraph (double[n] x) => (double[n] y) { y = Softplus (x) }")
    assert SpreadSoftplus().run(model).matched
    x = np.linspace(-30, 30, 61)
    np.testing.assert_allclose(run_all(model, [{"x": x}])[0]["y"], np.logaddexp(0, x), rtol=1e-14)


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (WHERE, 5.0),  # log(1 + exp(5)) is not 5
        (WHERE.replace("(far, x, s)", "(far, s, x)"), 20.0),
        (WHERE.replace("Greater (x, limit)", "Greater (limit, x)"), 20.0),
        (WHERE + "\n z = Add (s, s)\n", 20.0),
    ],
)
def test_other_switches_stay(body: str, limit: float) -> None:
    outputs = "float[n] y, float[n] z" if "z =" in body else "float[n] y"
    model = build(f"agraph (float[n] x) => ({outputs}) {{ {body} }}", limit=np.float32(limit))
    x = np.linspace(-9, 30, 40).astype(np.float32)
    expected = run_all(model, [{"x": x}])[0]
    assert SpreadSoftplus().run(model).matched
    assert "Where" in ops_of(model)
    for name, array in run_all(model, [{"x": x}])[0].items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-6)


def test_a_mish_stays() -> None:
    model = model_of("s = Softplus (x)\n t = Tanh (s)\n y = Mul (x, t)")
    outcome = SpreadSoftplus().run(model)
    assert [item.reason for item in outcome.skipped] == ["part of a Mish"] and not outcome.modified
