"""Which axes vary: by name and shape, or as the user says; sizes that agree, and sums."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")
import torch

from qcompiler.errors import UsageError
from qcompiler.torch_export.dynamic_axes import dynamic_axes, shape_at, sizes_of


def inputs(**shapes: tuple[int, ...]) -> list[tuple[str, torch.Tensor]]:
    """Integers where the name says so, else floats; `__` stands for a dot."""
    return [
        (name.replace("__", "."), torch.zeros(shape, dtype=torch.int64 if name.endswith(("ids", "mask")) else None))
        for name, shape in shapes.items()
    ]


DECODER = inputs(input_ids=(2, 3), attention_mask=(2, 8), past_key_values__0__key=(2, 4, 5, 16))


def test_auto_knows_decoders() -> None:
    axes = dynamic_axes("auto", DECODER)
    assert axes == {
        "input_ids": {0: "batch_size", 1: "sequence_length"},
        "attention_mask": {0: "batch_size", 1: "total_sequence_length"},
        "past_key_values.0.key": {0: "batch_size", 2: "past_sequence_length"},
    }
    sizes = sizes_of(axes, DECODER)
    assert sizes == {"batch_size": 2, "sequence_length": 3, "past_sequence_length": 5}
    larger = {**sizes, "past_sequence_length": 0, "batch_size": 7}
    assert shape_at(DECODER[1][1], axes["attention_mask"], larger) == (7, 3)
    assert shape_at(DECODER[2][1], axes["past_key_values.0.key"], larger) == (7, 4, 0, 16)


def test_auto_takes_a_leading_size_that_inputs_share_for_the_batch() -> None:
    axes = dynamic_axes("auto", inputs(pixels=(2, 3, 8, 8), table=(5, 4), position_ids=(1, 6)))
    assert axes == {"pixels": {0: "batch_size"}, "position_ids": {1: "sequence_length"}}


def test_one_step_with_states_keeps_its_single_token() -> None:
    step = inputs(input_ids=(2, 1), past_ssm_state__0=(2, 4, 4))
    assert dynamic_axes("auto", step) == {"input_ids": {0: "batch_size"}, "past_ssm_state.0": {0: "batch_size"}}


def test_words_and_mappings() -> None:
    assert dynamic_axes(None, DECODER) == {}
    assert dynamic_axes("batch", DECODER)["input_ids"] == {0: "batch_size"}
    assert dynamic_axes({"input_ids": {-1: "t"}, "attention_mask": [0]}, DECODER) == {
        "input_ids": {1: "t"}, "attention_mask": {0: "attention_mask_dim_0"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [
        ({"input_ids": {0: "n"}, "attention_mask": {1: "n"}}, "'n' is 2 and, in 'attention_mask', 8"),
        ({"attention_mask": {1: "a + b"}}, "nothing has the size 'a'"),
        ({"input_ids": {0: "a", 1: "b"}, "attention_mask": {1: "a + b"}}, "is 8, not a=2 . b=3"),
        ({"input_ids": {0: 3}}, "needs a name, not 3"),
    ],
)
def test_sizes_that_contradict_each_other(dynamic: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sizes_of(dynamic_axes(dynamic, DECODER), DECODER)


def test_sums_by_name() -> None:
    axes = dynamic_axes(
        {"input_ids": {1: "new"}, "past_key_values.0.key": {2: "old"}, "attention_mask": {1: "old+new"}}, DECODER
    )
    assert sizes_of(axes, DECODER) == {"new": 3, "old": 5}
