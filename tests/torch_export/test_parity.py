"""The measure of difference, and that it cannot pass a wrong graph."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")
from qcompiler.torch_export.parity import difference


@pytest.mark.parametrize(
    ("expected", "got", "figure"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.25),
        ([0.1, 0.2], [0.1, 0.25], 0.05),
        ([[1.0]], [1.0], np.inf),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
        ([np.inf, 1.0], [-np.inf, 1.0], np.inf),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([1.0, 1.0], [np.nan, 1.0], np.inf),
        ([], [], 0.0),
        ([3, 4], [3, 5], 0.25),
    ],
)
def test_difference(expected: list[float], got: list[float], figure: float) -> None:
    assert difference(np.asarray(expected), np.asarray(got)) == pytest.approx(figure)
