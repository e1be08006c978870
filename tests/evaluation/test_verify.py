"""Any two models: pairing by name or position, and the first tensor that diverges."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.errors import UsageError
from qcompiler.evaluation.verify import DEFAULT_MIN_SQNR, verify_models

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
FEEDS = [{"x": np.arange(6, dtype=np.float32).reshape(2, 3) + 1}]
CHAIN = HEAD + (
    "m (float[N, 3] x) => (float[N, 3] y) <float f = {2.0}> "
    "{ a = Mul(x, f)\n b = Add(a, f)\n c = Mul(b, f)\n y = Relu(c) }"
)


def test_first_divergence_is_the_tensor_where_the_models_part() -> None:
    found = verify_models(ir.from_onnx_text(CHAIN), ir.from_onnx_text(CHAIN.replace("Add", "Sub")), FEEDS)
    assert found.first is not None
    assert found.first.name == "b"
    assert found.min_sqnr == DEFAULT_MIN_SQNR
    assert found.missed[0].startswith("output 'y' has SQNR")


def test_equal_models_diverge_nowhere() -> None:
    model = ir.from_onnx_text(CHAIN)
    found = verify_models(model, model.clone(), FEEDS)
    assert found.first is None
    assert found.missed == ()


def test_renamed_inputs_and_outputs_pair_by_position() -> None:
    first = ir.from_onnx_text(HEAD + "m (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }")
    second = ir.from_onnx_text(HEAD + "m (float[B, 3] images) => (float[B, 3] scores) { scores = Relu(images) }")
    found = verify_models(first, second, FEEDS)
    assert found.pairs == (("y", "scores"),)
    assert found.missed == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m (int64[N, 3] i) => (float[N, 3] y) { y = Cast<to=1>(i) }", "the input 'i' of the second model"),
        ("m (float[N, 3] x) => (float[1, N, 3] z) <int64[1] a = {0}> { z = Unsqueeze(x, a) }",
         "no output of the second model"),
    ],
)  # fmt: skip
def test_what_does_not_pair_is_a_usage_error(text: str, message: str) -> None:
    first = ir.from_onnx_text(HEAD + "m (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }")
    with pytest.raises(UsageError, match=message):
        verify_models(first, ir.from_onnx_text(HEAD + text), FEEDS)


def test_one_name_for_tensors_of_other_shapes_is_no_divergence() -> None:
    first = ir.from_onnx_text(HEAD + "m (float[2, 3] x) => (float[2, 3] y) { t = Transpose(x)\n y = Transpose(t) }")
    second = ir.from_onnx_text(HEAD + "m (float[2, 3] x) => (float[2, 3] y) { t = Relu(x)\n y = Relu(t) }")
    assert verify_models(first, second, FEEDS).first is None


def test_integer_outputs_must_be_equal_where_there_are_no_others() -> None:
    text = HEAD + "m (float[2, 3] x) => (int64[2] k) {{ k = {}<axis=1, keepdims=0>(x) }}"
    found = verify_models(ir.from_onnx_text(text.format("ArgMax")), ir.from_onnx_text(text.format("ArgMin")), FEEDS)
    assert found.missed == ("output 'k' agrees in 0.00% of its elements",)
