"""The class token beside the mean of the patches, as DINOv2's head reads them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.fold.split_joined_reader import SplitJoinedReader
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind
from tests.architectures import canonical
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

RANDOM = np.random.default_rng(9)
HEAD = """m (float[N, 5, 8] x, float[N, 8] z) => ({outputs}) {{
    n = LayerNormalization<axis = -1>(x, g, c) t = Gather<axis = 1>(n, zero)
    r = Slice(n, one, end, one) p = ReduceMean<axes = [1], keepdims = 0>(r)
    j = Concat<axis = {axis}>({parts}) {layer} }}"""
GEMM, PRODUCT = "y = Gemm<transB = 1>(j, v, b)", "a = MatMul(j, w) y = Add(a, b)"


def head(layer: str, parts: str = "t, p", outputs: str = "float y", axis: int = 1) -> ir.Model:
    width = 8 * (1 + parts.count(",")) if axis else 8
    shapes = {"v": (3, width), "w": (width, 3), "b": (3,), "g": (8,), "c": (8,)}
    weights = {name: RANDOM.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    places = {"zero": np.array(0), "one": np.array([1]), "end": np.array([9])}
    return canonical(build(HEAD.format(outputs=outputs, parts=parts, axis=axis, layer=layer), 17, **weights, **places))


@pytest.mark.parametrize("parts", ["t, p", "p, t, t"])
@pytest.mark.parametrize("layer", [GEMM, PRODUCT, "y = MatMul(j, w)"])
def test_each_part_gets_its_layer(layer: str, parts: str) -> None:
    source = head(layer, parts)
    assert find_sites(source).refused[0].reason == "no layer reads it but Concat"
    result = source.clone()
    assert SplitJoinedReader().run(result).matched == ("a" if layer == PRODUCT else "y",)
    assert "Concat" not in ops_of(result)
    assert largest_error(source, result, random_feeds(source)) < 1e-5
    (site,) = (item for item in find_sites(result).sites if item.kind is Kind.NORM)
    assert len(site.readers) == 1 + parts.count(",") and not site.edges
    assert all((reader.bias is not None) == (layer == GEMM) for reader in site.readers)
    assert not SplitJoinedReader().run(result).modified


@pytest.mark.parametrize(
    ("layer", "parts", "outputs", "axis"),
    [
        (GEMM, "t, z", "float y", 1),  # not all of the norm
        (GEMM, "t, p", "float y, float j", 1),
        (GEMM + " q = Relu(j)", "t, p", "float y, float q", 1),
        (GEMM, "t, p", "float y", 0),  # rows are joined
        ("y = Relu(j)", "t, p", "float y", 1),
    ],
)
def test_near_misses(layer: str, parts: str, outputs: str, axis: int) -> None:
    result = head(layer, parts, outputs, axis)
    before = ops_of(result)
    assert not SplitJoinedReader().run(result).modified
    assert ops_of(result) == before
