"""A constant factor in front of quantizers goes into their scales; the codes stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.backends.onnxruntime.fold_quantizer_scales import FoldQuantizerScales
from qcompiler.session import Session
from tests.building import build
from tests.equivalence import ops_of

CONSTANTS: dict[str, Any] = {"s": np.float32(0.05), "t": np.float32(0.02), "z": np.int8(-9), "c": np.float32(0.3),
             "many": np.full(6, 0.3, np.float32), "minus": np.float32(-1)}  # fmt: skip
HEAD = "m (float[2, 4, 6] x) => (int8 y) { "


@pytest.mark.parametrize(
    "body",
    [
        "a = Mul(x, c) y = QuantizeLinear(a, s, z)",
        "a = Mul(c, x) y = QuantizeLinear(a, s, z)",
        "a = Div(x, c) y = QuantizeLinear(a, s, z)",
        "a = Mul(x, c) b = Transpose<perm = [0, 2, 1]>(a) y = QuantizeLinear(b, s, z)",
        "a = Mul(x, c) q = QuantizeLinear(a, s, z) r = QuantizeLinear(a, t, z) y = Concat<axis = 0>(q, r)",
    ],
)
def test_codes_stay(body: str) -> None:
    source = build(HEAD + body + " }", **CONSTANTS)
    result = source.clone()
    assert FoldQuantizerScales().run(result).matched == ("a",)
    assert not {"Mul", "Div"} & set(ops_of(result))
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 4, 6)).astype(np.float32)}
    np.testing.assert_array_equal(Session(source).run(feeds)["y"], Session(result).run(feeds)["y"])
    assert not FoldQuantizerScales().run(result).modified


@pytest.mark.parametrize(
    "body",
    [
        "a = Mul(x, minus) y = QuantizeLinear(a, s, z)",
        "a = Mul(x, many) y = QuantizeLinear(a, s, z)",
        "a = Div(c, x) y = QuantizeLinear(a, s, z)",
        "a = Mul(x, c) b = Relu(a) q = QuantizeLinear(a, s, z) r = QuantizeLinear(b, s, z) y = Concat<axis = 0>(q, r)",
    ],
)
def test_what_is_no_change_of_scale_stays(body: str) -> None:
    assert not FoldQuantizerScales().run(build(HEAD + body + " }", **CONSTANTS)).modified
