"""roll-up-steps: written out recurrences become one Scan."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.passes.recurrence.pipeline import recurrence_passes
from qcompiler.passes.recurrence.recognise_recurrences import RecogniseRecurrences
from qcompiler.passes.recurrence.roll_up_steps import RollUpSteps
from qcompiler.pipeline import Pipeline
from qcompiler.target import ScanForm
from tests.building import is_topological
from tests.equivalence import largest_error, ops_of, random_feeds
from tests.recurrences import SUM_BOUND, build

CHANNELS, STATES = 8, 2


def written_out(
    steps: int, *, backwards: bool = False, split: bool = False, last: bool = False, odd: str = "", extra: str = ""
) -> ir.Model:
    """A Mamba-1 block as a tracer leaves it.

    Args:
        split: x comes apart by one Split in place of a Gather each.
        last: The last state is an output.
        odd: Operator in place of Exp in the last step.
        extra: A line behind the steps.
    """
    lines = [f"xs_{t} = Gather <axis = 1> (x, i{t})" for t in range(steps)]
    if split:
        lines = [", ".join(f"xs_{t}_k" for t in range(steps)) + f" = Split <axis = 1, num_outputs = {steps}> (x)"]
        lines += [f"xs_{t} = Squeeze (xs_{t}_k, one)" for t in range(steps)]
    state = "zeros"
    for t in range(steps)[::-1] if backwards else range(steps):
        exp = odd if odd and t == steps - 1 else "Exp"
        lines += [
            f"d_{t} = Gather <axis = 1> (dt, i{t})", f"d_c_{t} = Unsqueeze (d_{t}, two)", f"dA_{t} = Mul (d_c_{t}, A)",
            f"a_{t} = {exp} (dA_{t})", f"B_{t} = Gather <axis = 1> (B, i{t})", f"B_r_{t} = Unsqueeze (B_{t}, one)",
            f"dx_{t} = Mul (d_{t}, xs_{t})", f"dx_c_{t} = Unsqueeze (dx_{t}, two)", f"b_{t} = Mul (dx_c_{t}, B_r_{t})",
            f"ah_{t} = Mul (a_{t}, {state})", f"h_{t} = Add (ah_{t}, b_{t})", f"C_{t} = Gather <axis = 1> (C, i{t})",
            f"C_c_{t} = Unsqueeze (C_{t}, two)", f"y_c_{t} = MatMul (h_{t}, C_c_{t})",
            f"y_s_{t} = Squeeze (y_c_{t}, two)", f"y_{t} = Unsqueeze (y_s_{t}, one)",
        ]  # fmt: skip
        state = f"h_{t}"
    joined = ", ".join(f"y_{t}" for t in range(steps))
    outputs = f", float[1,{CHANNELS},{STATES}] last" if last else ""
    lines += [f"y = Concat <axis = 1> ({joined})", extra, f"last = Identity ({state})" if last else ""]
    text = f"""agraph (float[1,{steps},{CHANNELS}] dt, float[1,{steps},{CHANNELS}] x, float[1,{steps},{STATES}] B,
                      float[1,{steps},{STATES}] C) => (float[1,{steps},{CHANNELS}] y{outputs}) {{
      {chr(10).join(lines)}
    }}"""
    constants = {f"i{t}": np.array(t) for t in range(steps)}
    return build(text, zeros=np.zeros((1, CHANNELS, STATES), np.float32), A=-np.ones((CHANNELS, STATES), np.float32),
                 one=np.array([1]), two=np.array([2]), **constants)  # fmt: skip


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_steps_become_one_scan(backwards: bool, split: bool, last: bool) -> None:
    model = written_out(6, backwards=backwards, split=split, last=last)
    before = model.clone()
    assert RollUpSteps().run(model).matched
    assert ops_of(model).count("Exp") == 1
    assert "Concat" not in ops_of(model)
    assert is_topological(model.graph)
    assert largest_error(before, model, random_feeds(before)) == 0.0
    InferShapes().run(model)
    assert RecogniseRecurrences().run(model).matched
    assert not RollUpSteps().run(model).modified


def test_all_rewrites_together() -> None:
    model = written_out(7, backwards=True)
    before = model.clone()
    RollUpSteps().run(model)
    InferShapes().run(model)
    model, runs = Pipeline(recurrence_passes(ScanForm(channels_last=True, chunk=4))).run(model)
    assert [run.name for run in runs if run.name == "lay-channels-last" and run.outcome.matched]
    assert largest_error(before, model, random_feeds(before)) <= SUM_BOUND


def test_part_of_the_steps() -> None:
    """x may be longer than the steps go: the Scan takes a slice of it."""
    model = written_out(5)
    for value in model.graph.inputs:
        assert value.shape is not None
        value.shape = ir.Shape([1, 9, value.shape[2]])
    InferShapes().run(model)
    before = model.clone()
    assert RollUpSteps().run(model).matched
    assert ops_of(model).count("Slice") == 4
    assert largest_error(before, model, random_feeds(before)) == 0.0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"odd": "Sigmoid"}, "Exp in the first step is Sigmoid or another in a later one"),
        ({"extra": "unused = Abs (a_2)"}, "a_2 of one step is read elsewhere"),
    ],
)
def test_near_miss_is_left_alone(given: dict[str, str], reason: str) -> None:
    model = written_out(6, **given)  # type: ignore[arg-type]
    before = ops_of(model)
    readers = {str(value.name): len(tuple(value.uses())) for node in model.graph for value in node.outputs}
    outcome = RollUpSteps().run(model)
    assert not outcome.modified
    assert [item.reason for item in outcome.skipped] == [f"6 steps are not one: {reason}"]
    assert ops_of(model) == before
    assert readers == {str(value.name): len(tuple(value.uses())) for node in model.graph for value in node.outputs}


def test_few_steps_stay() -> None:
    outcome = RollUpSteps().run(written_out(3))
    assert (outcome.modified, outcome.skipped) == (False, ())
