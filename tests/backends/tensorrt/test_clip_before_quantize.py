"""Clipped codes become clipped reals in front of the pair: the same codes, and pairs stay adjacent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.backends.tensorrt.clip_before_quantize import ClipBeforeQuantize
from tests.building import build
from tests.equivalence import ops_of
from tests.quantizing import outputs

X = np.random.default_rng(0).standard_normal((5, 13)).astype(np.float32) * np.float32(0.4)
X[0, :4] = [40, -40, 0.62, 0.63]
NUMBERS: dict[str, Any] = {
    "s": np.float32(0.02), "z": np.int8(0), "lo": np.int8(-31), "hi": np.int8(31),
    "s13": np.full(13, 0.02, np.float32), "z13": np.zeros(13, np.int8),
}  # fmt: skip


@pytest.mark.parametrize("scale", [0.02, 0.0713, 1e-4, 3.3, 1 / 3])
@pytest.mark.parametrize("bound", [7, 31])
def test_the_codes_are_the_same(scale: float, bound: int) -> None:
    numbers = NUMBERS | {"s": np.float32(scale), "lo": np.int8(-bound), "hi": np.int8(bound)}
    text = """m (float[5, 13] x) => (float[?, ?] y, int8[?, ?] c) {
        q = QuantizeLinear(x, s, z) c = Clip(q, lo, hi) y = DequantizeLinear(c, s, z) }"""
    before, after = build(text, **numbers), build(text.replace(", int8[?, ?] c)", ")"), **numbers)
    outcome = ClipBeforeQuantize().run(after)
    assert outcome.matched == ("q",)
    assert ops_of(after) == ["Clip", "QuantizeLinear", "DequantizeLinear"]
    assert not ClipBeforeQuantize().run(after).modified
    ties = (np.arange(-40, 40) * np.float32(scale / 2)).astype(np.float32)
    x = np.concatenate([X.reshape(-1) * np.float32(scale * 50), ties])[: 65 * 2].reshape(-1, 13)[:5]
    real, codes = outputs(before, {"x": x})
    assert np.abs(codes).max() == bound
    np.testing.assert_array_equal(outputs(after, {"x": x})[0], real)


@pytest.mark.parametrize(
    ("body", "results", "reason"),
    [
        (
            "q = QuantizeLinear<axis = 1>(x, s13, z13) c = Clip(q, lo, hi) y = DequantizeLinear<axis = 1>(c, s13, z13)",
            "float[?, ?] y", "scales or bounds that no Clip of the tensor has",
        ),
        ("q = QuantizeLinear(x, s, z) c = Clip(q, lo) y = DequantizeLinear(c, s, z)", "float[?, ?] y",
         "scales or bounds that no Clip of the tensor has"),
        ("q = QuantizeLinear(x, s, z) c = Clip(q, lo, hi) y = DequantizeLinear(c, s, z)", "float[?, ?] y, int8[?, ?] q",
         ""),
        ("c = Clip(x, s, s) q = QuantizeLinear(c, s, z) y = DequantizeLinear(q, s, z)", "float[?, ?] y", ""),
    ],
)  # fmt: skip
def test_near_misses_stay(body: str, results: str, reason: str) -> None:
    model = build(f"m (float[5, 13] x) => ({results}) {{ {body} }}", **NUMBERS)
    before = ops_of(model)
    outcome = ClipBeforeQuantize().run(model)
    assert not outcome.modified
    assert [skip.reason for skip in outcome.skipped] == ([reason] if reason else [])
    assert ops_of(model) == before
