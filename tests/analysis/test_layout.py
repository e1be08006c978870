"""Channel and token axes as the readers of a tensor use them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.analysis.layout import Layout, layout_of
from tests.building import build
from tests.small_models import small_cnn, transformer_block


def layout(model: ir.Model, name: str, dims: int) -> Layout:
    values = {value.name: value for value in (*model.graph.inputs, *(v for node in model.graph for v in node.outputs))}
    return layout_of(values[name], dims, {"N"})


@pytest.mark.parametrize(
    ("name", "dims", "channel", "token"),
    [
        ("n", 3, 2, 1),  # read by weights: the axis they sum over
        ("q3", 4, 3, 2),  # first operand of a product
        ("k3", 4, 2, 3),  # second operand: keys, transposed
        ("v3", 4, 3, 2),  # second operand behind a Softmax: the sum runs over tokens
        ("p", 4, None, None),  # probabilities
        ("s0", 4, 3, 2),  # no reader tells: the last axis
    ],
)
def test_axes_of_a_transformer(name: str, dims: int, channel: int | None, token: int | None) -> None:
    assert layout(transformer_block(), name, dims) == Layout(channel, token)


def test_axes_of_a_cnn() -> None:
    assert layout(small_cnn(), "a0", 4) == Layout(1, None)
    assert layout(small_cnn(), "f", 2) == Layout(1, None)  # [batch, channels]: no tokens


def test_a_leading_axis_that_is_no_batch_holds_tokens() -> None:
    model = build("m (float[T, 4] x) => (float[T, 3] y) { y = MatMul(x, w) }", w=np.zeros((4, 3), np.float32))
    assert layout(model, "x", 2) == Layout(1, 0)


def test_a_vector_has_no_channels() -> None:
    model = build("m (float[T] x) => (float[T] y) { y = Relu(x) }")
    assert layout(model, "x", 1) == Layout(None, None)
