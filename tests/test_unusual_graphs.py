"""Unusual but valid graphs go through normalization unharmed and settle after one run."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from tests.equivalence import largest_error, normalized, ops_of, random_feeds

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
GRAPHS = {
    "constant-output": """m (float[2] x) => (float[2] y, float[2] z) {
      y = Neg(x) z = Constant<value_floats = [1.0, 2.0]>() }""",
    "input-is-output": "m (float[2] x) => (float[2] x, float[2] y) { y = Neg(x) }",
    "computed-constant-output": """m (float[2] x) => (float[2] y, float[2] z)
      <float[2] a = {1, 2}> { y = Neg(x) z = Add(a, a) }""",
    "string-constant": """m (float[2] x) => (float[2] y) {
      s = Constant<value_string = "ab">() t = Shape(s) y = Neg(x) }""",
    "constant-condition": """m (float[2] x) => (float[2] y) <bool c = {1}> {
      y = If<then_branch = a () => (float[2] t) { t = Neg(x) },
        else_branch = b () => (float[2] e) { e = Abs(x) }>(c) }""",
    "trip-count-computed": """m (float[N] x, int64 n) => (float[N] y) <bool c = {1}, int64 two = {2}> {
      k = Mul(n, two)
      y = Loop<body = b (int64 i, bool go, float[N] s) => (bool more, float[N] next) {
        more = Identity(go) next = Add(s, x) }>(k, c, x) }""",
    "empty-tensor": """m (float[0, 4] x) => (float[0, 4] y) <int64[2] t = {0, 4}> {
      a = Reshape<allowzero = 1>(x, t) y = Neg(a) }""",
    "equal-outputs": "m (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Relu(x) }",
    "only-identities": "m (float[2] x) => (float[2] y) { a = Identity(x) b = Identity(a) y = Identity(b) }",
    "computed-k": """m (float[N, 5] x) => (float[N, K] y, int64[N, K] i) <int64[1] k = {2}, int64[1] one = {1}> {
      kk = Add(k, one) y, i = TopK(x, kk) }""",
    "dynamic-range": """m (float[N, 5] x) => (int64[M] y) <int64 z = {0}, int64 o = {1}> {
      s = Shape(x) n = Gather(s, z) y = Range(z, n, o) }""",
    "optional-operands": "m (float[N, 5] x) => (float[N, 5] y) { a = Clip(x) y = Dropout(a) }",
    "second-output": """m (float[1, 1, 4, 4] x) => (float[1, 1, 2, 2] y, int64[1, 1, 2, 2] i) {
      y, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }""",
}


@pytest.mark.parametrize("opset", [19, 23])
@pytest.mark.parametrize("name", list(GRAPHS))
def test_unusual_graph(name: str, opset: int) -> None:
    source = ir.from_onnx_text(HEAD + GRAPHS[name])
    result = normalized(source, opset, canonical=True)
    assert [value.name for value in result.graph.outputs] == [value.name for value in source.graph.outputs]
    assert largest_error(source, result, random_feeds(source)) == 0.0
    assert ops_of(normalized(result, opset, canonical=True)) == ops_of(result)
