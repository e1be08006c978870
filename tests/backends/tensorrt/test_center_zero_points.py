"""Zero points go into an Add in front and the biases behind: the same codes, the same function."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.tensorrt.center_zero_points import CenterZeroPoints
from tests.equivalence import ops_of
from tests.quantizing import outputs, quantized, same

RANDOM = np.random.default_rng(2)
W: dict[str, Any] = {
    "w": RANDOM.standard_normal((8, 6)).astype(np.float32), "v": RANDOM.standard_normal((6, 8)).astype(np.float32),
    "k": RANDOM.standard_normal((6, 8, 3, 3)).astype(np.float32), "b": RANDOM.standard_normal(6).astype(np.float32),
    "q": RANDOM.standard_normal((6, 4, 2, 2)).astype(np.float32),
}  # fmt: skip
READERS = {
    "Conv": ("[1, 8, 5, 5]", "[n] y = Conv(g, k, b)"), "Conv, no bias": ("[1, 8, 5, 5]", "[n] y = Conv(g, k)"),
    "Conv, groups": ("[1, 8, 5, 5]", "[n] y = Conv<group = 2>(g, q, b)"), "Gemm": ("[3, 8]", "[n] y = Gemm(g, w, b)"),
    "Gemm, transposed": ("[3, 8]", "[n] y = Gemm<transB = 1>(g, v)"),
    "MatMul": ("[2, 3, 8]", "[n] h = MatMul(g, w) y = Add(h, b)"),
    "two": ("[3, 8]", "[n] h = Gemm(g, w, b) [o] i = Gemm(g, w, b) y = Add(h, i)"),
}  # fmt: skip


def pair(shape: str, body: str, zero: int = -100) -> tuple[ir.Model, Any]:
    dims = ", ".join("ABCD"[: shape.count(",") + 1])
    text = f"m (float{shape} x) => (float[{dims}] y) {{ g = Softplus(x) {body} }}"
    return quantized(text, zero_points={"g": zero}, **W)


@pytest.mark.parametrize("reader", READERS)
def test_the_function_stays_and_zero_points_go(reader: str) -> None:
    model, feed = pair(*READERS[reader])
    before = model.clone()
    assert nonzero(before) == 2
    outcome = CenterZeroPoints().run(model)
    assert len(outcome.matched) == 1
    assert outcome.skipped == ()
    assert nonzero(model) == 0
    assert ops_of(model).count("Add") == ops_of(before).count("Add") + 1
    same(model, before, feed, bound=1e-5)
    assert np.abs(outputs(before, feed)[0]).max() > 1e-3
    assert not CenterZeroPoints().run(model).modified


@pytest.mark.parametrize(("shape", "body"), [
    ("[1, 8, 5, 5]", "[n] y = Conv<pads = [1, 1, 1, 1]>(g, k, b)"),
    ("[3, 8]", "[n] y = MatMul(g, w)"),
    ("[8, 8]", "[n] y = MatMul(g, g)"),
    ("[3, 8]", "[n] h = Gemm(g, w, b) [o] i = MatMul(g, w) y = Add(h, i)"),
])  # fmt: skip
def test_near_misses_keep_their_zero_point(shape: str, body: str) -> None:
    model, _ = pair(shape, body)
    before = ops_of(model)
    outcome = CenterZeroPoints().run(model)
    assert not outcome.modified
    assert [item.reason.endswith("takes no offset") for item in outcome.skipped] == [True]
    assert ops_of(model) == before


def test_symmetric_pairs_are_none_of_its_business() -> None:
    model, _ = pair(*READERS["Gemm"], zero=0)
    assert CenterZeroPoints().run(model).skipped == ()


def nonzero(model: ir.Model) -> int:
    pairs = [node for node in model.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return sum(bool(node.inputs[2].const_value.numpy().any()) for node in pairs)  # type: ignore[union-attr]
