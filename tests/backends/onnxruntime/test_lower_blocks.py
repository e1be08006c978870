"""int4 weights in blocks to MatMulNBits: the same product, in one operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.kernels import count_kernels
from qcompiler.backends.onnxruntime.lower_blocks import LowerBlocks, packed_blocks
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.quant.clip_weights import least_squares_scale
from qcompiler.passes.quant.quantize_weights import QuantizeWeights
from qcompiler.plan import QuantPlan
from qcompiler.scheme import PerBlock, QuantScheme, TensorQuant
from tests.building import build
from tests.equivalence import ops_of, random_feeds
from tests.quantizing import same

W = np.random.default_rng(0).standard_normal((64, 24)).astype(np.float32)
B = np.random.default_rng(1).standard_normal(24).astype(np.float32)


def int4(text: str, weight: np.ndarray[Any, Any], axis: int, size: int = 32, **more: Any) -> ir.Model:
    model = build(text, w=weight, **more)
    scheme = QuantScheme(ir.DataType.INT4, PerBlock(axis, size), bits=4)
    quant = TensorQuant(scheme, least_squares_scale(weight, scheme))
    QuantizeWeights(QuantPlan(nodes={"n": ()}, weights={"n": {1: quant}})).run(model)
    return model


@pytest.mark.parametrize(
    ("text", "weight", "axis", "size", "ops"),
    [
        ("m (float[N, T, 64] x) => (float[N, T, 24] y) { [n] y = MatMul(x, w) }", W, 0, 32, ["MatMulNBits"]),
        ("m (float[N, 64] x) => (float[N, 24] y) { [n] y = MatMul(x, w) }", W, 0, 16, ["MatMulNBits"]),
        ("m (float[N, 64] x) => (float[N, 24] y) { [n] y = Gemm<transB = 1>(x, w, b) }", W.T.copy(), 1, 32,
         ["MatMulNBits", "Add"]),
        ("m (float[N, 64] x) => (float[N, 24] y) { [n] y = Gemm(x, w, b) }", W, 0, 64, ["MatMulNBits", "Add"]),
    ],
)  # fmt: skip
def test_the_product_is_the_same(text: str, weight: Any, axis: int, size: int, ops: list[str]) -> None:
    before, model = int4(text, weight, axis, size, b=B), int4(text, weight, axis, size, b=B)
    assert ops_of(model)[0] == "DequantizeLinear"
    outcome = LowerBlocks().run(model)
    DropUnused().run(model)
    assert outcome.matched == ("n",)
    assert ops_of(model) == ops
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert not LowerBlocks().run(model).modified
    feeds = random_feeds(before, {"N": 3, "T": 5})
    same(model, before, feeds, 1e-5)
    assert count_kernels(model)["int4_kernels"] == 1


def test_codes_are_packed_even_first() -> None:
    codes = np.array([[-7, 7, 0, 1]], np.int8)
    np.testing.assert_array_equal(packed_blocks(codes, 2), [[[0x1 | 0xF << 4], [0x8 | 0x9 << 4]]])


@pytest.mark.parametrize(
    ("text", "weight", "axis", "reason"),
    [
        ("m (float[N, 64] x) => (float[N, 64] y) { [n] y = MatMul(x, w) }", W @ W.T, 1, "the summed axis"),
        ("m (float[N, 64] x) => (float[N, 24] y) { [n] y = Gemm<alpha = 2.0>(x, w, b) }", W, 0, "alpha"),
        ("m (float[64, N] x) => (float[N, 24] y) { [n] y = Gemm<transA = 1>(x, w) }", W, 0, "transposed activation"),
    ],
)
def test_near_misses(text: str, weight: Any, axis: int, reason: str) -> None:
    model = int4(text, weight, axis, b=B)
    outcome = LowerBlocks().run(model)
    assert not outcome.modified
    assert reason in outcome.skipped[0].reason
    assert "com.microsoft" not in model.opset_imports


def test_int8_pairs_are_not_blocks() -> None:
    text = "m (float[N, 64] x) => (float[N, 24] y) { d = DequantizeLinear(c, s) [n] y = MatMul(x, d) }"
    model = build(text, c=np.ones((64, 24), np.int8), s=np.float32(0.1))
    assert LowerBlocks().run(model).skipped == ()
