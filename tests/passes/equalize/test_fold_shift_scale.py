"""Shift and scale of channels leave the function as it was and add nodes only where the docstring says so."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind, Site
from qcompiler.session import run_all
from tests.architectures import WIDTH, bert, canonical, llama, vit
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

BOUND = 2e-6
"""Weights are rounded once more, each by 2^-24 of itself; a few layers of at most 32 products add up."""


def random_parameters(site: Site, random: np.random.Generator, *, shift: bool = True) -> ShiftScale:
    moved = random.standard_normal(site.sources) if shift and site.shifts else np.zeros(site.sources)
    return ShiftScale(moved, np.exp(random.standard_normal(site.sources)))


def folded(source: ir.Model, kinds: tuple[Kind, ...], *, shift: bool = True) -> tuple[ir.Model, int]:
    random = np.random.default_rng(1)
    sites = [site for site in find_sites(source).sites if site.kind in kinds]
    copy = source.clone()
    outcome = FoldShiftScale({site.name: random_parameters(site, random, shift=shift) for site in sites}).run(copy)
    assert not outcome.skipped
    return copy, len(outcome.matched)


def added(before: ir.Model, after: ir.Model) -> dict[str, int]:
    return dict(Counter(ops_of(after)) - Counter(ops_of(before)))


@pytest.mark.parametrize(
    ("model", "kinds", "sites", "new"),
    [
        (vit(), (Kind.NORM, Kind.VALUE), 7, {}),
        (bert(), (Kind.VALUE,), 2, {}),
        (bert(), (Kind.NORM,), 4, {"Mul": 4}),  # the scale of each residual edge; its shift is in a bias
        (llama(), (Kind.NORM, Kind.VALUE, Kind.GATED), 9, {}),
        (vit(), (Kind.ACTIVATION,), 2, {"Mul": 2, "Add": 2}),
    ],
)
def test_function_and_nodes(model: ir.Model, kinds: tuple[Kind, ...], sites: int, new: dict[str, int]) -> None:
    source = canonical(model)
    before = {name: value.const_value.numpy().copy() for name, value in source.graph.initializers.items()
              if value.const_value is not None}  # fmt: skip
    result, count = folded(source, kinds)
    assert count == sites
    assert added(source, result) == new
    assert largest_error(source, result, random_feeds(source, {"S": 5})) < BOUND
    for name, array in before.items():
        held = source.graph.initializers[name].const_value
        assert held is not None
        np.testing.assert_array_equal(held.numpy(), array)


def test_tensor_becomes_what_was_asked_for() -> None:
    source = canonical(vit(1))
    site = find_sites(source).sites[0]
    wanted = random_parameters(site, np.random.default_rng(2))
    result = source.clone()
    FoldShiftScale({site.name: wanted}).run(result)
    feeds = [random_feeds(source, {"S": 5})]
    old, new = (run_all(model, feeds, [site.name], optimize=False)[0][site.name] for model in (source, result))
    np.testing.assert_allclose(new, (old - wanted.shift) / wanted.scale, rtol=1e-5, atol=1e-5)


def test_values_of_repeated_heads_are_scaled_alike() -> None:
    source = canonical(llama(1))
    site = next(site for site in find_sites(source).sites if site.kind is Kind.VALUE)
    wanted = random_parameters(site, np.random.default_rng(2))
    result = source.clone()
    FoldShiftScale({site.name: wanted}).run(result)
    feeds = [random_feeds(source, {"S": 5})]
    old, new = (run_all(model, feeds, [site.name], optimize=False)[0][site.name] for model in (source, result))
    assert site.to_source is not None
    np.testing.assert_allclose(new, old / wanted.scale[site.to_source], rtol=1e-5, atol=1e-6)


def test_shift_alone_of_a_residual_edge_adds_nothing() -> None:
    source = canonical(bert())
    ones = np.ones(WIDTH)
    sites = [site for site in find_sites(source).sites if site.kind is Kind.NORM]
    result = source.clone()
    random = np.random.default_rng(4)
    parameters = {site.name: ShiftScale(random.standard_normal(WIDTH), ones) for site in sites}
    assert FoldShiftScale(parameters).run(result).matched
    assert added(source, result) == {}
    assert largest_error(source, result, random_feeds(source, {"S": 5})) < BOUND


LAYERS = """m (float[N, 4, 8] x) => (float[N, 4, 3] y, float[N, 3, 2, 2] z, float[N, 4, 8] r, float e) {
    n = LayerNormalization<axis = -1>(x, g) y = MatMul(n, w)
    t = Transpose<perm = [0, 2, 1]>(n) s = Reshape(t, square) z = Conv(s, k) r = Relu(n) e = ReduceMax(w) }"""


def test_missing_biases_other_readers_and_tied_weights() -> None:
    random = np.random.default_rng(6)
    weights = {"w": random.standard_normal((8, 3)), "k": random.standard_normal((3, 8, 1, 1)), "g": np.full(8, 2.0)}
    constants = {name: array.astype(np.float32) for name, array in weights.items()}
    source = canonical(build(LAYERS, 17, square=np.array([0, 8, 2, 2]), **constants))
    result, count = folded(source, (Kind.NORM,))
    assert count == 1
    assert added(source, result) == {"Add": 2, "Mul": 1}  # the bias of the MatMul; the edge of Relu
    assert largest_error(source, result, random_feeds(source)) < BOUND
    assert [value.name for value in result.graph.outputs] == ["y", "z", "r", "e"]


def test_a_shift_in_front_of_a_layer_and_a_scale_behind_it() -> None:
    """The layer has no bias: the Add that the shift puts behind it is scaled like the layer, in either order."""
    random = np.random.default_rng(2)
    text = """m (float[N, 4, 8] x) => (float[N, 4, 8] y) {
        n = LayerNormalization<axis = -1>(x, g) u = MatMul(n, w) r = Relu(u) y = MatMul(r, v) }"""
    shapes = {"g": (8,), "w": (8, 6), "v": (6, 8)}
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    source = canonical(build(text, 17, **weights))
    sites = find_sites(source).sites
    assert [site.kind for site in sites] == [Kind.NORM, Kind.RELU]
    for order in (sites, sites[::-1]):
        result = source.clone()
        wanted = {site.name: random_parameters(site, random) for site in order}
        assert len(FoldShiftScale(wanted).run(result).matched) == 2
        assert largest_error(source, result, random_feeds(source)) < BOUND


def test_refusals_leave_the_model_alone() -> None:
    source = canonical(llama(1))
    site = find_sites(source).sites[0]
    for wanted, reason in (
        (ShiftScale(np.ones(WIDTH), np.ones(WIDTH)), "a shift is not exact here"),
        (ShiftScale(np.zeros(WIDTH), np.zeros(WIDTH)), "a positive scale"),
        (ShiftScale(np.zeros(3), np.ones(3)), "a positive scale"),
    ):
        copy = source.clone()
        outcome = FoldShiftScale({site.name: wanted, "absent": wanted}).run(copy)
        assert not outcome.modified
        assert reason in outcome.skipped[0].reason and outcome.skipped[1].reason == "no such site"
        assert largest_error(source, copy, random_feeds(source)) == 0.0
