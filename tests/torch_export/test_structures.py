"""Nests and caches as flat tensors with the names that runtimes know, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")
import torch
from torch import Tensor

from qcompiler.errors import UsageError
from qcompiler.torch_export.structures import flatten, rebuild


class State(NamedTuple):
    conv_state: Tensor
    ssm_state: Tensor


@dataclass
class Result:
    hidden_states: tuple[Tensor, ...]
    loss: Tensor | None = None


def tensors(count: int) -> list[Tensor]:
    return [torch.full((2,), float(i)) for i in range(count)]


def names(name: str, value: Any, *, output: bool = False) -> list[str]:
    return [key for key, _ in flatten(name, value, output=output)]


def test_names_of_pairs_states_and_nests() -> None:
    a, b, c, d = tensors(4)
    pairs, states = [(a, b), (c, d)], [State(a, b), State(c, d)]
    keys = ["past_key_values.0.key", "past_key_values.0.value", "past_key_values.1.key", "past_key_values.1.value"]
    assert names("past_key_values", pairs) == keys
    assert names("past_key_values", pairs, output=True) == [key.replace("past_key_values", "present") for key in keys]
    assert names("states", states) == [
        "past_conv_state.0", "past_ssm_state.0", "past_conv_state.1", "past_ssm_state.1",
    ]  # fmt: skip
    assert names("output_1", states, output=True)[-1] == "present_ssm_state.1"
    assert names("result", Result((a, b)), output=True) == ["result.hidden_states.0", "result.hidden_states.1"]
    assert names("boxes", {"left": a, "right": [b, {"deep": c}]}) == [
        "boxes.left",
        "boxes.right.0",
        "boxes.right.1.deep",
    ]


def test_rebuilding_keeps_order_kinds_and_constants() -> None:
    a, b, c, _ = tensors(4)
    nest = {"x": a, "flag": True, "states": [State(b, c)], "none": None, "pair": (a, 3)}
    old = [tensor for _, tensor in flatten("", nest)]
    found = rebuild(nest, iter([tensor + 10 for tensor in old]))
    assert isinstance(found["states"][0], State) and isinstance(found["pair"], tuple)
    assert (found["flag"], found["none"], found["pair"][1]) == (True, None, 3)
    again = [tensor for _, tensor in flatten("", found)]
    assert [float(new[0] - before[0]) for before, new in zip(old, again, strict=True)] == [10.0] * 4


def test_what_is_no_tensor_is_named() -> None:
    with pytest.raises(UsageError, match="an output 'loss' is a float"):
        flatten("loss", 0.5, output=True)
    with pytest.raises(UsageError, match="an input 'x' is a object"):
        flatten("x", object())


def test_caches_of_transformers_are_taken_apart_and_not_shared() -> None:
    cache_utils = pytest.importorskip("transformers.cache_utils", reason="transformers is not installed")
    cache = cache_utils.DynamicCache([(torch.ones(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))])
    flat = flatten("past_key_values", cache)
    assert [key for key, _ in flat] == ["past_key_values.0.key", "past_key_values.0.value"]
    made = rebuild({"past_key_values": cache}, iter(tensor for _, tensor in flat))["past_key_values"]
    made.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4), 0)
    assert made.get_seq_length() == 4 and cache.get_seq_length() == 3
    assert names("past_key_values", made, output=True) == ["present.0.key", "present.0.value"]
