"""LayerNorm over the axis of channels with places behind it, as ConvNeXt, SAM and SegNeXt write it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.canonical.forms import Form, form_of
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.rotate.residual_streams import NoStream, residual_streams
from qcompiler.passes.sites.find import find_sites
from tests.architectures import canonical
from tests.building import build
from tests.equivalence import largest_error, normalized, ops_of, random_feeds

RANDOM = np.random.default_rng(5)
NORM = """u = ReduceMean<axes = [AXIS], keepdims = 1>(x) d = Sub(x, u) p = Pow(d, square)
    v = ReduceMean<axes = [AXIS], keepdims = 1>(p) e = Add(v, epsilon) s = Sqrt(e) z = Div(d, s)
    g1 = Mul(g, z) n = Add(g1, c)"""


def source(shape: str, gain: tuple[int, ...], behind: str, axis: int = 1) -> ir.Model:
    text = f"m (float[{shape}] x) => (float y) {{ {NORM.replace('AXIS', str(axis))} {behind} }}"
    constants = {"g": RANDOM.uniform(0.5, 2, gain), "c": RANDOM.standard_normal(gain), "square": np.array(2.0),
                 "epsilon": np.array(1e-6), "k": RANDOM.standard_normal((5, 6, 1, 1)) / 3,
                 "k3": RANDOM.standard_normal((5, 6, 3)) / 3}  # fmt: skip
    return build(text, 17, **{name: array.astype(np.float32) for name, array in constants.items()})


@pytest.mark.parametrize(
    ("shape", "gain", "behind", "shifts"),
    [
        ("N, 6, H, W", (6, 1, 1), "y = Conv(n, k)", True),
        ("N, 6, H, W", (1, 6, 1, 1), "y = Conv(n, k)", True),
        ("N, 6, L", (6, 1), "y = Conv(n, k3)", False),
    ],
)
def test_becomes_the_operator_between_transposes_and_is_a_site(
    shape: str, gain: tuple[int, ...], behind: str, shifts: bool
) -> None:
    before = source(shape, gain, behind)
    model = canonical(before)
    assert ops_of(model) == ["Transpose", "LayerNormalization", "Transpose", "Conv"]
    assert largest_error(before, model, random_feeds(before)) < 1e-5
    (site,) = find_sites(model).sites
    assert (site.channels, site.shifts, len(site.readers), site.edges) == (6, shifts, 1, ())
    wanted = ShiftScale(RANDOM.standard_normal(6) * shifts, np.exp(RANDOM.standard_normal(6)))
    changed = model.clone()
    assert FoldShiftScale({site.name: wanted}).run(changed).matched
    assert largest_error(model, changed, random_feeds(model)) < 1e-5
    assert ops_of(normalized(model, 19, canonical=True)) == ops_of(model)


@pytest.mark.parametrize(
    ("shape", "gain", "axis"), [("N, 6, 4, 4", (4,), 1), ("N, 6, 4, 4", (1,), 1), ("6, 3, 4", (6, 1, 1), 0)]
)
def test_gains_of_other_axes_and_statistics_of_a_batch_stay(shape: str, gain: tuple[int, ...], axis: int) -> None:
    before = source(shape, gain, "y = Relu(n)", axis)
    model = canonical(before)
    assert "LayerNormalization" not in ops_of(model)
    assert Form.GROUP_NORM in {form_of(node) for node in model.graph}
    assert largest_error(before, model, random_feeds(before)) < 1e-5
    (refused,) = residual_streams(model)
    assert isinstance(refused, NoStream) and "other axes than the last" in refused.reason


def test_a_target_without_the_operator_keeps_the_nodes() -> None:
    before = source("N, 6, H, W", (6, 1, 1), "y = Conv(n, k)")
    model = canonical(before, 17, frozenset())
    assert "Transpose" not in ops_of(model)
    assert sum(form_of(node) is Form.GROUP_NORM for node in model.graph) == 9
