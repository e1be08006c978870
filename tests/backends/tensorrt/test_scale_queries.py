"""The scale of attention moves in front of the first product, its pair included."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.tensorrt.scale_queries import ScaleQueries
from qcompiler.passes.canonical.recognise_attention import RecogniseAttention
from qcompiler.session import Session
from tests.building import build
from tests.equivalence import ops_of

PAIR = "{x}1 = QuantizeLinear({x}, s, z) {x}2 = DequantizeLinear({x}1, s, z) "
CLIPPED = "{x}1 = QuantizeLinear({x}, s, z) {x}c = Clip({x}1, lo, hi) {x}2 = DequantizeLinear({x}c, s, z) "
SHAPES = "float[1, 2, 5, 16] q, float[1, 2, 16, 5] k, float[1, 2, 5, 16] v"
RANDOM = np.random.default_rng(0)
SIZES = {"q": (1, 2, 5, 16), "k": (1, 2, 16, 5), "v": (1, 2, 5, 16)}
FEEDS = {name: RANDOM.standard_normal(shape).astype(np.float32) for name, shape in SIZES.items()}


def model_of(queries: str, scale: str, read: str = "q2", more: str = "", outputs: str = "") -> ir.Model:
    behind = f"{scale} p = Softmax<axis = -1>(b) y = MatMul(p, v) {more}"
    body = f"{queries} k2 = Identity(k) a = MatMul({read}, k2) {behind}"
    model = build(
        f"m ({SHAPES}) => (float[1, 2, 5, 16] y{outputs}) {{ {body} }}", 21, s=np.float32(0.03), z=np.int8(0),
        z7=np.int8(7), lo=np.int8(-31), hi=np.int8(31), c=np.float32(0.25), four=np.float32(4),
        heads=np.array([[[0.25]], [[2]]], np.float32),
        minus=np.float32(-0.25),
    )  # fmt: skip
    RecogniseAttention().run(model)
    return model


@pytest.mark.parametrize(
    ("queries", "scale", "read"),
    [
        (PAIR.format(x="q"), "b = Mul(a, c)", "q2"),
        (PAIR.format(x="q"), "b = Div(a, four)", "q2"),
        (CLIPPED.format(x="q"), "b = Mul(c, a)", "q2"),
        ("", "b = Mul(a, c)", "q"),
        ("", "b = Mul(a, heads)", "q"),
        ("", "b = Div(a, heads)", "q"),
    ],
)
def test_the_scale_is_in_front_and_the_result_stays(queries: str, scale: str, read: str) -> None:
    source = model_of(queries, scale, read)
    result = source.clone()
    assert ScaleQueries().run(result).matched == ("a",)
    product = next(node for node in result.graph if node.name == "a")
    assert product.outputs[0].name == "b" and product.outputs[0].consumers()[0].op_type == "Softmax"
    assert ops_of(result).index("Mul") < ops_of(result).index("MatMul")
    if queries:  # the pair stays next to the product
        pair = product.predecessors()[0]
        assert pair.op_type == "DequantizeLinear" and pair.outputs[0] is product.inputs[0]
    before, after = (Session(model).run(FEEDS)["y"] for model in (source, result))
    np.testing.assert_allclose(after, before, rtol=2e-6, atol=2e-7)  # 1/4 is exact, but for the order of products
    assert not ScaleQueries().run(result).modified


@pytest.mark.parametrize(
    ("queries", "scale", "more", "outputs", "reasons"),
    [
        (PAIR.format(x="q"), "b = Mul(a, minus)", "", "", []),
        (PAIR.format(x="q"), "b = Mul(a, heads)", "", "", ["one scale for all heads"]),
        (PAIR.format(x="q"), "b = Mul(a, c)", "", ", float[1, 2, 5, 5] a", []),
        (PAIR.format(x="q").replace("z)", "z7)"), "b = Mul(a, c)", "", "", ["a zero point, or no single scale"]),
        (PAIR.format(x="q"), "b = Mul(a, c)", "o = Relu(q2)", ", float o", ["other readers"]),
    ],
)
def test_near_misses_stay(queries: str, scale: str, more: str, outputs: str, reasons: list[str]) -> None:
    model = model_of(queries, scale, "q2", more, outputs)
    outcome = ScaleQueries().run(model)
    assert not outcome.modified
    assert len(outcome.skipped) == len(reasons)
    assert all(reason in item.reason for reason, item in zip(reasons, outcome.skipped, strict=True))


def test_products_that_are_no_attention_stay() -> None:
    model = build("m (float[2, 3] x, float[3, 4] y) => (float[2, 4] z) { a = MatMul(x, y) z = Mul(a, c) }", 21,
                  c=np.float32(0.5))  # fmt: skip
    RecogniseAttention().run(model)
    assert not ScaleQueries().run(model).modified
