"""Shapes as users type them."""

from __future__ import annotations

from typing import Any

import pytest

from qcompiler.errors import UsageError
from qcompiler.shapes import join_profiles, parse_shapes, split_shapes


@pytest.mark.parametrize(
    ("typed", "profiles"),
    [
        ("x:1x3x224x224", {"x": ((1, 3, 224, 224),) * 3}),
        ("x:1x8,4x8,16x8", {"x": ((1, 8), (4, 8), (16, 8))}),
        (["a:2", "b:3x1"], {"a": ((2,),) * 3, "b": ((3, 1),) * 3}),
        ("a:1x2,b:3x4", {"a": ((1, 2),) * 3, "b": ((3, 4),) * 3}),
        ("scope/in:0:1X2", {"scope/in:0": ((1, 2),) * 3}),
        ({"x": [1, 3]}, {"x": ((1, 3),) * 3}),
        ({"x": [[1, 3], [2, 3], [4, 3]]}, {"x": ((1, 3), (2, 3), (4, 3))}),
        ({"x": "1x3,2x3,4x3"}, {"x": ((1, 3), (2, 3), (4, 3))}),
    ],
)
def test_forms(typed: Any, profiles: dict[str, Any]) -> None:
    assert parse_shapes(typed, "--shape") == profiles


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("1x3", "not a shape"), ("x:", "not a shape"), (":1x2", "not a shape"), ("x:1xtwo", "not a shape"),
        ("x:0x3", "below 1"), ("x:-1x3", "below 1"), ("x:1x3,2x3", "has 2 shapes"), ("x:1x3,2x3,4", "differ in rank"),
        ("x:4x3,2x3,8x3", "not ordered"), ({"x": 3}, "expected a shape"), ({"x": [0, 3]}, "below 1"),
    ],
)  # fmt: skip
def test_other_forms_are_usage_errors(typed: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_shapes(typed, "--shape")


def test_missing_sides_take_the_nearest() -> None:
    assert join_profiles({"x": (1, 8)}, {}, {"x": (4, 8)}, "")["x"] == ((1, 8), (4, 8), (4, 8))
    assert join_profiles({}, {"x": (2, 8)}, {}, "")["x"] == ((2, 8),) * 3
    assert split_shapes(["a:1x2,b:3"], "") == {"a": [(1, 2)], "b": [(3,)]}
