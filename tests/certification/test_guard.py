"""The guard of a compile: certificates of wrong rewrites, in float32 and float64."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler import equivalence
from qcompiler.certification.bound import DOUBLE, SINGLE, longest_sum, rounding_bound
from qcompiler.equivalence import EquivalenceGuard, double_cost, make_guard
from qcompiler.options import CompileOptions
from tests.building import build
from tests.equivalence import random_feeds


def scaled(factor: float) -> ir.Model:
    return build("m (float[N, 4] x) => (float[N, 4] y) { y = Mul(x, f) }", f=np.float32(factor))


def test_certificate_of_two_equal_models() -> None:
    model = scaled(1.5)
    guard = EquivalenceGuard([random_feeds(model)], random=[random_feeds(model, seed=1)])
    assert guard(model, model.clone(), ("one", "two")) == ""
    (found,) = guard.certificates
    assert (found.passes, found.calibration, found.random, found.arithmetic) == (("one", "two"), 1, 1, "float32")
    assert found.holds
    assert found.outputs is not None
    assert (found.outputs.name, found.outputs.difference) == ("y", 0.0)
    assert found.bound == rounding_bound(model, model, SINGLE)


@pytest.mark.parametrize("double", [False, True])
def test_difference_above_rounding_is_named(double: bool) -> None:
    model = scaled(1.0)
    guard = EquivalenceGuard([random_feeds(model)], double=double)
    assert guard(model, scaled(1.0 + 1e-4)).startswith("output 'y' differs by 0.0001 of its largest magnitude")
    assert "on calibration 0 (float64" in guard.certificates[0].reason  # float32's finding is judged again


def test_rounding_of_a_new_weight_is_no_difference() -> None:
    model = scaled(1.0)
    guard = EquivalenceGuard([random_feeds(model)], double=True)
    one_step = float(np.nextafter(np.float32(1), np.float32(2)))
    assert guard(model, scaled(one_step)) != ""  # scalars are never counted as new weights
    rows = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    text = "m (float[N, 4] x) => (float[N, 4] y) { y = MatMul(x, w) }"
    nearly = np.nextafter(rows, np.float32(9))
    assert guard(build(text, w=rows), build(text, w=nearly)) == ""
    assert guard.certificates[-1].arithmetic == "float64"
    assert guard(build(text, w=rows), build(text, w=rows * np.float32(1 + 1e-5))) != ""


def test_guard_refuses_a_model_that_does_not_run() -> None:
    model = scaled(1.0)
    guard = EquivalenceGuard([random_feeds(model)])
    broken = scaled(1.0)
    broken.graph[0].op_type = "NoSuchOperator"
    assert "the rewritten model does not run" in guard(model, broken)
    shapes = build("m (float[N, 4] x) => (float[N, 5] y) { y = Reshape(x, s) }", s=np.array([-1, 5]))
    assert "the rewritten model does not run" in guard(model, shapes)  # 12 elements in rows of 5


def test_each_model_is_compared_with_its_own_outputs() -> None:
    guard = EquivalenceGuard([random_feeds(scaled(1.0))])
    for factor in (1.0, 2.0, 3.0, 4.0, 5.0):
        assert guard(scaled(factor), scaled(factor)) == ""


def test_a_difference_outside_the_calibration_range_is_found_on_random_inputs() -> None:
    model = build("m (float[N, 4] x) => (float[N, 4] y) { y = Identity(x) }")
    clipped = build("m (float[N, 4] x) => (float[N, 4] y) { y = Clip(x, a, b) }", a=np.float32(-0.1), b=np.float32(0.1))
    sample = {"x": np.full((1, 4), 0.05, np.float32)}
    assert EquivalenceGuard([sample])(model, clipped) == ""
    guard = make_guard(model, sample, CompileOptions())
    assert "on random 0" in guard(model, clipped)
    assert [feeds["x"].shape for feeds in guard.random] == [(2, 4)]


def test_another_batch_size_is_run() -> None:
    model = build("m (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }")
    fixed = build("m (float[N, 4] x) => (float[N, 4] y) { a = Relu(x) y = Reshape(a, s) }", s=np.array([1, 4]))
    guard = make_guard(model, {"x": np.ones((8, 4), np.float32)}, CompileOptions())
    assert guard.samples[0]["x"].shape == (1, 4)
    assert guard(model, fixed).startswith("the rewritten model does not run on random 0")


def test_random_inputs_that_the_model_refuses_are_left_out_with_a_note() -> None:
    text = "m (float[N, 4] x) => (float[M, 2] y) { y = Reshape(x, s) }"
    model = build(text, s=np.array([1, 2, 2]))
    guard = make_guard(model, {"x": np.ones((1, 4), np.float32)}, CompileOptions())
    assert guard(model, model.clone()) == ""
    (found,) = guard.certificates
    assert found.random == 1  # its first row
    assert "with more than one row" in found.notes[0]


def test_outputs_of_nothing_but_nan_prove_nothing_and_say_so() -> None:
    model = build("m (float[N] x) => (float[N] y) { a = Sub(x, x) y = Div(a, a) }")
    guard = EquivalenceGuard([{"x": np.ones(3, np.float32)}])
    assert guard(model, model.clone()) == ""
    assert guard.certificates[0].notes == ("output 'y' is nowhere a number: nothing is proven of it",)
    half = build("m (float[N] x) => (float[N] y) { a = Sub(x, x) b = Div(a, a) y = Add(b, x) }")
    guard.samples = [{"x": np.array([np.inf, 1], np.float32)}]
    assert guard(half, build("m (float[N] x) => (float[N] y) { y = Identity(x) }")) != ""


def test_integer_outputs() -> None:
    text = "m (float[N, 4] x) => (int64[N] y) {{ a = {op}(x) y = ArgMax <axis = 1, keepdims = 0> (a) }}"
    model = build(text.format(op="Identity"))
    guard = EquivalenceGuard([random_feeds(model)], double=True)
    assert guard(model, build(text.format(op="Dropout"))) == ""
    assert guard.certificates[0].outputs is not None
    assert guard.certificates[0].outputs.difference == 0.0
    assert "output 'y' differs by inf" in guard(model, build(text.format(op="Neg")))
    for double in (False, True):  # the scores in front of the arg-max are looked at, where no output is a float
        assert "tensor 'a' differs by" in EquivalenceGuard(guard.samples, double=double)(
            model, build(text.format(op="Sigmoid"))
        )


def test_float16_models_are_proven_in_float64() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float16)
    text = "m (float16[N, 4] x) => (float16[N, 4] y) { a = MatMul(x, w) y = Tanh(a) }"
    model = build(text, w=rows)
    guard = EquivalenceGuard([random_feeds(model)], double=True)
    assert guard(model, model.clone()) == ""
    assert guard.certificates[0].arithmetic == "float64"
    assert guard(model, build(text, w=rows * np.float16(1.05))) != ""


def test_the_first_and_the_worst_inner_tensor_are_named() -> None:
    text = "m (float[N, 4] x) => (float[N, 4] y) { a = Relu(x) b = Mul(a, f) c = Exp(b) y = Sigmoid(c) }"
    model = build(text, f=np.float32(1))
    guard = EquivalenceGuard([random_feeds(model)], double=True)
    assert guard(model, build(text, f=np.float32(1.5))) != ""
    (found,) = guard.certificates
    assert found.first is not None and found.worst is not None
    assert (found.first.name, found.worst.name) == ("b", "c")
    assert "first tensor 'b'" in found.reason


def test_a_rescaled_inner_value_that_the_next_layer_takes_back_is_no_difference() -> None:
    text = "m (float[N, 4] x) => (float[N, 4] y) { a = Mul(x, g) b = MatMul(a, w) c = Tanh(b) y = Sigmoid(c) }"
    random = np.random.default_rng(0)
    gain, rows = random.random(4, np.float32) + 1, random.standard_normal((4, 4)).astype(np.float32)
    factor = np.array([1, 2, 4, 8], np.float32)
    guard = EquivalenceGuard([random_feeds(build(text, g=gain, w=rows))], double=True)
    assert guard(build(text, g=gain, w=rows), build(text, g=gain / factor, w=rows * factor[:, None])) == ""
    wrong = factor.copy()
    wrong[0] = 1.001
    assert "tensor" in guard(build(text, g=gain, w=rows), build(text, g=gain / factor, w=rows * wrong[:, None]))
    assert guard.certificates[-1].worst is not None


def test_a_changed_inner_value_without_effect_is_a_note() -> None:
    text = "m (float[N, 4] x) => (float[N, 4] y) { a = Add(x, c) b = Identity(a) y = Softmax(b) }"
    guard = EquivalenceGuard([random_feeds(build(text, c=np.float32(0)))], double=True)
    assert guard(build(text, c=np.float32(0)), build(text, c=np.float32(1))) == ""
    assert guard.certificates[0].notes[0].startswith("tensor 'a' is another one")


def test_the_same_certificates_again() -> None:
    def found() -> list[object]:
        model = scaled(1.0)
        guard = make_guard(model, random_feeds(model), CompileOptions(threads=1))
        guard(model, scaled(1.0 + 3e-5))
        guard(model, model.clone())
        return [item.to_json() for item in guard.kept()]

    assert found() == found()


def test_what_is_too_large_for_float64_is_proven_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "m (float[N, 4] x) => (float[N, 4] y) { y = MatMul(x, w) }"
    model = build(text, w=np.eye(4, dtype=np.float32))
    assert 0 < double_cost(model) < 1
    monkeypatch.setattr(equivalence, "DOUBLE_BYTES", 32)
    assert double_cost(model) == 2.0
    guard = EquivalenceGuard([random_feeds(model)], double=True)
    assert guard(model, model.clone()) == ""
    assert guard.certificates[0].arithmetic == "float32"


def test_bound_grows_with_depth_and_length_of_sums() -> None:
    def chain(width: int, depth: int) -> ir.Model:
        body = " ".join(f"a{i + 1} = MatMul(a{i}, w)" for i in range(depth))
        text = f"m (float[N, {width}] a0) => (float[N, {width}] a{depth}) {{ {body} }}"
        return build(text, w=np.zeros((width, width), np.float32))

    assert longest_sum(chain(8, 2)) == 2 * (8 + 1)
    assert longest_sum(chain(32, 3)) == 3 * (32 + 1)
    small, large = chain(8, 1), chain(35, 1)
    assert rounding_bound(large, large, SINGLE) == pytest.approx(2 * rounding_bound(small, small, SINGLE))
    assert rounding_bound(small, small, DOUBLE, new_weights=9) == pytest.approx(8 * 3 * 4 * SINGLE)
