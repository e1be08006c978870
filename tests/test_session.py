"""Sessions over models in memory: what is fed, what comes back, where weights go."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qcompiler.errors import ModelError
from qcompiler.session import Session, run_all, serialize_with_weights, with_outputs
from tests.building import build

X = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
BIG = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)
SMALL = np.arange(64, dtype=np.float32)


def affine() -> ir.Model:
    text = "m (float[N, 64] x) => (float[N, 64] y) { a = MatMul(x, w) b = Add(a, s) y = Relu(b) }"
    return build(text, w=BIG, s=SMALL)


def test_large_weights_never_pass_through_protobuf() -> None:
    proto, kept = serialize_with_weights(affine(), ort.SessionOptions())
    assert list(kept) == ["w"]
    assert len(proto) < BIG.nbytes
    np.testing.assert_array_equal(kept["w"], BIG)
    np.testing.assert_allclose(Session(affine()).run({"x": X})["y"], np.maximum(X @ BIG + SMALL, 0), atol=1e-4)


@pytest.mark.parametrize("dtype", [ir.DataType.INT4, ir.DataType.UINT4])
def test_types_below_a_byte_stay_in_the_graph(dtype: ir.DataType) -> None:
    codes = np.random.default_rng(2).integers(0, 7, (128, 128)).astype(dtype.numpy())
    model = build("m (float[N, 128] x) => (float[N, 128] y) { w = DequantizeLinear(q, s) y = MatMul(x, w) }",
                  q=np.zeros((128, 128), np.int8), s=np.float32(0.5))  # fmt: skip
    value = model.graph.initializers["q"]
    value.const_value, value.type = ir.tensor(codes, dtype=dtype, name="q"), ir.TensorType(dtype)
    x = np.ones((1, 128), np.float32)
    assert serialize_with_weights(model.clone(), ort.SessionOptions())[1] == {}
    expected = (x @ codes.astype(np.float32)) * 0.5
    np.testing.assert_allclose(Session(model).run({"x": x})["y"], expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64, np.int8])
def test_large_constants_of_other_types(dtype: Any) -> None:
    table = np.arange(8192).reshape(1024, 8).astype(dtype)
    name = ir.DataType.from_numpy(np.dtype(dtype)).name.lower()
    model = build(f"m (int64[N] i) => ({name}[N, 8] y) {{ y = Gather(t, i) }}", t=table)
    assert list(serialize_with_weights(model.clone(), ort.SessionOptions())[1]) == ["t"]
    np.testing.assert_array_equal(Session(model).run({"i": np.array([3, 1000])})["y"], table[[3, 1000]])


@pytest.mark.parametrize("default", [np.full(4, 2, np.float32), np.full(4096, 2, np.float32)], ids=["small", "large"])
def test_an_input_with_a_default_may_be_left_out_or_fed(default: np.ndarray[Any, Any]) -> None:
    size = default.size
    model = build(f"m (float[{size}] x, float[{size}] d) => (float[{size}] y) {{ y = Mul(x, d) }}")
    value = model.graph.inputs[1]
    value.const_value = ir.tensor(default, name="d")
    model.graph.register_initializer(value)
    session, x = Session(model), np.ones(size, np.float32)
    assert session.input_names == ("x",)
    np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)
    np.testing.assert_array_equal(session.run({"x": x, "d": 3 * x})["y"], 3 * x)


def test_inner_values_come_back_besides_the_outputs() -> None:
    model = affine()
    session = Session(model, ["a", "y", "nowhere"], optimize=False)
    assert session.output_names == ("y", "a")
    np.testing.assert_allclose(session.run({"x": X})["a"], X @ BIG, atol=1e-4)
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert [value.name for value in with_outputs(model, ()).graph.outputs] == ["y"]


def test_model_is_left_as_it_was() -> None:
    model = affine()
    text = ir.to_onnx_text(model)
    tensor = model.graph.initializers["w"].const_value
    run_all(model, [{"x": X}], ["b"])
    assert ir.to_onnx_text(model) == text
    assert model.graph.initializers["w"].const_value is tensor


def test_what_onnxruntime_refuses_is_a_model_error_of_one_line() -> None:
    model = affine()
    model.graph[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="onnxruntime refuses the model") as caught:
        Session(model)
    assert "\n" not in str(caught.value)


def test_biases_of_float16_graphs_are_not_quantized_by_onnxruntime() -> None:
    """bias / (sx * sw) = 1e5 does not fit float16: onnxruntime's own rewrite would clip it to -32768."""
    text = """m (float16[1, 1, 2, 2] x) => (float16[1, 1, 2, 2] y) {
        xq = QuantizeLinear(x, sx, z)  xd = DequantizeLinear(xq, sx, z)  wd = DequantizeLinear(w, sw, z)
        c = Conv(xd, wd, b)  yq = QuantizeLinear(c, sy, z)  y = DequantizeLinear(yq, sy, z) }"""
    model = build(text, sx=np.float16(0.01), sw=np.float16(0.001), sy=np.float16(0.01), b=np.ones(1, np.float16),
                  z=np.int8(0), w=np.full((1, 1, 1, 1), 100, np.int8))  # fmt: skip
    y = Session(model).run({"x": np.zeros((1, 1, 2, 2), np.float16)})["y"]
    np.testing.assert_allclose(y, 1, atol=0.02)
