"""sink-into-scan: what is large for all steps is made within the steps."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.cleanup.drop_no_ops import DropNoOps
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.recurrence.pipeline import recurrence_passes
from qcompiler.passes.recurrence.roles import tensor_role, tensors_with_roles
from qcompiler.passes.recurrence.sink_into_scan import SinkIntoScan
from qcompiler.pipeline import Pipeline
from qcompiler.target import ScanForm
from tests.equivalence import largest_error, random_feeds
from tests.passes.recurrence.test_hoist_from_scan import body_ops
from tests.recurrences import SUM_BOUND, build

E, N = 12, 4


def exported(backwards: bool = False, extra: str = "", outputs: str = "", given: str = "h_next") -> ir.Model:
    """exp(dt A), dt x B and all states are tensors of the graph, [batch, T, E, N]; C comes behind."""
    direction = int(backwards)
    return build(
        f"""
    agraph (float[batch,T,{E}] dt, float[batch,T,{E}] x, float[batch,T,{N}] B, float[batch,T,{N}] C)
        => (float[batch,T,{E}] y{outputs}) {{
      dt_c = Unsqueeze (dt, three)
      dtA = Mul (dt_c, A)
      a = Exp (dtA)
      x_c = Unsqueeze (x, three)
      B_r = Unsqueeze (B, two)
      dtB = Mul (dt_c, B_r)
      b = Mul (dtB, x_c)
      {extra}
      shape = Shape <start = 0, end = 1> (x)
      sizes = Concat <axis = 0> (shape, state)
      zeros = ConstantOfShape (sizes)
      last, all = Scan <num_scan_inputs = 2, scan_input_axes = [1, 1], scan_output_axes = [1],
          scan_input_directions = [{direction}, {direction}], scan_output_directions = [{direction}],
          body = step (float[batch,{E},{N}] h, float[batch,{E},{N}] a_t, float[batch,{E},{N}] b_t)
          => (float[batch,{E},{N}] h_next, float[batch,{E},{N}] given) {{
        ah = Mul (a_t, h)
        h_next = Add (ah, b_t)
        given = Identity ({given})
      }}> (zeros, a, b)
      C_c = Unsqueeze (C, three)
      column = MatMul (all, C_c)
      y = Squeeze (column, three)
    }}""",
        A=-np.ones((1, 1, E, 1), np.float32) * np.arange(1, N + 1, dtype=np.float32),
        one=np.array([1]), two=np.array([2]), three=np.array([3]), state=np.array([E, N]),
    )  # fmt: skip


@pytest.mark.parametrize("backwards", [False, True])
def test_products_and_sum_go_in(backwards: bool) -> None:
    model = exported(backwards)
    before = model.clone()
    assert SinkIntoScan().run(model).matched
    for item in (DropNoOps(), DropUnused()):
        item.run(model)
    assert sorted(body_ops(model)) == sorted(["Mul", "Exp", "Mul", "Mul", "Mul", "Add", "MatMul"])
    assert [node.op_type for node in model.graph if node.op_type in ("Mul", "Exp", "MatMul")] == []
    assert largest_error(before, model, random_feeds(before, {"T": 7, "batch": 2})) <= SUM_BOUND
    assert not SinkIntoScan().run(model).modified


def test_what_comes_of_it_is_recognised_and_laid_out() -> None:
    model = exported()
    before = model.clone()
    model, runs = Pipeline(recurrence_passes(ScanForm(channels_last=True, chunk=4, steps=True))).run(model)
    matched = {run.name for run in runs if run.outcome.matched}
    assert {"sink-into-scan", "recognise-recurrences", "group-factors", "lay-channels-last"} <= matched
    roles = {role.value: str(value.name) for value in tensors_with_roles(model) if (role := tensor_role(value))}
    assert {key: roles[key] for key in ("x", "dt", "B", "C")} == {"x": "x", "dt": "dt", "B": "B", "C": "C"}
    assert largest_error(before, model, random_feeds(before, {"T": 7, "batch": 2})) <= SUM_BOUND


def test_a_second_reader_keeps_its_tensor() -> None:
    model = exported(extra="decay = Identity (a)", outputs=f", float[batch,T,{E},{N}] decay")
    before = model.clone()
    assert SinkIntoScan().run(model).matched
    assert "Exp" in [node.op_type for node in model.graph]
    assert largest_error(before, model, random_feeds(before, {"T": 7, "batch": 2})) <= SUM_BOUND


def test_states_that_are_read_stay_outputs() -> None:
    model = exported(extra="", outputs=f", float[batch,T,{E},{N}] all")
    before = model.clone()
    assert SinkIntoScan().run(model).matched  # of the products alone
    assert "MatMul" in [node.op_type for node in model.graph]
    assert largest_error(before, model, random_feeds(before, {"T": 7, "batch": 2})) <= SUM_BOUND


def test_a_factor_that_comes_from_the_scan_stays_behind() -> None:
    model = exported()
    scan = next(node for node in model.graph if node.op_type == "Scan")
    column = next(node for node in model.graph if node.op_type == "MatMul")
    last = next(node for node in model.graph if node.outputs[0].name == "C_c")
    mean = ir.node("ReduceSum", [scan.outputs[0]], {"keepdims": 0}, num_outputs=1)
    product = ir.node("Mul", [last.outputs[0], mean.outputs[0]], num_outputs=1)
    model.graph.insert_before(column, [mean, product])
    product.outputs[0].shape, product.outputs[0].type = last.outputs[0].shape, last.outputs[0].type
    column.replace_input_with(1, product.outputs[0])
    before = model.clone()
    SinkIntoScan().run(model)
    assert "MatMul" in [node.op_type for node in model.graph]
    assert largest_error(before, model, random_feeds(before, {"T": 7, "batch": 2})) <= 4 * SUM_BOUND
