"""The choice by P times V: planted distributions get the quantizer that suits them."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibration.attention_rows import AttentionRows
from qcompiler.calibration.observers import Histogram
from qcompiler.lookup import KINDS
from qcompiler.passes.softmax.choose_levels import Choice, Grid, choose_levels, percentiles
from qcompiler.passes.softmax.tables import composed, fine_codes
from qcompiler.scheme import INT8_ACTIVATION, FloatArray, QuantScheme

GRIDS = {"127 steps": Grid(INT8_ACTIVATION, None), "255 steps": Grid(QuantScheme(symmetric=False), -128), "float": None}


def values(count: int, heads: int, keys: int, seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((count, heads, keys, 8)).astype(np.float32)


def power_law(count: int = 4, heads: int = 2, keys: int = 48, seed: int = 0) -> FloatArray:
    """Softmax outputs with a few large entries: scores of a standard deviation of 3."""
    scores = 3 * np.random.default_rng(seed).standard_normal((count, heads, 24, keys))
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True), np.float32)


def chosen(p: FloatArray, v: FloatArray, kinds: tuple[str, ...] = KINDS, bits: int = 4, form: str = "255 steps",
           *, by_head: bool = False) -> Choice:  # fmt: skip
    found = choose_levels(kinds, bits, GRIDS[form], Histogram().observe(p), AttentionRows().observe(p, v),
                          by_head=by_head)  # fmt: skip
    assert found is not None
    return found


@pytest.mark.parametrize("form", GRIDS)
@pytest.mark.parametrize("bits", [3, 4, 6])
def test_a_power_law_takes_levels_that_are_dense_near_zero(bits: int, form: str) -> None:
    p = power_law()
    found = chosen(p, values(4, 2, 48), bits=bits, form=form)
    assert found.lookup.heads[0].kind == "tan"
    assert found.error == min(found.by_kind.values()) < 0.8 * found.by_kind["uniform"]


def test_even_values_take_even_levels() -> None:
    p = np.random.default_rng(0).random((4, 2, 24, 48)).astype(np.float32)
    found = chosen(p, values(4, 2, 48))
    assert found.by_kind["log2"] > 3 * found.by_kind["uniform"]
    assert found.by_kind["tan"] == pytest.approx(found.by_kind["uniform"], rel=0.1)  # nearly flat


def test_the_error_is_that_of_the_table_in_the_graph() -> None:
    p, v = power_law(2, 1), values(2, 1, 48)
    found = chosen(p, v, ("tan",))
    levels, top = found.lookup.heads[0], found.lookup.top
    grid = GRIDS["255 steps"]
    assert grid is not None
    table = composed(levels, top, grid.over(top))
    wrong = (table[fine_codes(p, top)] - p) @ v
    assert found.error == pytest.approx(float(np.linalg.norm(wrong) / np.linalg.norm(p @ v)), rel=1e-4)
    assert found.rows == 48


def test_masked_zeros_decide_nothing() -> None:
    p, v = power_law(), values(4, 2, 48)
    masked = np.concatenate([p, np.zeros((4, 2, 24, 2000), np.float32)], -1)
    more = np.concatenate([v, values(4, 2, 2000, seed=9)], 2)
    plain, found = chosen(p, v), chosen(masked, more)
    assert found.lookup == plain.lookup
    assert found.error == pytest.approx(plain.error, rel=1e-4)
    assert percentiles(Histogram().observe(masked)) == percentiles(Histogram().observe(p))


def test_heads_get_their_own_levels_only_where_that_pays() -> None:
    alike = chosen(power_law(6, 2), values(6, 2, 48), by_head=True)
    assert len(alike.lookup.heads) == 1
    p, v = power_law(6, 2), values(6, 2, 48)
    p[:, 1] = np.sqrt(p[:, 1]) / np.sqrt(p[:, 1]).sum(-1, keepdims=True)  # a head that looks more evenly
    v[:, 1] *= 5
    apart = chosen(p, v, by_head=True)
    assert len(apart.lookup.heads) == 2
    assert apart.lookup.heads[1].top < 0.8 * apart.lookup.heads[0].top
    assert apart.error < chosen(p, v).error


def test_without_rows_the_histogram_decides() -> None:
    found = choose_levels(KINDS, 4, GRIDS["255 steps"], Histogram().observe(power_law()), AttentionRows(), by_head=True)
    assert found is not None
    assert (found.lookup.heads[0].kind, found.rows) == ("tan", 0)
    assert found.error < 0.75 * found.by_kind["uniform"]


def test_nothing_above_zero_gives_no_choice() -> None:
    zeros = Histogram().observe(np.zeros(9, np.float32))
    assert choose_levels(KINDS, 4, None, zeros, AttentionRows(), by_head=False) is None
