"""torch's older exporter fixes the sequence length of nn.MultiheadAttention in some targets of Reshape, and in others
it does not: values of attention are followed all the same."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.rotate.rotate_heads import RotateHeads
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind
from tests.architectures import canonical
from tests.building import build
from tests.equivalence import largest_error, random_feeds

RANDOM = np.random.default_rng(6)
TEXT = """m (float[S, N, 8] x) => (float[S, N, 8] y) {
    a = MatMul(x, w) b = Add(a, c) q, k, v = Split<axis = -1, num_outputs = 3>(b)
    q1 = Reshape(q, rows) q2 = Transpose<perm = [1, 0, 2]>(q1)
    k1 = Reshape(k, rows) k2 = Transpose<perm = [1, 2, 0]>(k1)
    v1 = Reshape(v, rows) v2 = Transpose<perm = [1, 0, 2]>(v1)
    s = MatMul(q2, k2) p = Softmax<axis = -1>(s) o = MatMul(p, v2)
    o1 = Transpose<perm = [1, 0, 2]>(o) o2 = Reshape(o1, joined)
    y0 = MatMul(o2, u) y = Reshape(y0, whole) }"""


@pytest.mark.parametrize("length", [5, 0])
def test_values_behind_a_fixed_length(length: int) -> None:
    weights = {name: RANDOM.standard_normal(shape) for name, shape in {"w": (8, 24), "c": (24,), "u": (8, 8)}.items()}
    places = {"rows": [length, -1, 4], "joined": [-1, 8], "whole": [5, -1, 8]}
    constants = {name: (array / 3).astype(np.float32) for name, array in weights.items()}
    constants |= {name: np.array(sizes) for name, sizes in places.items()}
    source = canonical(build(TEXT, 18, **constants))
    (site,) = [item for item in find_sites(source).sites if item.kind is Kind.VALUE]
    assert site.part is not None and site.part.tolist() == list(range(16, 24))
    scaled, rotated = source.clone(), source.clone()
    wanted = ShiftScale(RANDOM.standard_normal(8), np.exp(RANDOM.standard_normal(8)))
    assert FoldShiftScale({site.name: wanted}).run(scaled).matched
    assert RotateHeads().run(rotated).matched
    for result in (scaled, rotated):
        assert largest_error(source, result, random_feeds(source, {"S": 5, "N": 2})) < 1e-5
