"""The float64 copy computes what float32 does, to float64's precision where there are kernels."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.certification.difference import relative_difference
from qcompiler.certification.widen import wide_session
from qcompiler.session import run_all
from tests.building import build
from tests.equivalence import random_feeds
from tests.small_models import small_cnn, transformer_block


def test_erf_is_exact() -> None:
    model = build("m (float[N] x) => (float[N] y) { y = Erf(x) }")
    x = np.concatenate([np.linspace(-8, 8, 4001), [np.nan, np.inf, -np.inf]]).astype(np.float32)
    found = wide_session(model).run({"x": x})["y"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [math.erf(item) for item in x.tolist()], rtol=0, atol=4e-15)


CONVS = {
    "plain": ("float[1, 4, 9, 7] x", (6, 4, 3, 3), ""),
    "strided": ("float[1, 4, 9, 7] x", (6, 4, 3, 2), "<strides = [2, 3], pads = [1, 0, 2, 1]>"),
    "dilated": ("float[1, 4, 9, 9] x", (6, 4, 3, 3), "<dilations = [2, 2], pads = [1, 1, 1, 1]>"),
    "depthwise": ("float[1, 4, 9, 7] x", (4, 1, 3, 3), "<group = 4>"),
    "grouped": ("float[1, 4, 9, 7] x", (6, 2, 1, 3), "<group = 2>"),
    "pointwise": ("float[1, 4, 9, 7] x", (6, 4, 1, 1), ""),
    "line": ("float[1, 4, 9] x", (6, 4, 5), "<pads = [4, 0]>"),
}


@pytest.mark.parametrize("name", CONVS)
def test_conv_as_products(name: str) -> None:
    given, shape, attributes = CONVS[name]
    random = np.random.default_rng(0)
    rank = len(shape) - 2
    sizes = ", ".join("ABC"[:rank])
    model = build(
        f"m ({given}) => (float[1, {shape[0]}, {sizes}] y) {{ y = Conv {attributes} (x, w, b) }}",
        w=random.standard_normal(shape).astype(np.float32), b=random.standard_normal(shape[0]).astype(np.float32),
    )  # fmt: skip
    check(model, narrow=())


@pytest.mark.parametrize(
    ("body", "narrow"),
    [
        ("y = GlobalAveragePool(x)", ()),
        ("y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)", ()),
        ("y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)", ("AveragePool",)),
        ("y = Resize <mode = \"nearest\"> (x, , s)", ("Resize",)),
        ("a = LeakyRelu(x) y = HardSwish(a)", ()),
        ("a = Gelu(x) y = PRelu(a, p)", ()),
        ("a = Gather <axis = 1> (t, i) y = Add(a, x)", ()),
    ],
)  # fmt: skip
def test_operators(body: str, narrow: tuple[str, ...]) -> None:
    random = np.random.default_rng(0)
    model = build(
        f"m (float[1, 2, 4, 6] x) => (float[A, B, C, D] y) {{ {body} }}", s=np.array([1, 1, 2, 2], np.float32),
        p=np.array([[[0.1]], [[0.2]]], np.float32), t=random.random((1, 5, 4, 6), np.float32), i=np.array([3, 1]),
    )  # fmt: skip
    for name in ("s", "p", "t", "i"):
        if name in model.graph.initializers and not model.graph.initializers[name].uses():
            del model.graph.initializers[name]
    check(model, narrow=narrow)


@pytest.mark.parametrize("make", [small_cnn, transformer_block])
def test_small_models(make: object) -> None:
    model: ir.Model = make()  # type: ignore[operator]
    check(model, narrow=())


def check(model: ir.Model, *, narrow: tuple[str, ...]) -> None:
    feeds = random_feeds(model)
    before = ir.to_proto(model).SerializeToString()
    wide = wide_session(model)
    assert wide.narrow == narrow
    assert ir.to_proto(model).SerializeToString() == before  # the model given is left as it is
    found, wanted = wide.run(feeds)["y"], run_all(model, [feeds])[0]["y"]
    assert found.dtype == np.float64
    assert relative_difference(found, wanted.astype(np.float64)) < 2e-6
    if not narrow:
        assert (found.astype(np.float32).astype(np.float64) != found).any()  # finer than float32
