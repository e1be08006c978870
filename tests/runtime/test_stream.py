"""Streams: states of each run are the next run's inputs, beginning at zero or where a caller says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler import runtime
from qcompiler.errors import UsageError
from qcompiler.runtime.signature import Tensor
from qcompiler.runtime.states import pair_states

GAIN = np.asarray([1, -1], np.float32)


def column(*values: float) -> np.ndarray:
    return np.asarray(values, np.float32)[:, None]


def test_states_are_carried_from_zero(stream_bundle: Path) -> None:
    stream = runtime.load(stream_bundle).stream()
    sums = [stream.run({"x": column(value), "gain": GAIN})["y"].item() for value in (1, 2, 3, 4, 5)]
    assert sums == [1, 3, 6, 10, 14]  # the last four values
    assert stream.states["past_state_0"].tolist() == [[3, 4, 5]]
    assert stream.states["past_key_values_0_key"].shape == (1, 5, 2)
    assert stream.states["past_key_values_0_key"][0, 2].tolist() == [3, -3]


def test_two_streams_and_a_reset_do_not_mix(stream_bundle: Path) -> None:
    model = runtime.load(stream_bundle)
    one, two = model.stream(), model.stream()
    for stream, rows in ((one, (1.0,)), (two, (7.0, 8.0))):
        stream.run({"x": column(*rows), "gain": GAIN})
    assert one.run({"x": column(1), "gain": GAIN})["y"].tolist() == [[2]]
    assert two.run({"x": column(1, 1), "gain": GAIN})["y"].tolist() == [[8], [9]]
    one.reset()
    assert one.run({"x": column(5, 5, 5), "gain": GAIN})["y"].tolist() == [[5], [5], [5]]


def test_first_states_by_input_or_output_name(stream_bundle: Path) -> None:
    model = runtime.load(stream_bundle)
    first = {"present_state_0": np.ones((1, 3), np.float32)}
    assert model.stream(first).run({"x": column(1), "gain": GAIN})["y"].tolist() == [[4]]
    given = {"past_state_0": np.ones((1, 3), np.float32), "past_key_values_0_key": np.zeros((1, 4, 2), np.float32)}
    stream = model.stream(given)
    stream.run({"x": column(1), "gain": GAIN})
    assert stream.states["past_key_values_0_key"].shape == (1, 5, 2)


def test_what_a_stream_cannot_do_is_one_line(stream_bundle: Path, bundle: Path) -> None:
    model = runtime.load(stream_bundle)
    with pytest.raises(UsageError, match="the model carries no state"):
        runtime.load(bundle).stream()
    with pytest.raises(UsageError, match="'other' is no state of the model"):
        model.stream({"other": GAIN})
    with pytest.raises(UsageError, match="no input 'x' with an output 'nothing'"):
        model.stream(pairs={"x": "nothing"})
    with pytest.raises(UsageError, match="the input 'x' is missing"):
        model.stream().run({"gain": GAIN})
    with pytest.raises(UsageError, match=r"where B is 1"):
        model.stream({"past_state_0": np.ones((2, 3), np.float32)}).run({"x": column(1), "gain": GAIN})
    with pytest.raises(UsageError, match=r"the inputs don't tell the size 'B' of this state"):
        model.stream(pairs={**model.states, "x": "y"}).run({"gain": GAIN})


def tensors(*names: str, shape: tuple[int | str, ...] = ("B", 3), dtype: str = "float") -> list[Tensor]:
    return [Tensor(name, dtype, shape) for name in names]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("past_key_values.3.key", "present.3.key"), ("past_key_values.3.key", "present_key_values.3.key"),
        ("past_conv_state.0", "present_conv_state.0"), ("past.1", "present.1"), ("h_in", "h_out"), ("h", "h_out"),
        ("h", "new_h"), ("h", "next_h"), ("h", "h_next"),
    ],
)  # fmt: skip
def test_names_that_pair(name: str, output: str) -> None:
    assert pair_states(tensors("x", name), tensors("y", output)) == {name: output}


def test_near_misses_do_not_pair() -> None:
    assert pair_states(tensors("past_a"), tensors("present_b")) == {}
    assert pair_states(tensors("past_a"), tensors("present_a", dtype="float16")) == {}
    assert pair_states(tensors("past_a"), tensors("present_a", shape=("B", 4))) == {}
    assert pair_states(tensors("past_a"), tensors("present_a", shape=("B", 3, 1))) == {}
    assert pair_states(tensors("pastry", "x"), tensors("present", "y")) == {}
