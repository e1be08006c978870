"""lay-channels-last: the state of a selective scan as [N, channels]."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.passes.recurrence.group_factors import GroupFactors
from qcompiler.passes.recurrence.hoist_from_scan import HoistFromScan
from qcompiler.passes.recurrence.lay_channels_last import LayChannelsLast
from tests.equivalence import largest_error, random_feeds
from tests.passes.recurrence.test_hoist_from_scan import body_ops
from tests.recurrences import CHANNELS, MAMBA_STEP, STATES, SUM_BOUND, mamba, mamba2


def hoisted(model: ir.Model) -> ir.Model:
    for item in (GroupFactors(), HoistFromScan(), InferShapes()):
        item.run(model)
    return model


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("outputs", ["", f", float[{CHANNELS},{STATES}] last"])
def test_state_turns(backwards: bool, outputs: str) -> None:
    model = hoisted(mamba(backwards, outputs=outputs))
    before = model.clone()
    assert LayChannelsLast().run(model).matched
    InferShapes().run(model)
    assert body_ops(model) == ["Mul", "Exp", "Mul", "MatMul", "Add", "MatMul"]
    scan = next(node for node in model.graph if node.op_type == "Scan")
    assert scan.outputs[0].shape == ir.Shape([STATES, CHANNELS])
    assert [value.name for value in model.graph.outputs] == [value.name for value in before.graph.outputs]
    assert largest_error(before, model, random_feeds(before, {"T": 7})) <= SUM_BOUND
    assert not LayChannelsLast().run(model).modified


def test_sum_as_product_turns_too() -> None:
    step = MAMBA_STEP.replace("C_r = Unsqueeze (C_t, zero)", "C_r = Unsqueeze (C_t, one)")
    step = step.replace("hC = Mul (h_next, C_r)", "hC = MatMul (h_next, C_r)")
    step = step.replace("ReduceSum <keepdims = 0> (hC, one)", "Squeeze (hC, one)")
    model = hoisted(mamba(body=step))
    before = model.clone()
    assert LayChannelsLast().run(model).matched
    assert largest_error(before, model, random_feeds(before, {"T": 7})) <= SUM_BOUND


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("h_next = Add (ah, b)", "s = Add (ah, b)\n h_next = Softmax <axis = 0> (s)", "Softmax makes the next state"),
        ("(hC, one)", "(hC, zero)\n extra = Identity (h_next)", "an output is not a sum over the state"),
        ("hC = Mul (h_next, C_r)", "hC = Mul (h_next, a)", "the state meets more than one vector"),
    ],
)
def test_near_miss_is_left_alone(old: str, new: str, reason: str) -> None:
    step = MAMBA_STEP.replace(old, new)
    if "extra" in new:
        step = step.replace("sum = ReduceSum <keepdims = 0> (hC, zero)", "sum = Softplus (dt_t)")
    model = hoisted(mamba(body=step))
    outcome = LayChannelsLast().run(model)
    assert not outcome.modified
    assert [item.reason for item in outcome.skipped] == [reason]


def test_good_layouts_stay() -> None:
    outcome = LayChannelsLast().run(hoisted(mamba2()))
    assert [item.reason for item in outcome.skipped] == ["its state is laid out well: 8 x 16"]
