"""What counts as an integer operand, and constants made from one: each once, each exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.backends.onnxruntime.operands import Lowering, Operand, operand_of
from tests.building import build

RANDOM = np.random.default_rng(0)
NUMBERS: dict[str, Any] = {
    "c": RANDOM.integers(-128, 128, (6, 4)).astype(np.int8), "u": np.full((6, 4), 7, np.uint8), "s": np.float32(0.5),
    "s4": np.ones(4, np.float32), "z": np.int8(0), "zu": np.uint8(128), "z4": np.zeros(4, np.int8),
    "mixed": np.arange(4).astype(np.int8), "i": np.ones((6, 4), np.int32), "zi": np.int32(0),
    "blocks": np.ones((2, 4), np.float32),
}  # fmt: skip


def operand(dequantize: str, inputs: str = "float[6, 4] x") -> Operand | None:
    model = build(f"m ({inputs}) => (float[6, 4] y) {{ d = {dequantize} y = Relu(d) }}", **NUMBERS)
    return operand_of(model.graph[-1].inputs[0])


@pytest.mark.parametrize(
    ("dequantize", "scales", "zero", "axis", "signed"),
    [
        ("DequantizeLinear(c, s, z)", 1, 0, 1, True),
        ("DequantizeLinear(c, s)", 1, 0, 1, True),
        ("DequantizeLinear<axis = 1>(c, s4, z4)", 4, 0, 1, True),
        ("DequantizeLinear<axis = -1>(c, s4, z4)", 4, 0, 1, True),
        ("DequantizeLinear<axis = -2>(c, s4, z4)", 4, 0, 0, True),
        ("DequantizeLinear(u, s, zu)", 1, 128, 1, False),
        ("DequantizeLinear(u, s)", 1, 0, 1, False),
    ],
)
def test_operands(dequantize: str, scales: int, zero: int, axis: int, signed: bool) -> None:
    found = operand(dequantize)
    assert found is not None
    assert (found.scale.size, found.zero, found.axis, found.signed) == (scales, zero, axis, signed)
    assert found.constant is not None


def test_codes_computed_at_run_time() -> None:
    found = operand("DequantizeLinear(q, s, z)", "int8[6, 4] q")
    assert found is not None
    assert found.constant is None


@pytest.mark.parametrize(
    ("dequantize", "inputs"),
    [
        ("Relu(x)", "float[6, 4] x"),
        ("DequantizeLinear(i, s, zi)", "float[6, 4] x"),
        ("DequantizeLinear<axis = 1>(c, s4, mixed)", "float[6, 4] x"),
        ("DequantizeLinear<axis = 0, block_size = 3>(c, blocks)", "float[6, 4] x"),
        ("DequantizeLinear(c, scale)", "float scale"),
        ("DequantizeLinear(c, s, zero)", "int8 zero"),
        ("Identity(x)", "float[6, 4] x"),
    ],
)
def test_what_is_none(dequantize: str, inputs: str) -> None:
    assert operand(dequantize, inputs) is None


def test_no_value_and_a_graph_input_are_none() -> None:
    model = build("m (float[6, 4] x) => (float[6, 4] y) { y = Relu(x) }")
    assert operand_of(None) is None
    assert operand_of(model.graph.inputs[0]) is None


def test_constants_are_exact_and_made_once() -> None:
    text = "m (float[6, 4] x) => (float[6, 4] y) { d = DequantizeLinear<axis = 1>(c, s4, z4) y = Add(x, d) }"
    model = build(text, **NUMBERS)
    lowering = Lowering(model)
    given = operand_of(model.graph[-1].inputs[1])
    assert given is not None
    unsigned, transposed = lowering.unsigned(given), lowering.transposed(given)
    assert unsigned.constant is not None
    np.testing.assert_array_equal(unsigned.constant.astype(int) - unsigned.zero, NUMBERS["c"].astype(int))
    assert (unsigned.zero, unsigned.signed) == (128, False)
    assert transposed.constant is not None
    np.testing.assert_array_equal(transposed.constant, NUMBERS["c"].T)
    assert transposed.axis == 0
    both = lowering.unsigned(transposed)
    assert both.constant is not None
    np.testing.assert_array_equal(both.constant.astype(int) - 128, NUMBERS["c"].T.astype(int))
    count = len(model.graph.initializers)
    assert lowering.unsigned(given).codes is unsigned.codes
    assert lowering.transposed(given).codes is transposed.codes
    assert lowering.unsigned(unsigned) is unsigned
    assert len(model.graph.initializers) == count
    assert lowering.zero_point(given) is lowering.zero_point(given)
    assert lowering.zero_point(given) is not lowering.zero_point(unsigned)
    shaped = lowering.zero_point(given, like_scale=True).const_value
    assert shaped is not None
    assert shaped.numpy().shape == (4,)
    original = model.graph.initializers["c"].const_value
    assert original is not None
    np.testing.assert_array_equal(original.numpy(), NUMBERS["c"])
