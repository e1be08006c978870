"""The calibration table: merging, and the same bytes for the same content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.table import CalibrationTable
from qcompiler.errors import CalibrationError


def _table(seed: int, *names: str, model: str = "m") -> CalibrationTable:
    random = np.random.default_rng(seed)
    tensors = {name: Histogram().observe(random.standard_normal(50).astype(np.float32)) for name in names}
    return CalibrationTable(model, seed, tensors, {f"scan{seed}": "in a body"})


def test_merging_is_associative_and_commutative() -> None:
    a, b, c = _table(1, "x", "y"), _table(2, "y", "z"), _table(3, "x")
    merged = a.merge(b).merge(c)
    assert merged.to_json() == a.merge(b.merge(c)).to_json() == c.merge(b).merge(a).to_json()
    assert merged.samples == 6
    assert merged.tensors["y"].count == 100
    assert merged.unobserved.keys() == {"scan1", "scan2", "scan3"}


def test_saving_and_loading_gives_the_same_table_and_bytes(tmp_path: Path) -> None:
    table = _table(1, "x", "/layer.0/ü").merge(CalibrationTable("m", 1, {"empty": Histogram()}))
    table.save(tmp_path / "table.json")
    loaded = CalibrationTable.load(tmp_path / "table.json")
    assert loaded.to_json() == table.to_json() == (tmp_path / "table.json").read_bytes()
    assert loaded.tensors["x"].range() == table.tensors["x"].range()
    assert np.array_equal(loaded.tensors["x"].counts, table.tensors["x"].counts)
    assert loaded.merge(table).tensors["empty"].count == 0


def test_tables_of_different_models_do_not_merge() -> None:
    with pytest.raises(CalibrationError, match="different models"):
        _table(1, "x").merge(_table(2, "x", model="other"))
    assert _table(1, "x").merge(CalibrationTable()).model == "m"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"schema": "other/1"}',
        b'{"schema": "qcompile-calibration/1", "model": "m"}',
        b"\x80\x04pickle",
    ],
)
def test_what_is_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(CalibrationError, match="not a calibration table"):
        CalibrationTable.from_json(data)


def test_missing_files_and_bins_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        CalibrationTable.load(tmp_path / "none.json")
    with pytest.raises(CalibrationError, match="cannot be written"):
        CalibrationTable().save(tmp_path / "no" / "table.json")
    data = _table(1, "x").to_json().replace(b'"bins":[', b'"bins":[-1,')
    with pytest.raises(CalibrationError, match="bin that does not exist"):
        CalibrationTable.from_json(data)
