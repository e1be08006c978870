"""Unusual but valid graphs go through normalization unharmed and settle after one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.errors import CalibrationError, UnsupportedError
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


def save(tmp_path: Path, text: str) -> Path:
    ir.save(ir.from_onnx_text(HEAD + text), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_equal_node_names_are_renamed(tmp_path: Path) -> None:
    model = ir.from_onnx_text(HEAD + "m (float[4,2] x) => (float[4,2] y) { a = Neg(x) y = Abs(a) }")
    for node in model.graph:
        node.name = "n"
    ir.save(model, tmp_path / "m.onnx")
    result = qcompiler.compile(tmp_path / "m.onnx", target="ort-cpu")
    assert len({node.name for node in result.model.graph}) == 2


def test_data_that_the_model_refuses_is_a_fault_of_the_data(tmp_path: Path) -> None:
    path = save(tmp_path, "m (float[N,2] x, float[M,2] z) => (float[K,2] y) { y = Add(x, z) }")
    with pytest.raises(CalibrationError, match=r"x \[3, 2\]"):
        qcompiler.compile(path, target="ort-cpu", calibration=[{"x": np.ones((3, 2), "f"), "z": np.ones((2, 2), "f")}])


def test_sequence_output_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path, "m (float[4] x) => (seq(float[1]) y) { y = SplitToSequence(x) }")
    with pytest.raises(UnsupportedError, match="'y' is a sequence"):
        qcompiler.compile(path, target="ort-cpu")


def test_names_that_passes_would_choose(tmp_path: Path) -> None:
    model = ir.from_onnx_text(
        HEAD + """m (float[N,4] x) => (float[N,4] x_zero_point) {
          x_quantized = MatMul(x, x_scale) x_dequantized = Relu(x_quantized)
          x_zero_point = MatMul(x_dequantized, x_quantized_1) }"""
    )
    for name in ("x_scale", "x_quantized_1"):
        value = next(item for node in model.graph for item in node.inputs if item is not None and item.name == name)
        value.const_value = ir.tensor(np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32), name=name)
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape((4, 4))
        model.graph.register_initializer(value)
    result = qcompiler.compile(model, target="ort-cpu", calibration=[random_feeds(model)])
    assert len(result.plan.nodes) == 2 and result.verification["model"].outputs[0].sqnr > 20


def test_weight_with_a_default_is_a_constant(tmp_path: Path) -> None:
    model = ir.from_onnx_text(
        HEAD + """m (float[N,4] x, float[4,2] w) => (float[N,2] y) <float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}> {
          y = MatMul(x, w) }"""
    )
    result = qcompiler.compile(model, target="ort-cpu", calibration=[{"x": np.ones((4, 4), np.float32)}])
    assert [value.name for value in result.model.graph.inputs] == ["x"] and len(result.plan.nodes) == 1
    assert any(finding.code == "QC403" for finding in result.diagnostics)


def test_emitted_model_and_host_agree_to_rounding() -> None:
    """Full-range uint8 and int8 codes: kernels that add two products in 16 bits would saturate on them."""
    model = ir.from_onnx_text(HEAD + "m (float[N,64] x) => (float[N,32] y) { a = MatMul(x, w) y = Relu(a) }")
    value = next(item for node in model.graph for item in node.inputs if item is not None and item.name == "w")
    value.const_value = ir.tensor(np.full((64, 32), 0.5, np.float32), name="w")
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape((64, 32))
    model.graph.register_initializer(value)
    x = np.linspace(0.9, 1, 8 * 64, dtype=np.float32).reshape(8, 64)
    result = qcompiler.compile(model, target="orin", carrier="fp32", calibration=[{"x": x}], build_check="off")
    assert result.verification["host_against_model"].outputs[0].sqnr > 100  # float32 rounding: 2^-24 is 144 dB
