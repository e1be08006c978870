"""Counting what really runs: leftovers are found where onnxruntime fuses nothing, and absent where we lowered."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.kernels import count_kernels
from qcompiler.emitter import EmitContext
from qcompiler.registry import find_target, make_emitter
from tests.building import build
from tests.quantizing import quantized

RANDOM = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(np.float32)


def unfused() -> ir.Model:
    """A MatMul that reads one dequantized operand only: onnxruntime has no kernel for it."""
    return build("""m (float[8, 16] x) => (float[8, 16] y) { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)
        t = Tanh(d) [left] h = MatMul(d, w) y = Mul(h, t) }""",
        s=np.float32(0.02), z=np.int8(0), w=array(16, 16))  # fmt: skip


def test_an_unfused_pair_is_a_leftover() -> None:
    facts = count_kernels(unfused())
    assert facts["leftovers"] == ["left"]
    assert facts["float_kernels"] == 1
    assert facts["integer_kernels"] == 0


def test_float_products_are_no_leftovers() -> None:
    model = build("m (float[8, 16] x) => (float[8, 16] y) { h = MatMul(x, w) y = Relu(h) }", w=array(16, 16))
    assert count_kernels(model) == {"integer_kernels": 0, "float_kernels": 1, "leftovers": []}


def test_leftovers_inside_a_subgraph() -> None:
    model = build("""m (float[8, 16] x, bool c) => (float[8, 16] y) { q = QuantizeLinear(x, s, z)
        y = If(c) <then_branch = t () => (float[8, 16] u) { d = DequantizeLinear(q, s, z) [inner] u = MatMul(d, w) },
                   else_branch = e () => (float[8, 16] v) { v = Neg(x) }> }""",
        s=np.float32(0.02), z=np.int8(0), w=array(16, 16))  # fmt: skip
    assert count_kernels(model)["leftovers"] == ["inner"]


NET = """m (float[1, 4, 8, 8] x) => (float[1, 36, 10] y) { [conv] c = Conv(x, k, b) [relu] r = Relu(c)
    f = Reshape(r, shape) [up] u = MatMul(f, w) [bias] a = Add(u, e) g = Tanh(a) t = Transpose<perm = [0, 2, 1]>(g)
    [scores] s = MatMul(g, t) p = Softmax(s) [mix] m = MatMul(p, g) [head] y = MatMul(m, v) }"""
CONSTANTS: dict[str, Any] = {
    "k": array(8, 4, 3, 3), "b": array(8), "shape": np.array([1, 36, 8]), "w": array(8, 16), "e": array(16),
    "v": array(16, 10),
}  # fmt: skip


def test_a_legalized_graph_has_none() -> None:
    for name in ("ort-cpu", "ort-cpu-arm64"):
        for portable in (False, True):
            model, feeds = quantized(NET, **CONSTANTS)
            source = model.clone()
            emitted = make_emitter(find_target(name)).legalize(model, EmitContext(source, [feeds], portable=portable))
            assert emitted.facts["leftovers"] == []
            assert emitted.facts["integer_kernels"] >= 5
            assert [item.code for item in emitted.diagnostics if item.code == "QC601"] == []


def test_leftovers_are_reported_and_linted() -> None:
    emitter = make_emitter(find_target("ort-cpu"))
    emitted = emitter.legalize(unfused(), EmitContext(unfused()))
    assert [(item.code, item.where) for item in emitted.diagnostics] == [("QC601", "left")]
    assert [(item.code, item.where) for item in emitter.lint(unfused())] == [("QC601", "left")]


def test_large_weights_and_the_model_itself() -> None:
    model = build("m (float[8, 512] x) => (float[8, 512] y) { [n] y = MatMul(x, w) }", w=array(512, 512))
    text = ir.to_onnx_text(model)
    assert count_kernels(model)["float_kernels"] == 1
    assert ir.to_onnx_text(model) == text
