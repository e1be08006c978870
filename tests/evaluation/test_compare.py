"""Fidelity figures: equal to their definitions, streaming, and honest about NaN, shapes and integers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import UsageError
from qcompiler.evaluation.accumulate import Fidelity
from qcompiler.evaluation.compare import Comparison, TensorFidelity, compare, compare_emitted, missed_gates
from qcompiler.options import CompileOptions
from qcompiler.session import Feeds

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def scaled(factor: float) -> ir.Model:
    return ir.from_onnx_text(
        HEAD + f"m (float[N, 3] x) => (float[N, 3] y) <float f = {{{factor}}}> {{ h = Mul(x, f)\n y = Relu(h) }}"
    )


def test_figures_are_those_of_their_definitions() -> None:
    random = np.random.default_rng(1)
    truth = [random.standard_normal((2, 5)).astype(np.float32) for _ in range(3)]
    guess = [array + random.standard_normal(array.shape).astype(np.float32) * 0.1 for array in truth]
    fidelity = Fidelity("y")
    for a, b in zip(truth, guess, strict=True):
        fidelity.add(a, b, rows=2)
    a, b = np.concatenate(truth).astype(np.float64), np.concatenate(guess).astype(np.float64)
    found = fidelity.result()
    assert found.sqnr == pytest.approx(10 * math.log10((a**2).sum() / ((a - b) ** 2).sum()))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert found.cosine == pytest.approx(cosines.mean())
    assert found.max_error == pytest.approx(np.abs(a - b).max())
    assert found.agreement == pytest.approx(np.mean(a.argmax(1) == b.argmax(1)))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=6), min_size=1, max_size=4))
def test_a_tensor_is_exact_against_itself(rows: list[list[float]]) -> None:
    fidelity = Fidelity("y")
    for row in rows:
        fidelity.add(np.asarray(row, np.float32), np.asarray(row, np.float32))
    found = fidelity.result()
    assert (found.sqnr, found.max_error, found.agreement) == (math.inf, 0.0, 1.0)
    assert found.cosine == pytest.approx(1.0)


def test_nan_of_the_candidate_is_reported_and_fails_every_gate() -> None:
    fidelity = Fidelity("y")
    fidelity.add(np.ones((2, 3), np.float32), np.array([[1, np.nan, 1], [1, 1, 1]], np.float32), rows=2)
    found = fidelity.result()
    assert (found.broken, found.sqnr, found.max_error, found.cosine) == (1, -math.inf, math.inf, 0.5)
    assert missed_gates([("model", Comparison(2, (found,)))], CompileOptions(min_sqnr=-500.0))


def test_infinity_that_both_have_is_no_difference() -> None:
    fidelity = Fidelity("mask")
    both = np.array([0.0, -np.inf, np.nan], np.float32)
    fidelity.add(both, both.copy())
    assert fidelity.result() == TensorFidelity("mask", math.inf, 1.0, 0.0, 1.0)


def test_another_shape_is_counted_and_is_no_crash() -> None:
    fidelity = Fidelity("boxes")
    fidelity.add(np.zeros((3, 4), np.float32), np.zeros((2, 4), np.float32))
    found = fidelity.result()
    assert (found.misshapen, found.sqnr, found.cosine) == (1, -math.inf, 0.0)


def test_integers_give_the_share_of_equal_elements() -> None:
    fidelity = Fidelity("k")
    fidelity.add(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 9]))
    found = fidelity.result()
    assert (found.integer, found.agreement, found.max_error) == (True, 0.75, 5.0)
    only_integers = Comparison(1, (found,))
    assert missed_gates([("model", only_integers)], CompileOptions()) == ()
    assert "no output is a float tensor" in missed_gates([("model", only_integers)], CompileOptions(min_sqnr=10.0))[0]


def test_texts_and_bools_compare() -> None:
    fidelity = Fidelity("label")
    fidelity.add(np.array(["a", "b"], object), np.array(["a", "c"], object))
    assert (fidelity.result().integer, fidelity.result().agreement) == (True, 0.5)


def test_empty_tensors_are_equal() -> None:
    fidelity = Fidelity("none")
    fidelity.add(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))
    assert fidelity.result().sqnr == math.inf


def test_batches_may_be_ragged_and_come_from_a_generator() -> None:
    def batches() -> Iterator[Feeds]:
        for rows in (1, 4, 2):
            yield {"x": np.full((rows, 3), rows, np.float32)}

    found = compare(scaled(1.0), scaled(1.1), batches(), layers=["h", "missing"])
    assert found.samples == 7
    assert [item.name for item in found.layers] == ["h"]
    assert found.outputs[0].sqnr == pytest.approx(20.0, abs=0.01)  # an error of a tenth
    assert found.outputs[0].max_error == pytest.approx(0.4, abs=1e-3)


def test_all_graphs_of_a_compile_at_once() -> None:
    batches = [{"x": np.full((2, 3), value, np.float32)} for value in (1.0, -2.0, 3.0)]
    float_, model, host = scaled(1.0), scaled(1.1), scaled(1.2)
    found = compare_emitted(float_, model, host, iter(batches), layers=["h"])
    assert found == {
        "model": compare(float_, model, batches, layers=["h"]),
        "host": compare(float_, host, batches, layers=["h"]),
        "host_against_model": compare(host, model, batches, layers=[]),
    }
    assert list(compare_emitted(float_, model, None, batches)) == ["model"]


def test_no_common_output_is_a_usage_error() -> None:
    other = ir.from_onnx_text(HEAD + "m (float[N, 3] x) => (float[N, 3] other) { other = Relu(x) }")
    with pytest.raises(UsageError, match="no output name in common"):
        compare(scaled(1.0), other, [])


def test_gates_name_artifact_output_and_bound() -> None:
    low = Comparison(1, (TensorFidelity("y", 12.0, 0.9, 1.0),))
    options = CompileOptions(min_sqnr=20.0, min_cosine=0.95)
    assert missed_gates([("model", low), ("host_against_model", low)], options) == (
        "model: output 'y' has SQNR 12.00 dB, below 20",
        "model: output 'y' has cosine 0.90000, below 0.95",
    )
    assert missed_gates([("host", low)], CompileOptions(min_sqnr=12.0)) == ()
