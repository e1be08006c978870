"""Pairs of convolutions: what stands between, who else reads, and that a scale passes exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.equalize.choose_shift_scale import choose
from qcompiler.passes.equalize.decide import decide
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.equalize.sample_rows import sample_rows
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind, Refusal, Site
from qcompiler.precision import Precisions
from qcompiler.registry import find_target
from qcompiler.session import Feeds
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

RANDOM = np.random.default_rng(4)


def array(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(np.float32)


W: dict[str, Any] = {
    "k": array(8, 4, 3, 3), "b": array(8), "r": array(6, 8, 3, 3), "p": array(6, 8, 1, 1), "d": array(8, 1, 3, 3),
    "g": array(6, 4, 1, 1), "t": array(4, 8, 2, 2), "u": array(8, 5, 2, 2), "slope": array(8, 1, 1),
    "low": np.float32(0),
    "six": np.float32(6), "c": array(6), "q": array(6, 16, 1, 1),
}  # fmt: skip


def model(body: str, outputs: str = "float[1, C, H, V] y") -> ir.Model:
    return build(f"m (float[1, 4, 12, 12] x) => ({outputs}) {{ {body} }}", **W)


def convs(source: ir.Model) -> tuple[list[Site], list[Refusal]]:
    found = find_sites(source)
    return ([item for item in found.sites if item.kind is Kind.CONV],
            [item for item in found.refused if item.kind is Kind.CONV])  # fmt: skip


MATCHED = {
    "nothing between": ("[a] h = Conv(x, k, b) [z] y = Conv(h, r, c)", ["h"]),
    "no bias": ("[a] h = Conv(x, k) [z] y = Conv(h, p)", ["h"]),
    "padding": ("[a] h = Conv(x, k, b) i = Relu(h) [z] y = Conv<pads = [1, 1, 1, 1]>(i, r)", ["i"]),
    "leaky": ("[a] h = Conv(x, k, b) i = LeakyRelu<alpha = 0.2>(h) [z] y = Conv(i, p)", ["i"]),
    "slopes": ("[a] h = Conv(x, k, b) i = PRelu(h, slope) [z] y = Conv(i, p)", ["i"]),
    "pooled": ("[a] h = Conv(x, k, b) i = Relu(h) j = MaxPool<kernel_shape = [2, 2]>(i) [z] y = Conv(j, p)", ["i"]),
    "averaged": ("[a] h = Conv(x, k, b) j = GlobalAveragePool(h) [z] y = Conv(j, p)", ["h"]),
    "two readers": ("[a] h = Conv(x, k, b) i = Relu(h) [z] m = Conv(i, p) [w] n = Conv(i, p, c) y = Add(m, n)", ["i"]),
    "depthwise": ("[a] h = Conv(x, k, b) [e] i = Conv<group = 8>(h, d, b) j = Relu(i) [z] y = Conv(j, r)", ["h", "j"]),
    "into transposed": ("[a] h = Conv(x, k, b) i = Relu(h) [z] y = ConvTranspose(i, u)", ["i"]),
    "transposed": ("[a] h = ConvTranspose(x, t, b) i = Relu(h) [z] y = Conv(i, r)", ["i"]),
}


@pytest.mark.parametrize("form", MATCHED)
def test_a_scale_passes_exactly_and_adds_nothing(form: str) -> None:
    body, names = MATCHED[form]
    before = model(body)
    sites, refused = convs(before)
    assert [site.name for site in sites] == names
    assert refused == []
    assert all(site.channels == 8 and not site.shifts and site.axis == -3 for site in sites)
    after = before.clone()
    scales = {site.name: ShiftScale(np.zeros(8), np.exp(2 * RANDOM.standard_normal(8))) for site in sites}
    outcome = FoldShiftScale(scales).run(after)
    assert outcome.matched == tuple(names)
    assert ops_of(after) == ops_of(before)
    assert largest_error(before, after, random_feeds(before)) < 5e-6
    old, new = (one.graph.initializers for one in (before, after))
    assert set(old) != set(new), "weights have changed"


@pytest.mark.parametrize(("body", "reason"), [
    ("[a] h = Conv(x, k, b) i = HardSwish(h) [z] y = Conv(i, p)", "hard_swish of a scaled channel is not the scaled"),
    ("[a] h = Conv(x, k, b) i = Elu(h) [z] y = Conv(i, p)", "Elu of a scaled channel is not the scaled"),
    ("[a] h = Conv(x, k, b) i = Clip(h, low, six) [z] y = Conv(i, p)", "Clip of a scaled channel is not the scaled"),
    ("[a] h = Conv(x, k, b) i = Relu(h) [z] j = Conv(i, p) l = ReduceMax(i) y = Add(j, l)", "ReduceMax reads it too"),
    ("[a] h = Conv(x, k, b) i = Concat<axis = 1>(h, h) [z] j = Conv(i, q) [w] l = Conv(h, p) y = Add(j, l)",
     "Concat reads it too"),
    ("[a] h = Conv(x, k, b) [z] y = Conv<group = 2>(h, g)", "z is a Conv in groups, or its weight is no constant"),
])  # fmt: skip
def test_near_misses_say_why(body: str, reason: str) -> None:
    sites, refused = convs(canonical_names(model(body)))
    assert sites == []
    assert [item.reason[: len(reason)] for item in refused] == [reason]


def canonical_names(source: ir.Model) -> ir.Model:
    from qcompiler.passes.canonical.pipeline import canonical_passes
    from qcompiler.pipeline import Pipeline

    return Pipeline(canonical_passes(21, frozenset({"HardSwish"}))).run(source)[0]


def test_an_output_of_the_model_keeps_its_scale() -> None:
    sites, refused = convs(model("[a] h = Conv(x, k, b) [z] y = Conv(h, p)",
                                 "float[1, C, H, V] y, float[1, 8, 10, 10] h"))  # fmt: skip
    assert sites == []
    assert [item.reason for item in refused] == ["h is an output of the model"]


def test_what_no_conv_reads_is_no_candidate() -> None:
    assert convs(model("[a] h = Conv(x, k, b) y = Relu(h)")) == ([], [])


@pytest.mark.parametrize("form", ["padding", "depthwise", "pooled"])
def test_uneven_channels_are_found_and_evened_out(form: str) -> None:
    """Channels 100 times apart in one layer and back in the next: the chosen scale takes most of the error away."""
    source = model(MATCHED[form][0])
    last = convs(source)[0][-1]
    spread = np.logspace(-1, 1, 8)
    FoldShiftScale({last.name: ShiftScale(np.zeros(8), spread)}).run(source)
    site = convs(source)[0][-1]
    feeds: list[Feeds] = [random_feeds(source, seed=seed) for seed in range(3)]
    seen = sample_rows(source, [site], feeds)[site.name]
    choice = choose(site, seen, seen.rows, ("os_plus", "smooth"), Precisions())
    assert "shift" not in choice.best
    assert choice.losses["smooth"] < 0.2 * choice.losses["none"]
    scale = choice.best["smooth"].scale * spread
    assert scale.max() / scale.min() < 0.3 * spread.max() / spread.min()


def test_weights_as_matrices() -> None:
    """[channels, outputs] whatever the layer: a product with them is what the layer makes of one place."""
    body = "[a] h = Conv(x, k, b) [z] y = Conv(h, r) [e] z = Conv<group = 8>(h, d)"
    site = convs(model(body, "float[1, C, H, V] y, float[1, D, I, U] z"))[0][0]
    full, depthwise = (reader.matrix() for reader in site.readers)
    np.testing.assert_array_equal(full, W["r"].transpose(1, 0, 2, 3).reshape(8, 54))
    np.testing.assert_allclose(depthwise, np.diag(np.sqrt((W["d"] ** 2).sum((1, 2, 3)))), rtol=1e-6)


@pytest.mark.parametrize("target", ["ort-cpu", "orin"])
def test_measuring_takes_what_evens_out_the_channels(target: str) -> None:
    text = """m (float[1, 4, 12, 12] x) => (float[1, C, H, V] y) {
        [a] h = Conv(x, k, b) [e] i = Conv<group = 8>(h, d, b)
        j = Relu(i) [z] l = Conv<pads = [1, 1, 1, 1]>(j, r, c) y = Tanh(l) }"""
    source = build(text, **(W | {"r": W["r"] / 100}))
    FoldShiftScale({"j": ShiftScale(np.zeros(8), np.logspace(-1.5, 1.5, 8))}).run(source)
    feeds: list[Feeds] = [random_feeds(source, seed=seed) for seed in range(8)]
    decision = decide(source, find_target(target), feeds, threads=1)
    assert "j" in decision.parameters
    assert decision.facts["added_nodes"] == 0
    assert decision.facts["sqnr"][decision.facts["taken"]] > decision.facts["sqnr"]["none"] + 3
