"""int8 codes at zero point 0 to uint8 codes at 128: the same reals, bit for bit, wherever the codes go."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.unsigned_activations import UnsignedActivations
from tests.building import build
from tests.quantizing import outputs

X = np.concatenate([np.linspace(-3, 3, 61), [100.0, -2.54, 0.0, 1e-9]]).astype(np.float32).reshape(5, 13)
NUMBERS: dict[str, Any] = {
    "s": np.float32(0.02), "z": np.int8(0), "s13": np.linspace(0.01, 0.05, 13).astype(np.float32),
    "z13": np.zeros(13, np.int8), "five": np.int8(5), "flat": np.array([65]), "i": np.array([2, 0]),
    "lo": np.int8(-31), "hi": np.int8(31),
}  # fmt: skip


def model_of(body: str, results: str = "float[?, ?] y", inputs: str = "") -> ir.Model:
    return build(f"m (float[5, 13] x{inputs}) => ({results}) {{ {body} }}", **NUMBERS)


@pytest.mark.parametrize(
    ("body", "results"),
    [
        ("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", "float[?, ?] y"),
        ("q = QuantizeLinear(x, s, five) y = DequantizeLinear(q, s, five)", "float[?, ?] y"),
        ("q = QuantizeLinear<axis = 1>(x, s13, z13) y = DequantizeLinear<axis = 1>(q, s13, z13)", "float[?, ?] y"),
        ("q = QuantizeLinear(x, s, z) t = Transpose(q) y = DequantizeLinear(t, s, z)", "float[?, ?] y"),
        ("q = QuantizeLinear(x, s, z) t = Reshape(q, flat) y = DequantizeLinear(t, s, z)", "float[?] y"),
        ("q = QuantizeLinear(x, s, z) t = Gather<axis = 1>(q, i) y = DequantizeLinear(t, s, z)", "float[?, ?] y"),
        ("q = QuantizeLinear(x, s, z) c = Clip(q, lo, hi) y = DequantizeLinear(c, s, z)", "float[?, ?] y"),
        (
            "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) t = Identity(q) u = DequantizeLinear(t, s, z)",
            "float[?, ?] y, float[?, ?] u",
        ),
    ],
)
def test_the_reals_are_the_same(body: str, results: str) -> None:
    before, model = model_of(body, results), model_of(body, results)
    outcome = UnsignedActivations().run(model)
    assert outcome.matched == ("q",)
    for node in model.graph:
        for value in node.outputs:
            assert value.dtype != ir.DataType.INT8
    feeds = {"x": np.clip(X, -127 * 0.02, 127 * 0.02)}
    if "s13" in body:
        feeds = {"x": np.clip(X, -1.27, 1.27)}
    for one, other in zip(outputs(model, feeds), outputs(before, feeds), strict=True):
        np.testing.assert_array_equal(one, other)
    again = UnsignedActivations().run(model)
    assert (again.modified, again.skipped) == (False, ())


def test_saturation_is_the_container_s() -> None:
    body = "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)"
    before, model = model_of(body), model_of(body)
    UnsignedActivations().run(model)
    np.testing.assert_array_equal(outputs(model, {"x": 100 * X})[0], outputs(before, {"x": 100 * X})[0])


@pytest.mark.parametrize(
    ("body", "results", "inputs", "reason"),
    [
        (
            "q = QuantizeLinear(x, s, zero) y = DequantizeLinear(q, s, zero)",
            "float[?, ?] y",
            ", int8 zero",
            "zero point",
        ),
        (
            "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
            "float[?, ?] y, int8[?, ?] q",
            "",
            "leave the graph",
        ),
        (
            "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) c = Cast<to = 6>(q)",
            "float[?, ?] y, int32[?, ?] c",
            "",
            "other than Q/DQ",
        ),
        (
            "q = QuantizeLinear(x, s, z) t = Transpose(q) y = DequantizeLinear(t, s, z) c = Abs(t)",
            "float[?, ?] y, int8[?, ?] c",
            "",
            "other than Q/DQ",
        ),
        ("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s)", "float[?, ?] y", "", "other than Q/DQ"),
    ],
)  # fmt: skip
def test_near_misses_stay_int8_with_their_reason(body: str, results: str, inputs: str, reason: str) -> None:
    model = model_of(body, results, inputs)
    text = ir.to_onnx_text(model)
    outcome = UnsignedActivations().run(model)
    assert not outcome.modified
    assert [skip.where for skip in outcome.skipped] == ["q"]
    assert reason in outcome.skipped[0].reason
    assert ir.to_onnx_text(model) == text


def test_weights_and_unsigned_codes_are_left() -> None:
    model = build("""m (float[4, 4] x) => (float[4, 4] y, float[4, 4] u) { v = DequantizeLinear(w, s, z)
        q = QuantizeLinear(x, s, o) d = DequantizeLinear(q, s, o) y = MatMul(d, v) u = Identity(x) }""",
        w=np.ones((4, 4), np.int8), s=np.float32(0.1), z=np.int8(0), o=np.uint8(128))  # fmt: skip
    assert not UnsignedActivations().run(model).modified


def test_a_clone_keeps_its_types() -> None:
    model = model_of("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)")
    clone = model.clone()
    UnsignedActivations().run(model)
    assert clone.graph[0].outputs[0].dtype == ir.DataType.INT8


def test_codes_read_inside_a_subgraph_stay() -> None:
    model = model_of("""q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z)
        y = If(c) <then_branch = t () => (float[?, ?] u) { u = DequantizeLinear(q, s, z) },
                   else_branch = e () => (float[?, ?] v) { v = Neg(a) }>""", inputs=", bool c")  # fmt: skip
    before = model.clone()
    UnsignedActivations().run(model)
    for condition in (True, False):
        feeds = {"x": X, "c": np.array(condition)}
        np.testing.assert_array_equal(outputs(model, feeds)[0], outputs(before, feeds)[0])
