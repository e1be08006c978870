"""What rewrites are measured on: never what verification will use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.calibration.data import open_source
from qcompiler.calibration.first_samples import first_samples, why_not_measured
from qcompiler.calibration.inputs import input_specs
from qcompiler.calibration.split import hold_back
from tests.building import build

MODEL = build("m (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }")
FEEDS: list[dict[str, Any]] = [{"x": np.full((1, 2), index, np.float32)} for index in range(40)]


def ids(feeds: Any) -> list[float]:
    return [float(feed["x"][0, 0]) for feed in feeds]


def test_samples_held_back_for_verification_are_left_out() -> None:
    source = open_source(FEEDS, input_specs(MODEL))
    split = hold_back(source)
    calibration = ids(split)
    assert ids(first_samples(MODEL, source, 32, held_back=True)) == calibration[:32]
    assert not {*ids(split.validation)} & {*ids(first_samples(MODEL, source, 99, held_back=True))}


def test_with_data_of_its_own_for_verification_all_are_taken() -> None:
    source = open_source(FEEDS, input_specs(MODEL))
    assert ids(first_samples(MODEL, source, 12, held_back=False)) == list(range(12))


@pytest.mark.parametrize(("data", "reason"), [(FEEDS, ""), (iter(FEEDS), "the data can be read only once")])
def test_data_that_can_be_read_once_is_not_measured_on(data: Any, reason: str) -> None:
    assert why_not_measured(MODEL, open_source(data, input_specs(MODEL))) == reason
