"""plain-gather: a GatherND of one axis becomes a Gather; of several axes, or in batches, it stays."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.normalize.plain_gather import PlainGather
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

X = "float[6, N, 3] x"


def model_of(indices: list[list[int]] | list[int], attributes: str = "") -> ir.Model:
    text = f"m ({X}) => (float y) {{ y = GatherND{attributes}(x, i) }}"
    return build(text, 17, i=np.array(indices, np.int64))


@pytest.mark.parametrize("indices", [[[5]], [[4], [-1]], [2]])
def test_constant_indices(indices: list[list[int]] | list[int]) -> None:
    source = model_of(indices)
    result = source.clone()
    assert PlainGather().run(result).matched == ("y",)
    assert ops_of(result) == ["Gather"]
    assert largest_error(source, result, random_feeds(source, {"N": 2})) == 0
    assert not PlainGather().run(result).modified


def test_computed_indices_get_a_squeeze() -> None:
    text = "m (int64[N, 4, 1] i) => (float y) { y = GatherND(t, i) }"
    source = build(text, 17, t=np.arange(600, dtype=np.float32).reshape(200, 3))
    result = source.clone()
    assert PlainGather().run(result).matched == ("y",)
    assert ops_of(result) == ["Squeeze", "Gather"]
    places = {"i": np.random.default_rng(0).integers(0, 200, (2, 4, 1))}
    assert largest_error(source, result, places) == 0


@pytest.mark.parametrize(("indices", "attributes"), [([[5, 0]], ""), ([[1]] * 6, "<batch_dims = 1>")])
def test_near_misses(indices: list[list[int]], attributes: str) -> None:
    assert not PlainGather().run(model_of(indices, attributes)).modified
