"""Quantizers of non-negative numbers by a list of levels: evenly spaced, by powers, and by a tangent (TanQ).

All have 2^b codes in ascending order, code 0 for exactly 0 and code N = 2^b - 1 for exactly `top`; values above are
clipped. Rounding is half to even, of what each quantizer maps its values to.

- uniform: N x / top.
- log2, log-sqrt2: k = round(-r log2(x / top)) with r of 1 and 2 (RepQ-ViT, arXiv:2212.08254), level top 2^(-k/r). One
  of the codes is the zero, so that b bits are b bits: k ends at N - 1.
- tan: TanQ of DopQ-ViT (arXiv:2408.03291) says that a tangent makes levels dense near 0 and near 1; its formula could
  not be read, so this one is derived. With u = x / top and a centre c:
      g(u) = (tan(alpha (u - c)) + tan(alpha c)) / (tan(alpha (1 - c)) + tan(alpha c)),   code = round(N g(u)),
  and levels are top g^-1(code / N). They are least dense at c; c = 1/2 is dense at both ends alike, alpha / sin(alpha)
  times as uniform ones; towards c = 1 all density moves to 0. alpha -> 0 is uniform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler.lookup import Levels

Reals = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]


class LevelQuantizer(Protocol):
    """2^bits levels between 0 and `top`."""

    @property
    def bits(self) -> int:
        """Width of a code."""

    @property
    def top(self) -> float:
        """The largest level."""

    def encode(self, values: npt.NDArray[Any]) -> Codes:
        """The code of each value, 0 to 2^bits - 1, rising with the value."""

    def levels(self) -> Reals:
        """The value of each code, rising, from 0 to `top`; shape (2^bits,)."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """Evenly spaced levels."""

    bits: int
    top: float

    def encode(self, values: npt.NDArray[Any]) -> Codes:
        """See LevelQuantizer."""
        last = _last(self.bits)
        return _bytes(last * _unit(values, self.top))

    def levels(self) -> Reals:
        """See LevelQuantizer."""
        return np.linspace(0.0, self.top, _last(self.bits) + 1)


@dataclass(frozen=True, slots=True)
class Logarithmic:
    """Levels that are powers of 2^(-1 / per_octave), and 0."""

    bits: int
    top: float
    per_octave: int

    def encode(self, values: npt.NDArray[Any]) -> Codes:
        """See LevelQuantizer."""
        unit, last = _unit(values, self.top), _last(self.bits)
        smallest = 2.0 ** (-(last + 1) / self.per_octave)  # rounds to a step below the last level, which is the zero
        steps = np.rint(-self.per_octave * np.log2(np.maximum(unit, smallest)))
        return _bytes(np.maximum(last - steps, 0))

    def levels(self) -> Reals:
        """See LevelQuantizer."""
        last = _last(self.bits)
        powers: Reals = self.top * 2.0 ** ((np.arange(last + 1) - last) / self.per_octave)
        powers[0] = 0.0
        return powers


@dataclass(frozen=True, slots=True)
class Tangent:
    """Levels that are least dense at `centre`, the more unevenly the nearer alpha max(c, 1 - c) is to pi / 2."""

    bits: int
    top: float
    alpha: float
    centre: float = 0.5

    def encode(self, values: npt.NDArray[Any]) -> Codes:
        """See LevelQuantizer."""
        below, above = self._ends()
        bent = (np.tan(self.alpha * (_unit(values, self.top) - self.centre)) + below) / (above + below)
        return _bytes(_last(self.bits) * np.clip(bent, 0.0, 1.0))

    def levels(self) -> Reals:
        """See LevelQuantizer."""
        below, above = self._ends()
        shares = np.linspace(0.0, 1.0, _last(self.bits) + 1)
        found: Reals = self.top * (self.centre + np.arctan(shares * (above + below) - below) / self.alpha)
        found[0], found[-1] = 0.0, self.top  # to the last bit
        return found

    def _ends(self) -> tuple[float, float]:
        return float(np.tan(self.alpha * self.centre)), float(np.tan(self.alpha * (1 - self.centre)))


def quantizer_of(levels: Levels) -> LevelQuantizer:
    """The quantizer that an entry of the plan describes."""
    if levels.kind == "tan":
        return Tangent(levels.bits, levels.top, levels.alpha, levels.centre)
    if levels.kind == "uniform":
        return Uniform(levels.bits, levels.top)
    return Logarithmic(levels.bits, levels.top, {"log2": 1, "log_sqrt2": 2}[levels.kind])


def decode(quantizer: LevelQuantizer, codes: npt.NDArray[Any]) -> Reals:
    """The level of each code."""
    return np.asarray(quantizer.levels()[codes])


def _last(bits: int) -> int:
    return (1 << bits) - 1


def _bytes(values: Reals) -> Codes:
    return np.asarray(np.rint(values), np.uint8)


def _unit(values: npt.NDArray[Any], top: float) -> Reals:
    return np.clip(np.asarray(values, np.float64) / top, 0.0, 1.0)
