"""Operations, bytes and fused regions of graphs that a reader can count by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.bench import node_shapes
from qcompiler.bench.node_cost import operations
from qcompiler.bench.node_shapes import profile_nodes
from qcompiler.bench.regions import Precision, Region, fused_regions

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
BLOCK = f"""{HEAD}
m (float[N, 4] x) => (float[N, 8] y)
  <float[4,8] w = {{{",".join(["0.5"] * 32)}}}, float[8] b = {{1,2,3,4,5,6,7,8}}> {{
  [product] h = MatMul(x, w)
  [bias] i = Add(h, b)
  [gate] s = Sigmoid(i)
  [swish] y = Mul(i, s)
}}"""


def regions(text: str, feeds: dict[str, np.ndarray], precision: Precision = "fp16") -> list[Region]:
    model = ir.from_onnx_text(text)
    return fused_regions(model, profile_nodes(model, feeds), precision)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("body", "feeds", "count"),
    [
        ("(float[N, K] a, float[K, M] b) => (float[N, M] y) { y = MatMul(a, b) }", (ones(3, 4), ones(4, 5)), 2 * 60),
        ("(float[B, N, K] a, float[K, M] b) => (float[B, N, M] y) { y = MatMul(a, b) }",
         (ones(2, 3, 4), ones(4, 5)), 2 * 120),
        ("(float[K, N] a, float[M, K] b) => (float[N, M] y) { y = Gemm<transA=1, transB=1>(a, b) }",
         (ones(4, 3), ones(5, 4)), 2 * 60),
        ("(float[1, 4, 6, 6] a, float[8, 2, 3, 3] b) => (float[1, 8, 4, 4] y) { y = Conv<group=2>(a, b) }",
         (ones(1, 4, 6, 6), ones(8, 2, 3, 3)), 2 * 8 * 16 * 2 * 9),
        ("(float[1, 4, 5] a, float[4, 2, 3] b) => (float[1, 2, 7] y) { y = ConvTranspose(a, b) }",
         (ones(1, 4, 5), ones(4, 2, 3)), 2 * 20 * 6),
        ("(float[B, I, K] a, float[B, K, J] b) => (float[B, I, J] y) { y = Einsum<equation=\"bik,bkj->bij\">(a, b) }",
         (ones(1, 3, 4), ones(1, 4, 5)), 2 * 60),
        ("(float[3, 4] a, float[3, 4] b) => (float[3, 4] y) { y = Add(a, b) }", (ones(3, 4), ones(3, 4)), 12),
        ("(float[3, 4] a, float[3, 4] b) => (float[3, 4] y) { y = Identity(a) }", (ones(3, 4), ones(3, 4)), 0),
    ],
)  # fmt: skip
def test_operations(body: str, feeds: tuple[np.ndarray, np.ndarray], count: int) -> None:
    model = ir.from_onnx_text(f"{HEAD} m {body}")
    runs = profile_nodes(model, {"a": feeds[0], "b": feeds[1]})
    assert operations(model.graph[0], runs[0]) == pytest.approx(count)


def test_weights_have_shapes_though_onnxruntime_packs_them() -> None:
    runs = profile_nodes(ir.from_onnx_text(BLOCK), {"x": ones(3, 4)}, runs=2)
    assert runs[0].inputs == (("float", (3, 4)), ("float", (4, 8)))
    assert runs[0].outputs == (("float", (3, 8)),)
    assert runs[0].seconds >= 0
    assert math.isnan(profile_nodes(ir.from_onnx_text(BLOCK), {"x": ones(3, 4)})[0].seconds)


def test_a_large_profile_is_cut_to_fewer_whole_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    events = node_shapes._events

    def counted(model: ir.Model, feeds: dict[str, np.ndarray], runs: int, *, prepack: bool) -> dict[str, list[Any]]:
        asked.append(runs)
        return events(model, feeds, runs, prepack=prepack)

    monkeypatch.setattr(node_shapes, "_events", counted)
    monkeypatch.setattr(node_shapes, "_MOST_EVENTS", 20)
    runs = profile_nodes(ir.from_onnx_text(BLOCK), {"x": ones(3, 4)}, runs=50)
    assert asked == [1, 5]  # four nodes a run
    assert all(run.calls == 1 and run.seconds >= 0 for run in runs.values())


def test_elementwise_nodes_join_the_product_before_them() -> None:
    (found,) = regions(BLOCK, {"x": ones(3, 4)})
    assert (found.name, found.op, found.nodes) == ("product", "MatMul", [0, 1, 2, 3])
    assert found.matrix == 2 * 3 * 4 * 8
    assert found.vector == 24 + 6 * 24 + 24
    assert found.bytes == 2 * (3 * 4 + 4 * 8 + 8 + 3 * 8)
    assert not found.integer


def test_without_pairs_int8_is_supposed_for_constant_weights() -> None:
    (found,) = regions(BLOCK, {"x": ones(3, 4)}, "int8")
    assert found.integer
    assert found.bytes == (3 * 4 + 4 * 8) + 2 * (8 + 3 * 8)


QDQ = f"""{HEAD}
m (float[N, 4] x) => (float[N, 4] y, float[N, 4] r)
  <int8[4,4] w = {{{",".join(["1"] * 16)}}}, float s = {{0.1}}, int8 z = {{0}}> {{
  [norm] n = Softmax(x)
  [q] c = QuantizeLinear(n, s, z)
  [d] f = DequantizeLinear(c, s, z)
  [dw] v = DequantizeLinear(w, s, z)
  [product] p = MatMul(f, v)
  [residual] y = Add(p, n)
  [other] r = Relu(n)
}}"""


def test_codes_cross_between_regions_in_int8() -> None:
    norm, product = regions(QDQ, {"x": ones(3, 4)}, "int8")
    assert norm.nodes == [0, 1, 6]
    assert norm.bytes == 2 * 12 + 2 * 12 + 12 + 2 + 1 + 2 * 12  # x, n for the residual, its codes, scale, zero point, r
    assert product.nodes == [4, 5]
    assert product.integer
    assert product.bytes == 12 + 16 + 2 * 12 + 2 * 12  # codes, weights, residual, y


def test_pairs_are_passed_over_in_fp16() -> None:
    norm, product = regions(QDQ, {"x": ones(3, 4)})
    assert norm.nodes == [0, 6]
    assert norm.bytes == 2 * 36
    assert not product.integer
    assert product.bytes == 2 * (12 + 16 + 12)  # n is read once, for the product and the residual


def test_what_follows_from_shapes_and_constants_is_no_kernel() -> None:
    text = f"""{HEAD}
    m (float[N, 4] x) => (float[N, 2, 2] y)
      <float[4, 4] w = {{{",".join(["1"] * 16)}}}, int64[1] zero = {{0}}, int64[2] two = {{2, 2}}> {{
      t = Transpose(w)
      p = MatMul(x, t)
      s = Shape(p)
      rows = Gather(s, zero)
      shape = Concat<axis=0>(rows, two)
      y = Reshape(p, shape)
    }}"""
    (found,) = regions(text, {"x": ones(3, 4)})
    assert found.nodes == [1]
    assert found.bytes == 2 * (12 + 16 + 12)


def test_no_region_waits_for_itself() -> None:
    """The residual reads the first product's bias; it may join the second product only."""
    text = f"""{HEAD}
    m (float[N, 4] x) => (float[N, 4] y) <float[4, 4] w = {{{",".join(["1"] * 16)}}}, float[4] b = {{1, 2, 3, 4}}> {{
      p = MatMul(x, w)
      i = Add(p, b)
      q = MatMul(i, w)
      n = Softmax(q)
      y = Add(i, n)
    }}"""
    first, second, norm = regions(text, {"x": ones(3, 4)})
    assert (first.nodes, second.nodes, norm.nodes) == ([0, 1], [2], [3, 4])


def test_a_gather_reads_what_it_takes_and_a_body_counts_its_calls() -> None:
    table = f"""{HEAD}
    m (int64[N] i) => (float[N, 2] y) <float[100, 2] w = {{{",".join(["1"] * 200)}}}> {{ y = Gather(w, i) }}"""
    (found,) = regions(table, {"i": np.zeros(3, np.int64)})
    assert found.bytes == 2 * 6 + 8 * 3 + 2 * 6
    scan = f"""{HEAD}
    m (float[2] h, float[T, 2] x) => (float[2] last, float[T, 2] y) {{
      last, y = Scan<num_scan_inputs=1, body = b (float[2] s, float[2] e) => (float[2] t, float[2] o) {{
        t = Add(s, e)
        o = Softmax(t)
      }}>(h, x)
    }}"""
    found_all = regions(scan, {"h": ones(2), "x": ones(5, 2)})
    assert [(item.op, item.calls) for item in found_all] == [("Add", 5), ("Softmax", 5)]
    assert found_all[0].vector == 10
