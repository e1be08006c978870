"""MatMul and Gemm between dequantized inputs to integer products: the same numbers, refusals with their reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.kernels import count_kernels
from qcompiler.backends.onnxruntime.lower_products import LowerProducts
from qcompiler.backends.onnxruntime.unsigned_activations import UnsignedActivations
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.pipeline import Outcome
from tests.building import build, is_topological
from tests.equivalence import ops_of
from tests.quantizing import quantized, same

RANDOM = np.random.default_rng(0)
FLOAT_PRODUCTS = {"MatMul", "Gemm"}


def array(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(np.float32)


def lowered(model: ir.Model, *, unsigned: bool = True, portable: bool = False) -> tuple[ir.Model, Outcome]:
    copy = model.clone()
    if unsigned:
        UnsignedActivations().run(copy)
    outcome = LowerProducts(saturating=unsigned, portable=portable).run(copy)
    DropUnused().run(copy)
    return copy, outcome


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "2-D": ("m (float[5, 16] x) => (float[5, 12] y) { [n] y = MatMul(x, w) }", {"w": array(16, 12)}),
    "odd": ("m (float[3, 17] x) => (float[3, 7] y) { [n] y = MatMul(x, w) }", {"w": array(17, 7)}),
    "one": ("m (float[1, 1] x) => (float[1, 1] y) { [n] y = MatMul(x, w) }", {"w": array(1, 1)}),
    "vector": ("m (float[16] x) => (float[12] y) { [n] y = MatMul(x, w) }", {"w": array(16, 12)}),
    "3-D": ("m (float[2, 5, 16] x) => (float[2, 5, 12] y) { [n] y = MatMul(x, w) }", {"w": array(16, 12)}),
    "4-D": ("m (float[2, 3, 5, 16] x) => (float[2, 3, 5, 12] y) { [n] y = MatMul(x, w) }", {"w": array(16, 12)}),
    "batch of weights": (
        "m (float[3, 5, 16] x) => (float[?, ?, ?] y) { [n] y = MatMul(x, w) }",
        {"w": array(3, 16, 12)},
    ),
    "broadcast weights": (
        "m (float[2, 3, 5, 16] x) => (float[?, ?, ?, ?] y) { [n] y = MatMul(x, w) }",
        {"w": array(3, 16, 12)},
    ),
    "no rows": ("m (float[N, 16] x) => (float[N, 12] y) { [n] y = MatMul(x, w) }", {"w": array(16, 12)}),
    "symbolic": ("m (float[B, S, 16] x) => (float[B, S, 12] y) { [n] y = MatMul(x, w) }", {"w": array(16, 12)}),
    "weight first": ("m (float[16, 5] x) => (float[12, 5] y) { [n] y = MatMul(w, x) }", {"w": array(12, 16)}),
    "weight first, batch": (
        "m (float[2, 16, 5] x) => (float[2, 12, 5] y) { [n] y = MatMul(w, x) }",
        {"w": array(12, 16)},
    ),
    "scores": ("m (float[2, 4, 6, 8] q, float[2, 4, 8, 6] k) => (float[?, ?, ?, ?] y) { [n] y = MatMul(q, k) }", {}),
    "transposed key": (
        """m (float[2, 4, 6, 8] q, float[2, 4, 6, 8] k) => (float[?, ?, ?, ?] y) {
        t = Transpose<perm = [0, 1, 3, 2]>(k) [n] y = MatMul(q, t) }""",
        {},
    ),
    "mixed": (
        "m (float[2, 4, 6, 6] a, float[2, 4, 6, 8] v) => (float[?, ?, ?, ?] y) { b = Softmax(a) [n] y = MatMul(b, v) }",
        {},
    ),
    "square": ("m (float[6, 6] x) => (float[6, 6] y) { [n] y = MatMul(x, x) }", {}),
    "bias": ("m (float[5, 16] x) => (float[5, 12] y) { [n] h = MatMul(x, w) y = Add(h, b) }",
             {"w": array(16, 12), "b": array(12)}),
    "bias first": ("m (float[2, 5, 16] x) => (float[2, 5, 12] y) { [n] h = MatMul(x, w) y = Add(b, h) }",
                   {"w": array(16, 12), "b": array(12)}),
    "bias of one": ("m (float[5, 16] x) => (float[5, 12] y) { [n] h = MatMul(x, w) y = Add(h, b) }",
                    {"w": array(16, 12), "b": array(1)}),
    "bias matrix": ("m (float[5, 16] x) => (float[5, 12] y) { [n] h = MatMul(x, w) y = Add(h, b) }",
                    {"w": array(16, 12), "b": array(5, 12)}),
    "bias of scores": (
        "m (float[4, 6, 8] q, float[4, 8, 6] k) => (float[?, ?, ?] y) { [n] h = MatMul(q, k) y = Add(h, b) }",
        {"b": array(6)},
    ),
    "product returned too": (
        "m (float[5, 16] x) => (float[5, 12] y, float[5, 12] h) { [n] h = MatMul(x, w) y = Add(h, b) }",
        {"w": array(16, 12), "b": array(12)},
    ),
    "bias at run time": (
        "m (float[5, 16] x, float[12] b) => (float[5, 12] y) { [n] h = MatMul(x, w) y = Add(h, b) }",
        {"w": array(16, 12)},
    ),
    "added to itself": ("m (float[5, 16] x) => (float[5, 12] y) { [n] h = MatMul(x, w) y = Add(h, h) }",
                        {"w": array(16, 12)}),
    "Gemm": ("m (float[5, 16] x) => (float[5, 12] y) { [n] y = Gemm(x, w) }", {"w": array(16, 12)}),
    "Gemm, bias": ("m (float[5, 16] x) => (float[5, 12] y) { [n] y = Gemm(x, w, b) }",
                   {"w": array(16, 12), "b": array(12)}),
    "Gemm, transB": ("m (float[5, 16] x) => (float[5, 12] y) { [n] y = Gemm<transB = 1>(x, w, b) }",
                     {"w": array(12, 16), "b": array(12)}),
    "Gemm, row": ("m (float[5, 16] x) => (float[5, 12] y) { [n] y = Gemm<transB = 1>(x, w, b) }",
                  {"w": array(12, 16), "b": array(1, 12)}),
    "Gemm, column": ("m (float[5, 16] x) => (float[5, 12] y) { [n] y = Gemm(x, w, b) }",
                     {"w": array(16, 12), "b": array(5, 1)}),
    "Gemm, one number": ("m (float[5, 16] x) => (float[5, 12] y) { [n] y = Gemm(x, w, b) }",
                         {"w": array(16, 12), "b": array(1)}),
    "Gemm, scalar": ("m (float[5, 16] x) => (float[5, 12] y) { [n] y = Gemm(x, w, b) }",
                     {"w": array(16, 12), "b": np.float32(0.5)}),
    "Gemm, beta without bias": ("m (float[5, 16] x) => (float[5, 12] y) { [n] y = Gemm<beta = 2.0>(x, w) }",
                                {"w": array(16, 12)}),
    "Gemm, bias at run time": (
        "m (float[5, 16] x, float[12] b) => (float[5, 12] y) { [n] y = Gemm(x, w, b) }", {"w": array(16, 12)}),
    "two readers of one weight": (
        "m (float[5, 16] x) => (float[5, 16] y) { [n] h = MatMul(x, w) r = Relu(h) [o] y = Gemm<transB = 1>(r, w) }",
        {"w": array(16, 16)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("portable", [False, True], ids=["fused", "portable"])
@pytest.mark.parametrize("unsigned", [True, False], ids=["uint8", "int8"])
@pytest.mark.parametrize("case", CASES)
def test_integer_products_give_the_same_numbers(case: str, unsigned: bool, portable: bool) -> None:
    text, constants = CASES[case]
    model, feeds = quantized(text, **constants)
    found, outcome = lowered(model, unsigned=unsigned, portable=portable)
    assert outcome.matched
    assert outcome.skipped == ()
    assert not FLOAT_PRODUCTS & set(ops_of(found))
    assert is_topological(found.graph)
    assert [value.name for value in found.graph.outputs] == [value.name for value in model.graph.outputs]
    assert [value.name for value in found.graph.inputs] == [value.name for value in model.graph.inputs]
    if portable:
        assert "com.microsoft" not in {node.domain for node in found.graph}
    same(found, model, feeds)
    assert count_kernels(found)["leftovers"] == []
    again, second = lowered(found, unsigned=unsigned, portable=portable)
    assert not second.modified
    assert ops_of(again) == ops_of(found)


@pytest.mark.parametrize("clip", [0.3, 0.01])
def test_saturated_activations(clip: float) -> None:
    text, constants = CASES["2-D"]
    model, feeds = quantized(text, clip=clip, **constants)
    same(lowered(model)[0], model, feeds)


def test_a_batch_of_no_rows() -> None:
    text, constants = CASES["no rows"]
    model, _ = quantized(text, **constants)
    found, _ = lowered(model)
    same(found, model, {"x": np.zeros((0, 16), np.float32)})


@pytest.mark.parametrize("name", ["bias", "bias first", "Gemm, bias", "Gemm, transB"])
def test_a_row_of_biases_goes_into_the_product(name: str) -> None:
    text, constants = CASES[name]
    found, _ = lowered(quantized(text, **constants)[0])
    assert ops_of(found) == ["QuantizeLinear", "MatMulIntegerToFloat"]


PAIR = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
NUMBERS: dict[str, Any] = {
    "s": np.float32(0.02), "z": np.int8(0), "c": RANDOM.integers(-127, 128, (16, 16)).astype(np.int8),
    "s1": np.float32(0.01), "s16": np.full(16, 0.01, np.float32), "z16": np.zeros(16, np.int8),
    "mixed": np.arange(16).astype(np.int8), "blocks": np.full((2, 16), 0.01, np.float32),
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("v = DequantizeLinear<axis = 1>(c, s16, z16) [n] y = Gemm<alpha = 0.5>(d, v)", "alpha"),
        ("v = DequantizeLinear<axis = 1>(c, s16, z16) [n] y = Gemm<transA = 1>(d, v)", "transposed activation"),
        ("v = DequantizeLinear<axis = 1>(c, s16, z16) [n] y = Gemm<beta = 2.0>(d, v, s16)", "beta"),
        ("[n] y = Gemm(d, d)", "computed at run time"),
        ("v = DequantizeLinear<axis = 0>(c, s16, z16) [n] y = MatMul(d, v)", "not per column"),
        ("v = DequantizeLinear<axis = 0>(c, s16, z16) [n] y = Gemm(d, v)", "not per column"),
        ("v = DequantizeLinear<axis = 1>(c, s16, z16) [n] y = Gemm<transB = 1>(d, v)", "not per column"),
        ("v = DequantizeLinear<axis = 1>(c, s16, z16) [n] y = MatMul(v, d)", "not per row"),
        ("v = DequantizeLinear<axis = 1>(c, s16, z16) [n] y = MatMul(d, v) k = Cast<to = 6>(q)", "signed codes"),
    ],
)
def test_near_misses_stay_float_with_their_reason(body: str, reason: str) -> None:
    model = build(f"m (float[16, 16] x) => (float[16, 16] y) {{ {PAIR} {body} }}", **NUMBERS)
    before = ir.to_onnx_text(model)
    outcome = LowerProducts().run(model)
    assert not outcome.modified
    assert [skip.where for skip in outcome.skipped] == ["n"]
    assert reason in outcome.skipped[0].reason
    assert ir.to_onnx_text(model) == before


@pytest.mark.parametrize(
    "body",
    [
        "v = DequantizeLinear<axis = 1>(c, s16, z16) [n] y = MatMul(x, v)",  # one side is float
        "v = DequantizeLinear<axis = 1>(c, s16, mixed) [n] y = MatMul(d, v)",  # zero points differ between columns
        "v = DequantizeLinear<axis = 0, block_size = 8>(c, blocks) [n] y = MatMul(d, v)",
        "t = Abs(s1) v = DequantizeLinear(c, t) [n] y = MatMul(d, v)",  # a scale computed at run time
    ],
)
def test_what_is_no_integer_operand_is_passed_over(body: str) -> None:
    model = build(f"m (float[16, 16] x) => (float[16, 16] y) {{ {PAIR} {body} }}", **NUMBERS)
    outcome = LowerProducts().run(model)
    assert (outcome.modified, outcome.skipped) == (False, ())


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize(
    "weight",
    [
        "DequantizeLinear(c, s1, z)",
        "DequantizeLinear<axis = 1>(c, s16, z16)",
        "DequantizeLinear<axis = -1>(c, s16)",
    ],
)
def test_full_range_weights_per_tensor_and_per_column(weight: str, portable: bool) -> None:
    model = build(f"m (float[16, 16] x) => (float[16, 16] y) {{ {PAIR} v = {weight} [n] y = MatMul(d, v) }}", **NUMBERS)
    feeds = {"x": np.sign(RANDOM.standard_normal((16, 16))).astype(np.float32) * 3}  # all codes at the ends
    found, outcome = lowered(model, portable=portable)
    assert outcome.matched == ("n",)
    same(found, model, feeds)


@pytest.mark.parametrize("bits", [6, 8])
def test_activations_that_stay_int8_need_weights_that_cannot_saturate(bits: int) -> None:
    text = f"""m (float[16, 16] x) => (float[16, 16] y, int8[16, 16] q) {{ {PAIR}
        v = DequantizeLinear<axis = 1>(c, s16, z16) [n] y = MatMul(d, v) }}"""
    model = build(text, **{**NUMBERS, "c": NUMBERS["c"] >> (8 - bits)})
    feeds = {"x": np.sign(RANDOM.standard_normal((16, 16))).astype(np.float32) * 3}
    for portable in (False, True):
        found, outcome = lowered(model, portable=portable)
        assert bool(outcome.matched) == (bits == 6)
        same(found, model, feeds)


def test_metadata_of_the_product_is_kept() -> None:
    text, constants = CASES["bias"]
    model, _ = quantized(text, **constants)
    next(node for node in model.graph if node.name == "n").metadata_props["role"] = "head"
    found, _ = lowered(model)
    assert [node.metadata_props.get("role") for node in found.graph if node.op_type.startswith("MatMul")] == ["head"]
