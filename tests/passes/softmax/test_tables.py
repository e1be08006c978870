"""Tables: levels composed with both grids, and a bound that no value exceeds."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.lookup import Levels, Lookup
from qcompiler.passes.softmax.level_quantizers import decode, quantizer_of
from qcompiler.passes.softmax.tables import composed, fine_codes, largest_error, on_grid, table_of
from qcompiler.scheme import INT8_ACTIVATION, QuantScheme, TensorQuant

TAN, LOG = Levels("tan", 4, 0.7, 2.6, 0.5), Levels("log_sqrt2", 4, 0.7)


def grid(top: float, zero: int | None = None) -> TensorQuant:
    scheme = INT8_ACTIVATION if zero is None else QuantScheme(symmetric=False)
    scale = np.asarray(top / (127 - (zero or 0)), np.float32)
    return TensorQuant(scheme, scale, None if zero is None else np.asarray(zero, np.int8))


@pytest.mark.parametrize("levels", [TAN, LOG, Levels("uniform", 3, 0.5)])
@pytest.mark.parametrize("held", [None, grid(0.7), grid(0.7, -128)])
def test_the_bound_holds_for_any_value_and_is_reached(levels: Levels, held: TensorQuant | None) -> None:
    values = np.linspace(0, 1, 200_001)
    quantizer = quantizer_of(levels)
    found = np.abs(composed(levels, 0.7, held)[fine_codes(values, 0.7)] - decode(quantizer, quantizer.encode(values)))
    bound = largest_error(levels, 0.7, held)
    assert found.max() <= bound + 1e-6
    assert found.max() >= 0.75 * bound  # a border between levels on the border of a cell is met from one side


def test_zero_and_top_stay_exact_on_both_grids() -> None:
    for held in (None, grid(0.7), grid(0.7, -128)):
        row = composed(TAN, 0.7, held)
        assert row[0] == 0
        assert row[-1] == pytest.approx(0.7, rel=1e-6)
        assert (np.diff(row) >= 0).all()
        assert len(set(row.tolist())) == 16


def test_entries_lie_on_the_grid_and_never_beyond() -> None:
    held = grid(0.5)
    codes = on_grid(np.array([0.0, 0.3, 0.9]), held) / float(held.scale)
    np.testing.assert_allclose(codes, [0, 76, 127])


def test_heads_with_equal_levels_share_a_row() -> None:
    table = table_of(Lookup((TAN, LOG, TAN, TAN), 0.7), grid(0.7))
    assert table.entries.shape == (2, 256)
    assert table.rows == (0, 1, 0, 0)
    assert table.entries.dtype == np.float32
