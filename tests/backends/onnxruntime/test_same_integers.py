"""One plan, four forms: Q/DQ, uint8 kernels, standard operators, int8 kernels; the integers behind are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.emitter import EmitContext
from qcompiler.registry import find_target, make_emitter
from qcompiler.session import Feeds
from tests.quantizing import outputs, quantized

RANDOM = np.random.default_rng(3)


def array(*shape: int, size: float = 1.0) -> np.ndarray[Any, Any]:
    return (RANDOM.standard_normal(shape) * size).astype(np.float32)


NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "product": ("m (float[9, 33] x) => (float[9, 21] y) { [n] y = MatMul(x, w) }", {"w": array(33, 21)}),
    "perceptron": (
        """m (float[9, 32] x) => (float[9, 10] y) {
        [a] h = Gemm<transB = 1>(x, w, b) r = Relu(h) [c] y = MatMul(r, v) }""",
        {"w": array(24, 32), "b": array(24), "v": array(24, 10)},
    ),
    "attention": (
        """m (float[2, 6, 16] x) => (float[2, 6, 16] y) {
        [q] q = MatMul(x, wq) [k] k = MatMul(x, wk) [v] v = MatMul(x, wv) t = Transpose<perm = [0, 2, 1]>(k)
        [s] s = MatMul(q, t) u = Mul(s, root) p = Softmax(u) [m] m = MatMul(p, v)
        [o] o = MatMul(m, wo) y = Add(o, x) }""",
        {name: array(16, 16, size=0.25) for name in ("wq", "wk", "wv", "wo")} | {"root": np.float32(0.25)},
    ),
    "convolutions": (
        """m (float[1, 4, 8, 8] x) => (float[1, 8, 4, 4] y) {
        [a] c = Conv<pads = [1, 1, 1, 1]>(x, k) r = Relu(c)
        [d] y = Conv<strides = [2, 2], pads = [1, 1, 1, 1], group = 2>(r, l, b) }""",
        {"k": array(6, 4, 3, 3), "l": array(8, 3, 3, 3), "b": array(8)},
    ),
}  # fmt: skip
FORMS = [("ort-cpu", False), ("ort-cpu", True), ("ort-cpu-arm64", False), ("ort-cpu-arm64", True)]


def emitted(model: ir.Model, feeds: Feeds, target: str, portable: bool) -> ir.Model:
    context = EmitContext(model, [feeds], portable=portable)
    return make_emitter(find_target(target)).legalize(model.clone(), context).model


@pytest.mark.parametrize("clip", [1.0, 0.4])
@pytest.mark.parametrize("net", NETS)
def test_all_forms_agree(net: str, clip: float) -> None:
    text, constants = NETS[net]
    model, feeds = quantized(text, clip=clip, **constants)
    wanted = outputs(model, feeds)[0]
    for target, portable in FORMS:
        found = emitted(model, feeds, target, portable)
        # Codes between layers come from float32 sums rounded in another order: where one lands on a tie it moves by a
        # step, and a step is at least 1/127 of a tensor's largest magnitude. So: nearly all equal, none far off.
        difference = np.abs(outputs(found, feeds)[0] - wanted) / np.abs(wanted).max()
        single = net == "product"
        assert difference.max() <= (1e-6 if single else 0.03), (target, portable)
        assert np.median(difference) <= (1e-6 if single else 2e-3), (target, portable)


@pytest.mark.parametrize("target", ["ort-cpu", "ort-cpu-arm64"])
def test_codes_of_inner_tensors_are_identical(target: str) -> None:
    """The integers of the first layer, which no rounding precedes, are compared as integers."""
    text, constants = NETS["product"]
    model, feeds = quantized(text, **constants)
    found = emitted(model, feeds, target, True)
    integer = next(node for node in found.graph if node.op_type == "MatMulInteger")
    codes, zero = (
        model_value.name for model_value in (integer.inputs[0], integer.inputs[2]) if model_value is not None
    )
    assert codes is not None and zero is not None
    found.graph.outputs.append(integer.outputs[0])
    sums = outputs(found, feeds)[1]
    qdq = {str(node.name): node for node in model.graph}
    quantize = next(node for node in model.graph if node.op_type == "QuantizeLinear")
    dequantize = qdq["n"].inputs[1].producer()  # type: ignore[union-attr]
    assert dequantize is not None
    weight = dequantize.inputs[0].const_value.numpy()  # type: ignore[union-attr]
    scale = quantize.inputs[1].const_value.numpy()  # type: ignore[union-attr]
    x = np.clip(np.rint(feeds["x"] / scale), -127, 127).astype(np.int64)
    np.testing.assert_array_equal(sums, x @ weight.astype(np.int64))
