"""Inputs at other sizes: valid for the module that took the example."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")
import torch

from qcompiler.torch_export.trials import resized, tracing_sizes, trial_sizes


def test_sizes_that_are_tried() -> None:
    example = {"batch_size": 1, "sequence_length": 4, "past_sequence_length": 0, "width": 8}
    assert trial_sizes(example, [{"width": 5}]) == [
        example,
        {**example, "batch_size": 2},
        {**example, "sequence_length": 7},
        {**example, "past_sequence_length": 3},
        {**example, "width": 16},
        {**example, "sequence_length": 1},
        {**example, "width": 5},
    ]
    assert tracing_sizes(example) == {**example, "batch_size": 2, "past_sequence_length": 4}
    assert trial_sizes({}) == [{}]


def test_values_stay_within_what_the_example_shows() -> None:
    ids = torch.tensor([[3, 9, 4]])
    mask = torch.tensor([[1, 1, 0]])
    positions = torch.tensor([[5, 6, 7]])
    floats = torch.randn(1, 3, generator=torch.Generator().manual_seed(0)) * 10 + 100
    named = [("input_ids", ids), ("attention_mask", mask), ("position_ids", positions), ("x", floats)]
    axes = {name: {0: "n", 1: "t"} for name, _ in named}
    got = dict(resized(named, axes, {"n": 50, "t": 20}, seed=1))
    assert all(tensor.shape == (50, 20) for tensor in got.values())
    assert set(got["input_ids"].flatten().tolist()) == {3, 4, 9}
    assert got["attention_mask"][7].tolist() == ([1, 1, 0] * 7)[:20]
    assert got["position_ids"][3].tolist() == list(range(5, 25))
    assert abs(float(got["x"].mean()) - float(floats.mean())) < 2
    again = dict(resized(named, axes, {"n": 50, "t": 20}, seed=1))
    assert all(torch.equal(got[name], again[name]) for name in got)
    assert dict(resized(named, axes, {"n": 1, "t": 3}, seed=1))["x"] is floats


def test_empty_examples_grow() -> None:
    past = torch.zeros(1, 2, 0, 4)
    got = dict(resized([("past", past)], {"past": {2: "p"}}, {"p": 3}, seed=0))["past"]
    assert got.shape == (1, 2, 3, 4) and float(got.abs().sum()) > 0
