"""Measuring ends as soon as the best is known, and no sooner."""

from __future__ import annotations

import numpy as np

from qcompiler.passes.quant.racing import race


def run(table: dict[str, list[float]], fewest: int = 2, deviation: float = 1.0) -> tuple[str, dict[str, int]]:
    samples = len(next(iter(table.values())))
    found = race(table, lambda item, index: table[item][index], samples, fewest=fewest, deviation=deviation)
    assert found.best in found.alive
    return found.best, {item: len(levels) for item, levels in found.measured.items()}


def test_what_is_clearly_behind_is_measured_twice() -> None:
    assert run({"a": [3.0] * 16, "b": [9.0] * 16, "c": [8.8] * 16}, fewest=8) == ("b", {"a": 2, "b": 8, "c": 8})


def test_samples_may_scatter_where_differences_do_not() -> None:
    level = np.random.default_rng(0).normal(20, 8, 16)
    best, counts = run({"a": list(level), "b": list(level + 0.4)})
    assert (best, counts) == ("b", {"a": 2, "b": 2})


def test_a_gain_hidden_in_scatter_takes_all_samples() -> None:
    rare = [0.0, 0.0, 0.0, 14.0] * 4  # what helps one sample in four
    best, counts = run({"none": [1.5] * 16, "rare": rare}, fewest=4, deviation=4.0)
    assert (best, counts) == ("rare", {"none": 16, "rare": 16})


def test_of_equal_candidates_the_first_wins() -> None:
    assert run({"first": [1.0] * 4, "second": [1.0] * 4})[0] == "first"
