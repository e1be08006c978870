"""The arithmetic of the quantizers: ends exact, codes and levels rising, limits that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcompiler.lookup import Levels
from qcompiler.passes.softmax.level_quantizers import (
    LevelQuantizer,
    Logarithmic,
    Tangent,
    Uniform,
    decode,
    quantizer_of,
)

BITS = range(3, 9)


def all_kinds(bits: int, top: float) -> list[LevelQuantizer]:
    tangents = [Tangent(bits, top, 0.98 * math.pi), Tangent(bits, top, 1.9, 0.8)]
    return [Uniform(bits, top), Logarithmic(bits, top, 1), Logarithmic(bits, top, 2), *tangents]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("top", [1.0, 0.37, 3e-4])
def test_ends_are_exact_and_levels_rise(bits: int, top: float) -> None:
    values = np.linspace(0, 1.3 * top, 4001)
    for quantizer in all_kinds(bits, top):
        levels = quantizer.levels()
        assert levels.shape == (2**bits,)
        assert (levels[0], levels[-1]) == (0.0, top)
        assert (np.diff(levels) > 0).all()
        codes = quantizer.encode(values).astype(int)
        assert codes[0] == 0
        assert (np.diff(codes) >= 0).all()
        assert (codes[values >= top] == 2**bits - 1).all()


@pytest.mark.parametrize("bits", BITS)
def test_levels_are_their_own_nearest(bits: int) -> None:
    for quantizer in all_kinds(bits, 0.8):
        np.testing.assert_array_equal(quantizer.encode(quantizer.levels()), np.arange(2**bits))


@pytest.mark.parametrize("centre", [0.5, 0.8, 1.0])
def test_a_flat_tangent_is_uniform(centre: float) -> None:
    flat, even = Tangent(4, 0.9, 1e-3, centre), Uniform(4, 0.9)
    np.testing.assert_allclose(flat.levels(), even.levels(), atol=1e-6)
    values = np.linspace(0, 0.9, 999)
    assert (flat.encode(values) != even.encode(values)).mean() < 0.005


def test_the_centred_tangent_is_the_published_form() -> None:
    """g(u) = 1/2 + tan(alpha (u - 1/2)) / (2 tan(alpha / 2)), level density alpha / sin(alpha) at both ends."""
    alpha, values = 2.4, np.linspace(0, 1, 501)
    wanted = np.rint(15 * (0.5 + np.tan(alpha * (values - 0.5)) / (2 * np.tan(alpha / 2))))
    np.testing.assert_array_equal(Tangent(4, 1.0, alpha).encode(values), wanted)
    gaps = np.diff(Tangent(8, 1.0, alpha).levels())
    assert gaps[0] == pytest.approx(gaps[-1])
    assert 1 / (255 * gaps[0]) == pytest.approx(alpha / math.sin(alpha), rel=0.03)
    assert 1 / (255 * gaps[127]) == pytest.approx(alpha / (2 * math.tan(alpha / 2)), rel=0.03)


def test_a_centre_near_one_is_dense_at_zero() -> None:
    gaps = np.diff(Tangent(4, 1.0, 1.9, 0.8).levels())
    assert gaps[0] < gaps[-1] / 5


@pytest.mark.parametrize(("per_octave", "power"), [(1, 2.0), (2, math.sqrt(2))])
def test_logarithms_are_powers_below_the_top(per_octave: int, power: float) -> None:
    quantizer = Logarithmic(3, 0.6, per_octave)
    np.testing.assert_allclose(quantizer.levels()[1:], 0.6 / power ** np.arange(6, -1, -1))
    found = quantizer.encode(np.array([0.6, 0.6 / power, 0.6 / power**6, 0.6 / power**7.1, 1e-30, 0.0]))
    assert found.tolist() == [7, 6, 1, 0, 0, 0]


def test_an_entry_of_the_plan_names_its_quantizer() -> None:
    assert quantizer_of(Levels("tan", 4, 0.5, 2.0, 0.5)) == Tangent(4, 0.5, 2.0, 0.5)
    assert quantizer_of(Levels("log2", 3, 0.5)) == Logarithmic(3, 0.5, 1)
    assert quantizer_of(Levels("log_sqrt2", 3, 0.5)) == Logarithmic(3, 0.5, 2)
    assert quantizer_of(Levels("uniform", 3, 0.5)) == Uniform(3, 0.5)
    np.testing.assert_array_equal(decode(Uniform(3, 7.0), np.array([[3, 7]])), [[3.0, 7.0]])
