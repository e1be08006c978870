"""The default rotates streams where norms have large channels, and leaves equalization where that is enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qcompiler.driver import compile_model
from qcompiler.options import CompileOptions
from qcompiler.passes.sites.recipe import Recipe
from qcompiler.result import CompileResult
from qcompiler.session import Feeds
from tests.architectures import WIDTH, bert, canonical, vit
from tests.passes.equalize.test_decide import planted

RANDOM = np.random.default_rng(8)
PICTURES: list[Feeds] = [{"x": RANDOM.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(8)]
ROWS: list[Feeds] = [{"x": RANDOM.standard_normal((1, 6, WIDTH)).astype(np.float32)} for _ in range(8)]
OPTIONS = CompileOptions(target="ort-cpu-arm64", calib=PICTURES, threads=1, build_check="off", verify=False)


def compiled(**words: Any) -> CompileResult:
    return compile_model(planted(canonical(vit(2, embedded=True))), replace(OPTIONS, **words))


def test_a_stream_behind_norms_with_large_channels_is_rotated() -> None:
    result = compiled()
    facts = result.facts["plan"]
    assert list(result.plan.rotate) == ["residual"] and facts["recipe"]["rotate"] == "auto"
    assert facts["rotate"]["sqnr_judged"]["residual"] > 25.0 > facts["rotate"]["sqnr_judged"]["none"]
    assert "equalize" not in facts and not result.plan.equalize
    assert facts["recipe"]["equalize"] == result.options.equalize == "none"


def test_what_rotations_leave_below_the_goal_is_equalized() -> None:
    result = compiled(goal_sqnr=200.0)
    facts = result.facts["plan"]
    assert "residual" in result.plan.rotate
    assert facts["recipe"]["equalize"] == result.options.equalize == facts["equalize"]["method"] == "auto"


def test_words_of_the_user_stay() -> None:
    equalized = compiled(equalize="auto")
    assert not equalized.plan.rotate and equalized.plan.equalize
    assert not compiled(equalize="none").plan.rotate
    both = compiled(equalize="auto", rotate="residual").facts["plan"]
    assert both["rotate"]["how"] == "residual" and both["equalize"]["method"] == "auto"


def test_post_ln_streams_are_equalized_only() -> None:
    result = compile_model(planted(canonical(bert(1))), replace(OPTIONS, calib=ROWS))
    assert result.facts["plan"]["recipe"]["rotate"] == "none" and not result.plan.rotate
    assert result.facts["plan"]["equalize"]["method"] == "auto"


@pytest.mark.parametrize(
    ("own", "taken", "level", "expected"),
    [(True, "residual", 26.0, "none"), (True, "residual", 24.0, "auto"), (True, "none", 26.0, "auto"),
     (False, "residual", 26.0, "auto")],
)  # fmt: skip
def test_equalization_behind_rotations(own: bool, taken: str, level: float, expected: str) -> None:
    facts = {"taken": taken, "sqnr_judged": {"none": level, taken: level}}
    assert Recipe("auto", "auto", own=own).equalize_behind(facts, 25.0) == expected
    assert Recipe("auto", "none", own=own).equalize_behind({}, 25.0) == "auto"
