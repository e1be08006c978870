"""as_strided over all elements, as dynamo exports it behind AdaptiveAvgPool1d."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.normalize.plain_strides import PlainStrides
from qcompiler.passes.sites.find import find_sites
from tests.architectures import canonical
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

RANDOM = np.random.default_rng(3)
COUNTED = """h = Shape<start = 0, end = 1>(x) n = Squeeze(h, first) r = Range(zero, n, one) s = Mul(r, six)
    u = Unsqueeze(s, behind) i0 = Add(u, places) i = Add(i0, none)"""


def model(index: str, places: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> ir.Model:
    text = f"""m (float[N, 5, 6] x) => (float y) {{
        t = LayerNormalization<axis = -1>(x, g) p = ReduceMean<axes = [1], keepdims = 0>(t) f = Reshape(p, flat)
        {index} k = Gather(f, i) q = Squeeze(k, behind1) y = MatMul(q, w) }}"""
    shapes = {"zero": 0, "one": 1, "six": 6, "none": [[[0]]], "first": [0], "behind": [1, 2], "behind1": [2],
              "flat": [-1]}  # fmt: skip
    weights = {"g": RANDOM.uniform(0.5, 2, 6), "w": RANDOM.standard_normal((6, 3))}
    constants = {name: array.astype(np.float32) for name, array in weights.items()}
    return build(text, 17, places=places, i=places, **constants,
                 **{name: np.array(size, np.int64) for name, size in shapes.items()})  # fmt: skip


@pytest.mark.parametrize(("index", "rows"), [(COUNTED, 1), ("", 3)])
def test_rows_are_taken_and_channels_are_followed(index: str, rows: int) -> None:
    source = model(index, np.arange(6 * rows).reshape(rows, 6, 1))
    result = source.clone()
    assert PlainStrides().run(result).matched == ("k",)
    assert largest_error(source, result, random_feeds(source)) < 1e-6
    assert not PlainStrides().run(result).modified
    plain = canonical(source)
    assert "Add" not in ops_of(plain)
    (site,) = find_sites(plain).sites
    assert len(site.readers) == 1 and not site.edges


@pytest.mark.parametrize("places", [np.arange(6)[::-1].reshape(1, 6, 1), np.arange(0, 12, 2).reshape(1, 6, 1)])
def test_other_orders_stay(places: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> None:
    assert not PlainStrides().run(model(COUNTED, np.ascontiguousarray(places))).modified


def test_rows_that_overlap_stay() -> None:
    index = COUNTED.replace("Mul(r, six)", "Mul(r, one)")
    assert not PlainStrides().run(model(index, np.arange(6).reshape(1, 6, 1))).modified
