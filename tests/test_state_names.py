"""Names by which states are paired."""

from __future__ import annotations

import pytest

from qcompiler.state_names import next_values


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("past_key_values.3.key", "present.3.key"),
        ("past_key_values.3.value", "present_key_values.3.value"),
        ("past_conv_state.0", "present_conv_state.0"),
        ("h_in", "h_out"),
        ("h", "new_h"),
        ("h", "next_h"),
        ("h", "h_next"),
    ],
)
def test_a_state_is_paired_with_its_next_value(given: str, made: str) -> None:
    assert next_values(["input_ids", given], ["logits", made]) == {given: made}


def test_an_output_is_the_next_value_of_one_input_only() -> None:
    assert next_values(["h", "h_in"], ["h_out"]) == {"h": "h_out"}


def test_other_names_are_no_states() -> None:
    assert next_values(["past", "x"], ["y", "present_1"]) == {}
