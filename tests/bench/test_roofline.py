"""Boards give the rates that their makers publish; the larger of the three times bounds a region."""

from __future__ import annotations

import pytest

from qcompiler.bench.boards import BOARDS, Board
from qcompiler.bench.regions import Region
from qcompiler.bench.roofline import estimate


@pytest.mark.parametrize(
    ("name", "dense_int8", "fp32"), [("agx", 85e12, 5.3e12), ("nano", 20e12, 1.28e12), ("nano-super", 33.5e12, 2.1e12)]
)
def test_published_rates(name: str, dense_int8: float, fp32: float) -> None:
    board = next(item for item in BOARDS if item.name == name)
    assert board.int8 == pytest.approx(dense_int8, rel=0.03)
    assert board.fp16 == board.int8 / 2
    assert board.vector == pytest.approx(2 * fp32, rel=0.03)


def test_what_bounds_a_region() -> None:
    board = Board("b", "a board", int8=4e9, fp16=2e9, vector=1e9, bandwidth=1e9)
    small = Region("small", "MatMul", [0], matrix=8e9, vector=1e9, bytes=1e9)
    same = Region("same", "MatMul", [1], matrix=8e9, vector=1e9, bytes=1e9, integer=True)
    copy = Region("copy", "Transpose", [2], bytes=3e9)
    wide = Region("wide", "Erf", [3], vector=2e9, bytes=1e9)
    found = estimate([small, same, copy, wide], board)
    assert [(item.seconds, item.by) for item in found.bounds] == [
        (4.0, "matrix"), (2.0, "matrix"), (3.0, "memory"), (2.0, "vector")
    ]  # fmt: skip
    assert found.seconds == 11.0
    assert found.share("matrix") == pytest.approx(6 / 11)
    assert estimate([], board).share("memory") == 0.0
