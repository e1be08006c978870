"""Which inputs are quantized, along which axis weights have scales, and the reason for each node that stays float."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.quant.select_sites import Sites, select_sites
from qcompiler.target import Placement
from tests.building import build

ALL = Placement()
RANDOM = np.random.default_rng(0)


def weight(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(dtype)


def sites_of(text: str, placement: Placement = ALL, excluded: tuple[str, ...] = (), **constants: Any) -> Sites:
    return select_sites(build(text, **constants), placement, excluded)


@pytest.mark.parametrize(
    ("text", "shape", "axes"),
    [
        ("m (float[2, 3, 4] x) => (float[?, ?, ?] y) { [n] y = MatMul(x, w) }", (4, 5), {1: 1}),
        ("m (float[4, 2] x) => (float[?, ?] y) { [n] y = MatMul(w, x) }", (5, 4), {0: 0}),
        ("m (float[3, 2, 4] x) => (float[?, ?, ?] y) { [n] y = MatMul(x, w) }", (3, 4, 5), {1: None}),
        ("m (float[2, 4] x) => (float[?, ?] y) { [n] y = Gemm(x, w) }", (4, 5), {1: 1}),
        ("m (float[2, 4] x) => (float[?, ?] y) { [n] y = Gemm<transB = 1>(x, w) }", (5, 4), {1: 0}),
        ("m (float[1, 4, 8, 8] x) => (float[?, ?, ?, ?] y) { [n] y = Conv(x, w) }", (6, 4, 3, 3), {1: 0}),
        ("m (float[1, 4, 8, 8] x) => (float[?, ?, ?, ?] y) { [n] y = Conv<group = 2>(x, w) }", (6, 2, 3, 3), {1: 0}),
        ("m (float[1, 4, 8] x) => (float[?, ?, ?] y) { [n] y = Conv(x, w) }", (6, 4, 3), {1: 0}),
        ("m (float[1, 4, 8, 8] x) => (float[?, ?, ?, ?] y) { [n] y = ConvTranspose(x, w) }", (4, 6, 3, 3), {1: 1}),
        (
            "m (float[1, 4, 8, 8] x) => (float[?, ?, ?, ?] y) { [n] y = ConvTranspose<group = 2>(x, w) }",
            (4, 3, 3, 3),
            {1: None},
        ),
    ],
)
def test_scales_of_weights_lie_along_output_channels(
    text: str, shape: tuple[int, ...], axes: dict[int, int | None]
) -> None:
    sites = sites_of(text, w=weight(*shape))
    assert sites.weights == {"n": axes}
    assert sites.activations == {"n": (1 - next(iter(axes)),)}
    assert sites.sources == {"x": "x"}
    assert sites.floats == {}


def test_product_of_two_activations() -> None:
    sites = sites_of("m (float[2, 3, 4] x, float[2, 4, 5] z) => (float[2, 3, 5] y) { [n] y = MatMul(x, z) }")
    assert sites.activations == {"n": (0, 1)}
    assert sites.weights == {}
    assert sites.sources == {"x": "x", "z": "z"}


@pytest.mark.parametrize(
    ("text", "constants", "reason"),
    [
        ("m (int32[2, 4] x, int32[4, 5] z) => (int32[2, 5] y) { [n] y = MatMul(x, z) }", {}, "not float tensors"),
        ("m () => (float[2, 5] y) { [n] y = MatMul(v, w) }", {"v": weight(2, 4), "w": weight(4, 5)}, "both inputs"),
        ("m (float[2, 4] x, float[4, 5] z) => (float[2, 5] y) { [n] y = Gemm(x, z) }", {}, "computed at run time"),
        (
            "m (float[1, 4, 8] x, float[6, 4, 3] z) => (float[1, 6, 6] y) { [n] y = Conv(x, z) }",
            {},
            "computed at run time",
        ),
        ("m (float[3, 4] x, float[4] z) => (float[3] y) { [n] y = MatMul(x, z) }", {}, "a product with a vector"),
        ("m (float[4] x, float[4, 3] z) => (float[3] y) { [n] y = MatMul(x, z) }", {}, "a product with a vector"),
        (
            "m (double[2, 4] x) => (double[2, 5] y) { [n] y = MatMul(x, w) }",
            {"w": weight(4, 5, dtype=np.float64)},
            "its weight is double",
        ),
        (
            "m (double[2, 4] x, double[4, 5] z) => (double[2, 5] y) { [n] y = MatMul(x, z) }",
            {},
            "its inputs are double",
        ),
        ("m (float[3, 4] x) => (float[3] y) { [n] y = MatMul(x, w) }", {"w": weight(4)}, "a vector or empty"),
        ("m (float[3, 4] x) => (float[3, 0] y) { [n] y = MatMul(x, w) }", {"w": weight(4, 0)}, "a vector or empty"),
        ("m (float[4, 3] x) => (float[2, 3] y) { [n] y = Gemm(w, x) }", {"w": weight(2, 4)}, "not the second input"),
        (
            "m (float[4, 3] x) => (float[3, 5] y) { [n] y = Gemm<transA = 1>(x, w) }",
            {"w": weight(4, 5)},
            "a transposed activation",
        ),
    ],
)
def test_near_misses_stay_float_with_their_reason(text: str, constants: dict[str, Any], reason: str) -> None:
    sites = sites_of(text, **constants)
    assert list(sites.floats) == ["n"]
    assert reason in sites.floats["n"]
    assert (sites.activations, sites.weights, sites.sources) == ({}, {}, {})


CONV = "m (float[1, 8, 8, 8] x) => (float[?, ?, ?, ?] y) { [n] y = Conv<group = 8>(x, w) }"


def test_what_the_placement_leaves_out() -> None:
    depthwise = weight(8, 1, 3, 3)
    assert "sums 9 products" in sites_of(CONV, Placement(min_reduction=10), w=depthwise).floats["n"]
    assert sites_of(CONV, Placement(min_reduction=9), w=depthwise).activations == {"n": (0,)}
    without = sites_of(CONV, Placement(weighted_ops=frozenset({"MatMul"})), w=depthwise)
    assert (without.activations, without.floats) == ({}, {})  # an operator that no one asked to quantize has no reason
    products = "m (float[2, 3] x, float[3, 4] z) => (float[2, 4] y) { [n] y = MatMul(x, z) }"
    assert "computed at run time" in sites_of(products, Placement(product_ops=frozenset())).floats["n"]


def test_excluded_nodes_and_other_domains() -> None:
    text = "m (float[2, 4] x) => (float[2, 4] y) { [a] b = MatMul(x, w) [n] y = MatMul(b, w) }"
    sites = sites_of(text, excluded=("a",), w=weight(4, 4))
    assert sites.floats == {"a": "excluded by the user"}
    assert list(sites.activations) == ["n"]
    model = build(text, w=weight(4, 4))
    model.graph[0].domain = "elsewhere"
    assert list(select_sites(model, ALL).activations) == ["n"]


def test_nodes_of_subgraphs_stay_float() -> None:
    sites = sites_of("""m (float[2, 4] x, bool c) => (float[2, 4] y) { [n] a = MatMul(x, w)
        y = If(c) <then_branch = t () => (float[2, 4] u) { [inner] u = MatMul(a, w) },
                   else_branch = e () => (float[2, 4] v) { v = Neg(a) }> }""", w=weight(4, 4))  # fmt: skip
    assert list(sites.activations) == ["n"]
    assert sites.floats == {"inner": "inside a subgraph, where calibration sees no values"}
    sites = sites_of("""m (float[3, 2, 2] x, float[2, 2] h) => (float[2, 2] last) {
        last = Scan <num_scan_inputs = 1, body = b (float[2, 2] s, float[2, 2] x_t) => (float[2, 2] n) {
          [product] n = MatMul(s, x_t) }> (h, x) }""")
    assert sites.floats == {"product": "a product of a recurrence, whose state would carry the error on"}


def test_ranges_come_from_before_layout_operators() -> None:
    sites = sites_of("""m (float[2, 12] x) => (float[?, ?, ?, ?] y, float[?, ?] k) {
        r = Relu(x) a = Reshape(r, s) b = Transpose<perm = [0, 2, 1]>(a) c = Unsqueeze(b, o) [n] y = MatMul(c, w)
        [other] k = MatMul(r, v) }""",
        s=np.array([2, 3, 4]), o=np.array([1]), w=weight(3, 5), v=weight(12, 2))  # fmt: skip
    assert sites.sources == {"c": "r", "r": "r"}


def test_members_of_a_concat_share_a_scale_where_they_and_it_are_quantized() -> None:
    text = """m (float[2, 4] x, float[2, 4] z) => (float[2, 5] y, float[2, 5] k) {
        a = Relu(x) b = Neg(z) c = Concat<axis = 1>(a, b) [n] y = MatMul(c, w) [other] k = MatMul(a, v) }"""
    constants: dict[str, Any] = {"w": weight(8, 5), "v": weight(4, 5)}
    assert sites_of(text, **constants).groups == [("c", "a")]
    assert sites_of(text, excluded=("n",), **constants).groups == []
    assert sites_of(text, excluded=("other",), **constants).groups == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_precision_is_taken(dtype: Any) -> None:
    name = {np.float16: "float16", np.float32: "float"}[dtype]
    sites = sites_of(f"m ({name}[2, 4] x) => ({name}[2, 5] y) {{ [n] y = MatMul(x, w) }}", w=weight(4, 5, dtype=dtype))
    assert list(sites.activations) == ["n"]


def test_initializer_that_the_user_may_feed_is_no_constant() -> None:
    model = build("m (float[2, 4] x, float[4, 5] w) => (float[2, 5] y) { [n] y = Gemm(x, w) }")
    value = model.graph.inputs[1]
    value.const_value = ir.tensor(weight(4, 5), name="w")
    model.graph.register_initializer(value)
    assert "computed at run time" in select_sites(model, ALL).floats["n"]


def test_conv_outputs_that_a_float_node_reads() -> None:
    text = """m (float[1, 8, 8, 8] x) => (float[1, 8, 8, 8] y, float[1, 8, 8, 8] z) {
        [a] c = Conv(x, w) r = Relu(c) [b] d = Conv(r, w) z = Tanh(d) [last] y = Conv(z, w) }"""
    constants: dict[str, Any] = {"w": weight(8, 8, 1, 1)}
    sites = sites_of(text, Placement(conv_outputs=True), **constants)
    # a: only b reads it, behind Relu, and quantizes it there; b: only Tanh reads it; last: the graph returns it
    assert sites.outputs == {"b": "d"}
    assert sites_of(text, Placement(), **constants).outputs == {}
    assert sites_of(text, Placement(conv_outputs=True), excluded=("b",), **constants).outputs == {"a": "c"}
