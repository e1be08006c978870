"""Gains and biases of norms in front of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.fold.fold_norm_gain import FoldNormGain
from qcompiler.passes.rotate.turn import wide_array
from qcompiler.passes.sites.norm_sites import norm_sites
from qcompiler.passes.sites.records import Site
from tests.architectures import bert, canonical, llama, vit
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

RANDOM = np.random.default_rng(4)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(np.float32)


def made(body: str, **more: np.ndarray[Any, Any]) -> ir.Model:
    constants = {"g": normal(8) + 2, "b": normal(8), "w": normal(8, 5), "w2": normal(8, 5), "c": normal(5)} | more
    return canonical(build(f"m (float[N, 4, 8] x) => (float y) {{ {body} }}", 17, **constants))


def gains(model: ir.Model) -> list[np.ndarray[Any, Any]]:
    """The gain of each norm that layers alone read."""
    return [
        wide_array(site.scales[0].value)
        for site in norm_sites(model)
        if isinstance(site, Site) and not site.edges
    ]


@pytest.mark.parametrize(("source", "norms"), [(vit(3), 7), (llama(3), 7), (llama(2, embedded=True), 5)])
def test_every_norm_that_a_person_counts(source: ir.Model, norms: int) -> None:
    source = canonical(source)
    result = source.clone()
    outcome = FoldNormGain().run(result)
    assert len(outcome.matched) == norms
    assert all(np.all(gain == 1) for gain in gains(result))
    assert any(np.any(gain != 1) for gain in gains(source)), "the source is as it was"
    assert ops_of(result) == ops_of(source)
    assert largest_error(source, result, random_feeds(source)) < 1e-5
    assert not FoldNormGain().run(result).modified


def test_norms_of_a_post_ln_stream_are_refused() -> None:
    source = canonical(bert(2))
    outcome = FoldNormGain().run(source.clone())
    assert not outcome.matched
    assert {item.reason for item in outcome.skipped} >= {"other nodes than layers read it too"}


def test_readers_share_the_gain_and_tied_weights_keep_other_users() -> None:
    body = """n = LayerNormalization(x, g, b) p = MatMul(n, w) p1 = Add(p, c) q = MatMul(n, w2) q1 = Add(q, c)
        r = MatMul(x, w) s = Add(p1, q1) y = Add(s, r)"""
    source = made(body)
    result = source.clone()
    assert FoldNormGain().run(result).matched == ("n",)
    kept, old = (item.graph.initializers["w"].const_value for item in (result, source))
    assert kept is not None and old is not None
    assert np.array_equal(kept.numpy(), old.numpy())
    assert largest_error(source, result, random_feeds(source)) < 1e-5


@pytest.mark.parametrize("smallest", [0.5, 0.0])
def test_a_bias_that_readers_cannot_take_stays(smallest: float) -> None:
    gain = np.abs(normal(8)) + 1
    gain[3] = smallest
    source = made("n = LayerNormalization(x, g, b) y = MatMul(n, w)", g=gain)
    result = source.clone()
    outcome = FoldNormGain().run(result)
    if smallest == 0.0:
        assert [item.reason for item in outcome.skipped] == [
            "it has a bias that its readers cannot take and a gain near zero"
        ]
        return
    assert outcome.matched == ("n",)
    (site,) = (item for item in norm_sites(result) if isinstance(item, Site))
    assert site.bias is not None and np.any(wide_array(site.bias.value))
    assert largest_error(source, result, random_feeds(source)) < 1e-5
    assert not FoldNormGain().run(result).modified


def test_a_gain_of_zero_or_below_is_folded() -> None:
    gain = normal(8)
    gain[:2] = 0.0, -1.5
    source = made("n = LayerNormalization(x, g, b) a = MatMul(n, w) y = Add(a, c)", g=gain)
    result = source.clone()
    assert FoldNormGain().run(result).matched == ("n",)
    assert largest_error(source, result, random_feeds(source)) < 1e-5


def test_padded_convolutions_take_the_gain_but_no_bias() -> None:
    body = """n = LayerNormalization(x, g, b) t = Transpose<perm = [0, 2, 1]>(n) y = Conv<pads = [1, 1]>(t, k, c)"""
    source = made(body, k=normal(5, 8, 3))
    result = source.clone()
    assert FoldNormGain().run(result).matched == ("n",)
    assert all(np.all(gain == 1) for gain in gains(result))
    assert largest_error(source, result, random_feeds(source)) < 1e-5
