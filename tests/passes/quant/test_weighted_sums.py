"""Layers as rows @ matrix: the runtime's own output, pairs as kernels sum them, and why others have no such form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.numerics import unfolded
from qcompiler.passes.quant.weighted_sums import WeightedSum, weighted_sum
from qcompiler.plan import QuantPlan
from qcompiler.scheme import INT8_ACTIVATION, PerAxis, QuantScheme, TensorQuant
from qcompiler.session import run_all
from tests.building import build, node_named

RANDOM = np.random.default_rng(4)


def quant(axis: int, channels: int) -> TensorQuant:
    return TensorQuant(QuantScheme(granularity=PerAxis(axis)), np.full(channels, 0.5, np.float32))


def layer_of(body: str, shape: tuple[int, ...], axis: int, size: str = "float[N, 6]") -> tuple[Any, Any]:
    weight = RANDOM.standard_normal(shape).astype(np.float32)
    model = build(f"m ({size} x) => (float y) {{ [n] y = {body} }}", w=weight)
    plan = QuantPlan(weights={"n": {1: quant(axis, shape[axis])}}, nodes={"n": (0,)})
    return model, weighted_sum(node_named(model, "n"), plan, 4096)


@pytest.mark.parametrize(
    ("body", "shape", "axis", "given"),
    [
        ("MatMul(x, w)", (6, 5), 1, (3, 4, 6)),
        ("Gemm(x, w)", (6, 5), 1, (7, 6)),
        ("Gemm <transB = 1> (x, w)", (5, 6), 0, (7, 6)),
        ("Conv (x, w)", (5, 6, 1, 1), 0, (2, 6, 4, 3)),
        ("Conv <strides = [2, 1], pads = [1, 0, 2, 1], dilations = [1, 2]> (x, w)", (5, 6, 3, 2), 0, (2, 6, 7, 5)),
        ("Conv <strides = [2], pads = [1, 1]> (x, w)", (5, 6, 3), 0, (2, 6, 9)),
    ],
)
def test_rows_times_matrix_is_the_output(body: str, shape: tuple[int, ...], axis: int, given: tuple[int, ...]) -> None:
    size = f"float[{', '.join('NPQRS'[place] if size != 6 else '6' for place, size in enumerate(given))}]"
    model, layer = layer_of(body, shape, axis, size)
    assert isinstance(layer, WeightedSum), layer
    x = RANDOM.standard_normal(given).astype(np.float32)
    y = run_all(model, [{"x": x}], optimize=False)[0]["y"]
    wanted = np.moveaxis(y, 1, -1) if body.startswith("Conv") else y
    found = layer.rows(x, 10**6) @ layer.matrix()
    np.testing.assert_allclose(found, wanted.reshape(-1, 5), atol=1e-5)
    np.testing.assert_array_equal(layer.weight(layer.matrix()), layer._weight())
    few = layer.rows(x, 3)
    assert few.shape == (3, layer.inputs)
    np.testing.assert_array_equal(few[[0, -1]], layer.rows(x, 10**6)[[0, -1]])
    assert layer.scale().shape == (1, 5)


@pytest.mark.parametrize("shape", [(5, 6, 1, 1), (5, 6, 3, 2), (5, 3, 3, 3)])
def test_pairs_of_a_conv_are_those_of_its_unfolded_forms(shape: tuple[int, ...]) -> None:
    _, layer = layer_of("Conv (x, w)", shape, 0, f"float[N, {shape[1]}, H, W]")
    numbers = np.arange(int(np.prod(shape[1:]))).reshape(1, *shape[1:])
    wanted = set()
    for form in unfolded(numbers):
        length = form.shape[1] // 2 * 2
        even, odd = form[:, 0:length:2].reshape(-1), form[:, 1:length:2].reshape(-1)
        wanted |= {frozenset(pair) for pair in zip(even.tolist(), odd.tolist(), strict=True)}
    found = {
        frozenset((one, int(other))) for order in layer.partners() for one, other in enumerate(order) if other >= 0
    }
    assert found == wanted


@pytest.mark.parametrize(
    ("body", "shape", "axis", "why"),
    [
        ("Conv <group = 2> (x, w)", (4, 3, 1, 1), 0, "a Conv in groups"),
        ('Conv <auto_pad = "SAME_UPPER"> (x, w)', (4, 6, 3, 3), 0, "pads by itself"),
        ("ConvTranspose (x, w)", (6, 4, 2, 2), 1, "a ConvTranspose"),
        ("MatMul(x, w)", (2, 6, 4), 2, "a stack of matrices"),
        ("MatMul(w, x)", (4, 6), 0, "its weight is not the second input"),
    ],
)
def test_layers_without_the_form_say_why(body: str, shape: tuple[int, ...], axis: int, why: str) -> None:
    weight = np.zeros(shape, np.float32)
    size = "float[N, 6, 8, 8]" if "Conv" in body else "float[6, 6]"
    model = build(f"m ({size} x) => (float y) {{ [n] y = {body} }}", w=weight)
    index = 0 if "(w" in body else 1
    plan = QuantPlan(weights={"n": {index: quant(axis, shape[axis])}}, nodes={"n": (1 - index,)})
    found = weighted_sum(node_named(model, "n"), plan, 4096)
    assert isinstance(found, str)
    assert why in found


def test_too_many_inputs_shared_weights_and_one_scale() -> None:
    weight = np.zeros((6, 6), np.float32)
    model = build("m (float[N, 6] x) => (float y) { [n] h = MatMul(x, w) [o] y = MatMul(h, w) }", w=weight)
    plan = QuantPlan(weights={"n": {1: quant(1, 6)}}, nodes={"n": (0,)})
    assert weighted_sum(node_named(model, "n"), plan, 4096) == "others share its weight"
    model = build("m (float[N, 6] x) => (float y) { [n] y = MatMul(x, w) }", w=weight)
    assert weighted_sum(node_named(model, "n"), plan, 5) == "it sums 6 products, more than 5"
    plan.weights["n"][1] = TensorQuant(INT8_ACTIVATION, np.asarray(0.1, np.float32))
    assert weighted_sum(node_named(model, "n"), plan, 4096) == "its weight has one scale"
