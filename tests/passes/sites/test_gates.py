"""MLPs of all gates, and of squared ReLU: sites that a scale and a rotation leave the function at."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.rotate.rotate_down import RotateDown
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind
from tests.architectures import canonical
from tests.building import build
from tests.equivalence import largest_error, random_feeds

RANDOM = np.random.default_rng(7)
TEXT = "m (float[N, 8] x) => (float[N, 8] y) {{ a = MatMul(x, w) b = Add(a, c) {hidden} y = MatMul(h, v) }}"
UP = "u = MatMul(x, t)"
WEIGHTS = {name: (RANDOM.standard_normal(shape) / 2).astype(np.float32)
           for name, shape in {"w": (8, 6), "t": (8, 6), "c": (6,), "v": (6, 8)}.items()}  # fmt: skip


@pytest.mark.parametrize(
    ("hidden", "kind"),
    [
        *((f"{UP} g = {gate}(b) h = Mul(g, u)", Kind.GATED) for gate in ("Sigmoid", "Relu", "Tanh", "HardSigmoid")),
        (f"{UP} g = Relu(b) h = Mul(u, g)", Kind.GATED),
        ("r = Relu(b) h = Mul(r, r)", Kind.ACTIVATION),
        ("r = Relu(b) h = Pow(r, two)", Kind.ACTIVATION),
    ],
)
def test_one_site_that_keeps_the_function(hidden: str, kind: Kind) -> None:
    source = canonical(build(TEXT.format(hidden=hidden), 17, two=np.float32(2), **WEIGHTS))
    (site,) = find_sites(source).sites
    assert (site.kind, site.channels, len(site.readers)) == (kind, 6, 1)
    scaled, rotated = source.clone(), source.clone()
    wanted = ShiftScale(RANDOM.standard_normal(6) * site.shifts, np.exp(RANDOM.standard_normal(6)))
    assert FoldShiftScale({site.name: wanted}).run(scaled).matched
    assert RotateDown().run(rotated).matched == (site.name,)
    for result in (scaled, rotated):
        assert largest_error(source, result, random_feeds(source)) < 1e-5


@pytest.mark.parametrize(
    "hidden", ["r = Relu(b) h = Pow(r, three)", "h = Mul(b, b)", "r = Relu(b) h = Mul(r, b)", "h = Pow(b, two)"]
)
def test_other_products_are_no_site(hidden: str) -> None:
    source = canonical(build(TEXT.format(hidden=hidden), 17, two=np.float32(2), three=np.float32(3), **WEIGHTS))
    assert not find_sites(source).sites
