"""parallel-to-scan: linear recurrences that are computed for all steps at once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.recurrence.parallel_to_scan import ParallelToScan
from qcompiler.passes.recurrence.pipeline import recurrence_passes
from qcompiler.passes.recurrence.roles import tensor_role, tensors_with_roles
from qcompiler.pipeline import Pipeline
from qcompiler.target import ScanForm
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

E, N, T = 12, 4, 7
BOUND = 1e-5
"""Products of up to seven decays, and running sums of float32 whose exponentials are multiplied again."""

RUNNING = """
      sums = CumSum (dtA, one)
      grown = Exp (sums)
      minus = Neg (sums)
      shrunk = Exp (minus)
      parts = Mul (b, shrunk)
      total = CumSum (parts, one)
      all = Mul (grown, total)"""
"""h[t] = P[t] sum b[s] / P[s], P the running product of decays."""


def doubling(steps: int = T) -> str:
    """h <- h + a h[t - s], a <- a a[t - s] for s of 1, 2, 4 (Hillis and Steele)."""
    lines, h, a, shift = ["a0 = Exp (dtA)"], "b", "a0", 1
    while shift < steps:
        lines += [
            f"pad_{shift} = Constant <value = int64[8] {{0, {shift}, 0, 0, 0, {-shift}, 0, 0}}> ()",
            f"h_back_{shift} = Pad ({h}, pad_{shift})",
            f"given_{shift} = Mul ({a}, h_back_{shift})",
            f"h_{shift} = Add ({h}, given_{shift})",
            f"a_back_{shift} = Pad ({a}, pad_{shift}, unit)",
            f"a_{shift} = Mul ({a}, a_back_{shift})",
        ]
        h, a, shift = f"h_{shift}", f"a_{shift}", shift * 2
    return "\n".join([*lines, f"all = Identity ({h})"])


def model_of(algorithm: str, last: bool = False, read: str = "") -> ir.Model:
    end = "place = Gather <axis = 1> (all, minus_one)\n last = Identity (place)" if last else ""
    return build(
        f"""
    agraph (float[batch,{T},{E}] dt0, float[batch,{T},{E}] x, float[batch,{T},{N}] B, float[batch,{T},{N}] C)
        => (float[batch,{T},{E}] y{f", float[batch,{E},{N}] last" if last else ""}) {{
      dt = Sigmoid (dt0)
      dt_c = Unsqueeze (dt, three)
      dtA = Mul (dt_c, A)
      x_c = Unsqueeze (x, three)
      B_r = Unsqueeze (B, two)
      dtB = Mul (dt_c, B_r)
      b = Mul (dtB, x_c)
      {algorithm}
      {end}
      {read or "C_c = Unsqueeze (C, three)"}
      {"column = MatMul (all, C_c)" if not read else ""}
      {"y = Squeeze (column, three)" if not read else ""}
    }}""",
        A=-np.ones((E, 1), np.float32) * np.arange(1, N + 1, dtype=np.float32), unit=np.float32(1),
        one=np.array(1), two=np.array([2]), three=np.array([3]), minus_one=np.array(-1),
    )  # fmt: skip


SUMMED = """
      C_r = Unsqueeze (C, two)
      product = Mul (all, C_r)
      y = ReduceSum <keepdims = 0> (product, three)"""


@pytest.mark.parametrize("algorithm", [RUNNING, doubling()], ids=["log space", "doubling"])
@pytest.mark.parametrize("read", ["", SUMMED], ids=["MatMul", "ReduceSum"])
@pytest.mark.parametrize("last", [False, True])
def test_any_algorithm(algorithm: str, read: str, last: bool) -> None:
    model = model_of(algorithm, last, read)
    before = model.clone()
    model, runs = Pipeline(recurrence_passes(ScanForm(channels_last=True, chunk=4, steps=True))).run(model)
    assert ops_of(model).count("Scan") == 1 and "CumSum" not in ops_of(model) and "Pad" not in ops_of(model)
    assert next(run for run in runs if run.name == "recognise-recurrences").outcome.matched
    roles = {role.value: str(value.name) for value in tensors_with_roles(model) if (role := tensor_role(value))}
    assert {key: roles[key] for key in ("x", "dt", "B", "C")} == {"x": "x", "dt": "dt", "B": "B", "C": "C"}
    assert largest_error(before, model, random_feeds(before, {"batch": 2})) <= BOUND


def test_second_run_finds_nothing() -> None:
    model = model_of(RUNNING)
    assert ParallelToScan().run(model).matched
    from qcompiler.passes.cleanup.drop_unused import DropUnused

    DropUnused().run(model)
    assert not ParallelToScan().run(model).modified


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("total = CumSum (parts, one)", "total = CumSum <exclusive = 1> (parts, one)"),
        ("total = CumSum (parts, one)", "total = CumSum <reverse = 1> (parts, one)"),
        ("minus = Neg (sums)", "minus = Neg (dtA)"),
    ],
)
def test_other_sums_stay(old: str, new: str) -> None:
    outcome = ParallelToScan().run(model_of(RUNNING.replace(old, new)))
    assert not outcome.modified
    assert [item.reason for item in outcome.skipped] == [
        "what is computed for all steps at once is no linear recurrence"
    ]


def test_only_roles_where_the_target_keeps_the_algorithm() -> None:
    model = model_of(RUNNING)
    count = len(ops_of(model))
    outcome = ParallelToScan(rewrite=False).run(model)
    assert outcome.matched and outcome.modified and len(ops_of(model)) == count
    roles = {role.value: str(value.name) for value in tensors_with_roles(model) if (role := tensor_role(value))}
    assert roles == {"x": "x", "dt": "dt", "A": "A", "B": "B", "C": "C", "y": "column"}
    assert not ParallelToScan(rewrite=False).run(model).modified
