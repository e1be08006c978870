"""hoist-from-scan and group-factors: what leaves the body of a Scan, what stays, and why."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.passes.recurrence.group_factors import GroupFactors
from qcompiler.passes.recurrence.hoist_from_scan import HoistFromScan
from tests.equivalence import largest_error, random_feeds
from tests.recurrences import MAMBA_STEP, SUM_BOUND, build, mamba, mamba2


def body_ops(model: ir.Model) -> list[str]:
    """Operators of the only Scan's body."""
    scan = next(node for node in model.graph if node.op_type == "Scan")
    return [node.op_type for node in scan.attributes["body"].as_graph()]


@pytest.mark.parametrize("backwards", [False, True])
def test_axes_products_and_skip_leave_the_body(backwards: bool) -> None:
    model = mamba(backwards)
    before = model.clone()
    assert GroupFactors().run(model).matched
    assert HoistFromScan().run(model).matched
    InferShapes().run(model)
    assert body_ops(model) == ["Mul", "Exp", "Mul", "Mul", "Add", "Mul", "ReduceSum"]
    assert [value.name for value in model.graph.outputs] == ["out"]
    assert largest_error(before, model, random_feeds(before, {"T": 7})) <= SUM_BOUND
    for item in (GroupFactors(), HoistFromScan()):
        assert not item.run(model).modified


def test_all_steps_together_are_not_larger() -> None:
    """exp(dt A) for all steps is STATES times as large as dt: it stays in the body."""
    model = mamba()
    assert HoistFromScan().run(model).matched
    assert "Exp" not in [node.op_type for node in model.graph]


def test_projection_leaves_whatever_its_size() -> None:
    projected = "row = MatMul (dt_t, W)\n dt_p = Softplus (row)\n dt_c = Unsqueeze (dt_p, one)"
    step = MAMBA_STEP.replace("dt_c = Unsqueeze (dt_t, one)", projected)
    model = mamba(body=step)
    weight = ir.tensor(np.random.default_rng(0).normal(size=(12, 12)).astype(np.float32), name="W")
    node = next(node for node in model.graph.all_nodes() if node.op_type == "MatMul")
    value = ir.Value(name="W", const_value=weight, type=ir.TensorType(weight.dtype), shape=ir.Shape([12, 12]))
    model.graph.register_initializer(value)
    node.replace_input_with(1, value)
    InferShapes().run(model)
    before = model.clone()
    assert HoistFromScan().run(model).matched
    assert "MatMul" in [node.op_type for node in model.graph]
    assert "MatMul" not in body_ops(model)
    assert largest_error(before, model, random_feeds(before, {"T": 5})) <= SUM_BOUND


def test_two_directions_do_not_meet() -> None:
    """x read forwards times w read backwards is no product of all steps."""
    model = build(
        """agraph (float[T,4] x, float[T,4] w) => (float[T,4] y) {
          last, y = Scan <num_scan_inputs = 2, scan_input_directions = [0, 1],
                          body = b (float[4] h, float[4] x_t, float[4] w_t) => (float[4] n, float[4] y_t) {
            p = Mul (x_t, w_t)
            n = Add (h, p)
            y_t = Identity (n)
          }> (zeros, x, w)
        }""",
        zeros=np.zeros(4, np.float32),
    )
    outcome = HoistFromScan().run(model)
    assert not outcome.modified
    assert outcome.skipped[0].reason == "everything in a step depends on the state or grows"


def test_other_axes_are_left_alone() -> None:
    model = build(
        """agraph (float[4,T] x) => (float[T,4] y) {
          last, y = Scan <num_scan_inputs = 1, scan_input_axes = [1],
                          body = b (float[4] h, float[4] x_t) => (float[4] n, float[4] y_t) {
            p = Exp (x_t)
            n = Add (h, p)
            y_t = Identity (n)
          }> (zeros, x)
        }""",
        zeros=np.zeros(4, np.float32),
    )
    outcome = HoistFromScan().run(model)
    assert not outcome.modified
    assert outcome.skipped[0].reason == "time is not the first axis of what goes along"


def test_value_that_the_body_gives_is_still_given() -> None:
    """f(x) is an output of its own and part of the state's update; a step's invariant is computed once."""
    model = build(
        """agraph (float[T,4] x, float[4] w) => (float[T,4] y, float[T,4] f, float[4] last) {
          last, y, f = Scan <num_scan_inputs = 1, body = b (float[4] h, float[4] x_t)
                             => (float[4] n, float[4] y_t, float[4] f_t) {
            v = Exp (w)
            f_t = Mul (x_t, v)
            n = Add (h, f_t)
            y_t = Mul (n, f_t)
          }> (zeros, x)
        }""",
        zeros=np.zeros(4, np.float32),
    )
    before = model.clone()
    assert HoistFromScan().run(model).matched
    assert [node.op_type for node in model.graph] == ["Exp", "Mul", "Scan"]
    assert largest_error(before, model, random_feeds(before, {"T": 6})) == 0.0
    assert not HoistFromScan().run(model).modified


def test_good_products_keep_their_order() -> None:
    model = mamba2()
    assert not GroupFactors().run(model).modified
