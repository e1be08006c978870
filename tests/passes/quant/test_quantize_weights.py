"""Weights become codes behind a DequantizeLinear: bit equal to the reference, made once, float kept where read."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.numerics import dequantize, quantize, weight_scale
from qcompiler.passes.quant.quantize_weights import QuantizeWeights
from qcompiler.pipeline import Skip
from qcompiler.plan import QuantPlan
from qcompiler.scheme import PerAxis, PerBlock, PerTensor, QuantScheme, TensorQuant
from qcompiler.session import run_all
from tests.building import build, is_topological, node_named
from tests.equivalence import ops_of, random_feeds

W = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)


def quant_of(weight: np.ndarray[Any, Any], axis: int | None) -> TensorQuant:
    scheme = QuantScheme(granularity=PerTensor() if axis is None else PerAxis(axis))
    return TensorQuant(scheme, weight_scale(weight, scheme))


def plan_of(**weights: dict[int, TensorQuant]) -> QuantPlan:
    return QuantPlan(weights=weights, nodes=dict.fromkeys(weights, (0,)))


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_codes_are_the_reference_s(axis: int | None) -> None:
    model = build("m (float[N, 4] x) => (float[N, 4] y) { [n] y = MatMul(x, w) }", w=W)
    quant = quant_of(W, axis)
    outcome = QuantizeWeights(plan_of(n={1: quant})).run(model)
    assert outcome.matched == ("w",)
    assert ops_of(model) == ["DequantizeLinear", "MatMul"]
    assert sorted(model.graph.initializers) == ["w_quantized", "w_scale", "w_zero_point"]
    codes, scale, zero = (model.graph.initializers[f"w_{part}"].const_value.numpy()  # type: ignore[union-attr]
                          for part in ("quantized", "scale", "zero_point"))  # fmt: skip
    np.testing.assert_array_equal(codes, quantize(W, quant))
    np.testing.assert_array_equal(scale, quant.scale)
    assert (zero.dtype, zero.shape, zero.any()) == (np.int8, quant.scale.shape, False)
    feeds = random_feeds(model)
    found = run_all(model, [feeds], ["w_dequantized"], optimize=False)[0]
    np.testing.assert_array_equal(found["w_dequantized"], dequantize(codes, quant))
    assert not QuantizeWeights(plan_of(n={1: quant})).run(model).modified


def test_readers_of_one_initializer_share_its_codes() -> None:
    text = "m (float[N, 4] x) => (float[N, 4] y) { [a] h = MatMul(x, w) [b] y = MatMul(h, w) }"
    model = build(text, w=W)
    assert QuantizeWeights(plan_of(a={1: quant_of(W, 1)}, b={1: quant_of(W, 1)})).run(model).matched == ("w",)
    assert ops_of(model) == ["DequantizeLinear", "MatMul", "MatMul"]
    assert "w" not in model.graph.initializers
    assert is_topological(model.graph)


def test_other_scales_make_other_codes() -> None:
    text = "m (float[N, 4] x) => (float[N, 4] y) { [a] h = MatMul(x, w) [b] y = Gemm<transB = 1>(h, w) }"
    model = build(text, w=W)
    outcome = QuantizeWeights(plan_of(a={1: quant_of(W, 1)}, b={1: quant_of(W, 0)})).run(model)
    assert outcome.matched == ("w", "w")
    assert ops_of(model) == ["DequantizeLinear", "MatMul", "DequantizeLinear", "Gemm"]
    run_all(model, [random_feeds(model)])


def test_equal_scales_with_other_bits_make_other_codes() -> None:
    text = "m (float[N, 4] x) => (float[N, 4] y) { [a] h = MatMul(x, w) [b] y = MatMul(h, w) }"
    model = build(text, w=W)
    scale = np.full(4, 0.05, np.float32)
    eight, four = (TensorQuant(QuantScheme(granularity=PerAxis(1), bits=bits), scale) for bits in (8, 4))
    QuantizeWeights(plan_of(a={1: eight}, b={1: four})).run(model)
    found = [node.inputs[0].const_value.numpy() for node in model.graph if node.op_type == "DequantizeLinear"]  # type: ignore[union-attr]
    np.testing.assert_array_equal(found[0], quantize(W, eight))
    np.testing.assert_array_equal(found[1], quantize(W, four))
    assert np.abs(found[1]).max() == 7 < np.abs(found[0]).max()


def test_int4_blocks() -> None:
    model = build("m (float[N, 4] x) => (float[N, 4] y) { [n] y = MatMul(x, w) }", w=W)
    scheme = QuantScheme(ir.DataType.INT4, PerBlock(0, 2), bits=4)
    quant = TensorQuant(scheme, np.abs(W).reshape(2, 2, 4).max(1) / np.float32(7))
    QuantizeWeights(plan_of(n={1: quant})).run(model)
    assert model.graph.initializers["w_quantized"].dtype == ir.DataType.INT4
    assert len(model.graph[0].inputs) == 2
    feeds = random_feeds(model)
    found = run_all(model, [feeds], ["w_dequantized"], optimize=False)[0]
    np.testing.assert_array_equal(found["w_dequantized"], dequantize(quantize(W, quant), quant))


def test_a_tied_embedding_keeps_its_float_table() -> None:
    text = "m (int64[N] i) => (float[N, 4] y) { e = Gather(w, i) [head] y = Gemm<transB = 1>(e, w) }"
    model = build(text, w=W)
    QuantizeWeights(plan_of(head={1: quant_of(W, 0)})).run(model)
    table = model.graph.initializers["w"].const_value
    assert table is not None
    np.testing.assert_array_equal(table.numpy(), W)
    gather = next(node for node in model.graph if node.op_type == "Gather")
    assert gather.inputs[0] is model.graph.initializers["w"]


def test_a_float_reader_in_a_subgraph_keeps_the_float_weight() -> None:
    text = """m (float[N, 4] x, bool c) => (float[N, 4] y) { [n] a = MatMul(x, w)
        y = If(c) <then_branch = t () => (float[N, 4] u) { u = MatMul(a, w) },
                   else_branch = e () => (float[N, 4] v) { v = Neg(a) }> }"""
    model = build(text, w=W)
    QuantizeWeights(plan_of(n={1: quant_of(W, 1)})).run(model)
    assert "w" in model.graph.initializers
    run_all(model, [{"x": np.ones((2, 4), np.float32), "c": np.array(True)}])


def test_constants_behind_identity() -> None:
    text = "m (float[N, 4] x) => (float[N, 4] y, float[4, 4] v) { v = Identity(w) [n] y = MatMul(x, v) }"
    model = build(text, w=W)
    assert QuantizeWeights(plan_of(n={1: quant_of(W, 1)})).run(model).matched == ("v",)
    found = run_all(model, [random_feeds(model)])[0]
    np.testing.assert_array_equal(found["v"], W)


def test_an_initializer_that_is_an_output_stays() -> None:
    model = build("m (float[N, 4] x) => (float[N, 4] y) { [n] y = MatMul(x, w) }", w=W)
    model.graph.outputs.append(model.graph.initializers["w"])
    QuantizeWeights(plan_of(n={1: quant_of(W, 1)})).run(model)
    assert "w" in model.graph.initializers


def test_what_is_not_constant_is_skipped() -> None:
    text = "m (float[N, 4] x, float[4, 4] z) => (float[N, 4] y) { [n] y = MatMul(x, z) }"
    outcome = QuantizeWeights(plan_of(n={1: quant_of(W, 1)})).run(build(text))
    assert outcome.skipped == (Skip("n", "input 1 is not constant"),)
    assert not outcome.modified
    beyond = QuantizeWeights(plan_of(n={5: quant_of(W, 1)})).run(build(text))
    assert beyond.skipped == (Skip("n", "input 5 is not constant"),)


def test_left_weights_and_convolutions() -> None:
    kernel = np.random.default_rng(1).standard_normal((6, 3, 3, 3)).astype(np.float32)
    text = """m (float[1, 3, 8, 8] x, float[4, 2] z) => (float[1, 6, 6, 6] y, float[4, 2] k) {
        [conv] y = Conv(x, c) [left] k = MatMul(w, z) }"""
    model = build(text, c=kernel, w=W)
    QuantizeWeights(QuantPlan(weights={"conv": {1: quant_of(kernel, 0)}, "left": {0: quant_of(W, 0)}})).run(model)
    assert node_named(model, "left").inputs[0].producer().op_type == "DequantizeLinear"  # type: ignore[union-attr]
    feeds = random_feeds(model)
    found = run_all(model, [feeds], optimize=False)[0]
    left = dequantize(quantize(W, quant_of(W, 0)), quant_of(W, 0))
    np.testing.assert_allclose(found["k"], left @ feeds["z"], rtol=1e-5, atol=1e-6)


def test_the_float_array_is_never_written() -> None:
    weight = W.copy()
    model = build("m (float[N, 4] x) => (float[N, 4] y) { [n] y = MatMul(x, w) }", w=weight)
    clone = model.clone()
    QuantizeWeights(plan_of(n={1: quant_of(W, 1)})).run(model)
    np.testing.assert_array_equal(weight, W)
    assert isinstance(clone.graph.initializers["w"].const_value, ir.TensorProtocol)
