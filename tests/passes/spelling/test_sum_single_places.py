"""sum-single-places: the convolution of one token behind its past."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.spelling.sum_single_places import SumSinglePlaces
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

CHANNELS, WIDTH = 6, 4


def model_of(attributes: str = "", length: int | str = WIDTH, bias: bool = True, inner: int = 1) -> ir.Model:
    random = np.random.default_rng(0)
    return build(
        f"agraph (float[b,{CHANNELS},{length}] x) => (float[b,{CHANNELS},m] y) {{"
        f" y = Conv <group = {CHANNELS // inner}{attributes}> (x, w{', bias' if bias else ''}) }}",
        w=random.standard_normal((CHANNELS, inner, WIDTH)).astype(np.float32),
        bias=random.standard_normal(CHANNELS).astype(np.float32),
    )


@pytest.mark.parametrize("bias", [True, False])
def test_product_and_sum(bias: bool) -> None:
    model = model_of(bias=bias)
    before = model.clone()
    assert SumSinglePlaces().run(model).matched == ("y",)
    assert ops_of(model) == ["Mul", "ReduceSum", *(["Add"] * bias)]
    assert largest_error(before, model, random_feeds(before)) <= 1e-6
    assert not SumSinglePlaces().run(model).modified


@pytest.mark.parametrize(
    "model",
    [
        model_of(length=WIDTH + 1),
        model_of(length="n"),
        model_of(", pads = [1, 1]"),
        model_of(', auto_pad = "SAME_UPPER"'),
        model_of(inner=2),
    ],
    ids=["longer", "unknown", "padded", "same", "grouped"],
)
def test_near_misses(model: ir.Model) -> None:
    assert not SumSinglePlaces().run(model).modified
