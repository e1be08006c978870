"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.evaluation.compare import compare
from qcompiler.options import CompileOptions
from qcompiler.plan import QuantPlan
from qcompiler.registry import find_target
from qcompiler.result import CompileResult
from qcompiler.scheme import INT8_ACTIVATION, TensorQuant
from qcompiler.session import Feeds, run_all

FLOAT_TEXT = """<ir_version: 8, opset_import: ["" : 17]>
m (float[N, 4] x) => (float[N, 3] y, int64[N] k)
  <float[4,3] w = {1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,1.0,2.0,3.0}, float s={0.1}, int8 z={0}> {
  [product] h = MatMul(x, w)
  [relu] y = Relu(h)
  [top] k = ArgMax<axis=1, keepdims=0>(y)
}"""
QDQ_TEXT = FLOAT_TEXT.replace(
    "[product] h = MatMul(x, w)",
    "xq = QuantizeLinear(x, s, z)\n  xd = DequantizeLinear(xq, s, z)\n  [product] h = MatMul(xd, w)",
)
MakeResult = Callable[..., CompileResult]


@pytest.fixture
def small_batches() -> list[Feeds]:
    """Four batches of two rows for the small model."""
    random = np.random.default_rng(0)
    return [{"x": random.standard_normal((2, 4)).astype(np.float32)} for _ in range(4)]


@pytest.fixture
def make_result(small_batches: list[Feeds]) -> MakeResult:
    """A result of a small compile made by hand: one MatMul with a quantized input."""

    def make(**changes: Any) -> CompileResult:
        reference, model = ir.from_onnx_text(FLOAT_TEXT), ir.from_onnx_text(QDQ_TEXT)
        plan = QuantPlan(
            tensors={"x": TensorQuant(INT8_ACTIVATION, np.asarray(0.1, np.float32))},
            nodes={"product": (0,)},
            floats={"relu": "Relu follows its input"},
        )
        fields: dict[str, Any] = {
            "source": "", "target": find_target("ort-cpu"), "options": CompileOptions(), "model": model, "host": None,
            "reference": reference, "plan": plan,
            "calibration": {"source": "npz", "samples": 8, "method": "mse", "fingerprint": "ab" * 32},
            "facts": {"model": {"integer_kernels": 1, "leftovers": []}},
            "verification": {"model": compare(reference, model, small_batches, layers=["h"])},
            "golden": tuple(zip(small_batches, run_all(reference, small_batches), strict=True)),
            "seconds": {"read": 0.1, "calibrate": 1.25},
        }  # fmt: skip
        return CompileResult(**{**fields, **changes})

    return make
