"""chunks-to-scan: Mamba-2 in matrix products over chunks."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.recurrence.chunks_to_scan import ChunksToScan
from qcompiler.passes.recurrence.pipeline import recurrence_passes
from qcompiler.passes.recurrence.roles import tensor_role, tensors_with_roles
from qcompiler.pipeline import Pipeline
from qcompiler.target import ScanForm
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

HEADS, HEAD, WIDTH, CHUNK = 4, 8, 8, 8
BOUND = 2e-5
"""Differences of running sums of float32, whose exponentials weigh sums of 16 steps."""


def segments(source: str, result: str, strict: str, lower: str) -> str:
    """exp of the sums over j < k <= i at [..., i, j], 0 above the diagonal."""
    return f"""
      {result}_column = Unsqueeze ({source}, minus_one)
      {result}_masked = Where ({strict}, {result}_column, zero)
      {result}_sums = CumSum ({result}_masked, minus_two_0)
      {result}_kept = Where ({lower}, {result}_sums, infinite)
      {result} = Exp ({result}_kept)"""


def exported(steps: int = 16, groups: int = 2, last: bool = False, old: str = "", new: str = "") -> ir.Model:
    """Listing 1 of arXiv 2405.21060 with its einsums, padded to whole chunks."""
    short = -steps % CHUNK
    chunks = (steps + short) // CHUNK
    text = f"""
    agraph (float[b,{steps},{HEADS}] dt0, float[b,{steps},{HEADS},{HEAD}] x,
            float[b,{steps},{groups * WIDTH}] B, float[b,{steps},{groups * WIDTH}] C)
        => (float[b,{steps},{HEADS},{HEAD}] y{f", float[b,{HEADS},{HEAD},{WIDTH}] last" if last else ""}) {{
      dt = Sigmoid (dt0)
      z = Mul (dt, A)
      dt_c = Unsqueeze (dt, minus_one)
      xd = Mul (x, dt_c)
      z_pad = Pad (z, pads_3)
      x_pad = Pad (xd, pads_4)
      z_chunks = Reshape (z_pad, z_shape)
      x_chunks = Reshape (x_pad, x_shape)
      zt = Transpose <perm = [0, 3, 1, 2]> (z_chunks)
      B_groups = Reshape (B, group_shape)
      B_wide = Unsqueeze (B_groups, three)
      B_repeated = Expand (B_wide, repeats)
      B_heads = Reshape (B_repeated, head_shape)
      B_pad = Pad (B_heads, pads_4)
      B_chunks = Reshape (B_pad, b_shape)
      C_groups = Reshape (C, group_shape)
      C_wide = Unsqueeze (C_groups, three)
      C_repeated = Expand (C_wide, repeats)
      C_heads = Reshape (C_repeated, head_shape)
      C_pad = Pad (C_heads, pads_4)
      C_chunks = Reshape (C_pad, b_shape)
      sums = CumSum (zt, minus_one_0)
      {segments("zt", "within", "strict", "lower")}
      pairs = Einsum <equation = "bclhn,bcshn->bhcls"> (C_chunks, B_chunks)
      weighed = Mul (pairs, within)
      diagonal = Einsum <equation = "bhcls,bcshp->bclhp"> (weighed, x_chunks)
      ends = Slice (sums, minus_one, most, three)
      left = Sub (ends, sums)
      decays = Exp (left)
      states = Einsum <equation = "bclhn,bhcl,bclhp->bchpn"> (B_chunks, decays, x_chunks)
      no_states = Slice (states, zero_1, one_1, one_1)
      no_state = Mul (no_states, zero)
      held = Concat <axis = 1> (no_state, states)
      end = Squeeze (ends, three)
      end_pad = Pad (end, pads_before)
      {segments("end_pad", "between", "strict_chunks", "lower_chunks")}
      before = Einsum <equation = "bhzc,bchpn->bzhpn"> (between, held)
      starts = Slice (before, zero_1, minus_one, one_1)
      last = Gather <axis = 1> (before, minus_one_0)
      since = Exp (sums)
      carried = Einsum <equation = "bclhn,bchpn,bhcl->bclhp"> (C_chunks, starts, since)
      both = Add (diagonal, carried)
      flat = Reshape (both, y_shape)
      skip = Mul (x, D)
      skip_pad = Pad (skip, pads_4)
      sum = Add (flat, skip_pad)
      y = Slice (sum, zero_1, steps, one_1)
    }}"""
    table = np.tril(np.ones((CHUNK, CHUNK), bool))
    chunk_table = np.tril(np.ones((chunks + 1, chunks + 1), bool))
    assert old in text
    return build(
        text.replace(old, new) if old else text,
        A=-np.linspace(0.5, 2, HEADS).astype(np.float32), D=np.linspace(1, 2, HEADS).astype(np.float32)[:, None],
        zero=np.float32(0), infinite=np.float32(-np.inf), strict=np.tril(table, -1), lower=table,
        strict_chunks=np.tril(chunk_table, -1), lower_chunks=chunk_table,
        minus_one=np.array([-1]), minus_one_0=np.array(-1), minus_two_0=np.array(-2), three=np.array([3]),
        zero_1=np.array([0]), one_1=np.array([1]), most=np.array([2**62]), steps=np.array([steps]),
        pads_3=np.array([0, 0, 0, 0, short, 0]), pads_4=np.array([0, 0, 0, 0, 0, short, 0, 0]),
        pads_before=np.array([0, 0, 1, 0, 0, 0]), z_shape=np.array([0, chunks, CHUNK, HEADS]),
        x_shape=np.array([0, chunks, CHUNK, HEADS, HEAD]), b_shape=np.array([0, chunks, CHUNK, HEADS, WIDTH]),
        group_shape=np.array([0, 0, groups, WIDTH]), head_shape=np.array([0, 0, HEADS, WIDTH]),
        repeats=np.array([1, 1, groups, HEADS // groups, WIDTH]), y_shape=np.array([0, -1, HEADS, HEAD]),
    )  # fmt: skip


@pytest.mark.parametrize("steps", [16, 21])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_scan_and_chunks_of_the_target(steps: int, groups: int) -> None:
    model = exported(steps, groups)
    before = model.clone()
    model, runs = Pipeline(recurrence_passes(ScanForm(channels_last=True, chunk=4, steps=True))).run(model)
    assert [run.name for run in runs if run.name in ("chunks-to-scan", "chunk-scan") and run.outcome.matched] == [
        "chunks-to-scan", "chunk-scan"
    ]  # fmt: skip
    assert ops_of(model).count("Scan") == 1 and "Einsum" not in ops_of(model) and "CumSum" not in ops_of(model)
    roles = {role.value: str(value.name) for value in tensors_with_roles(model) if (role := tensor_role(value))}
    assert {key: roles[key] for key in ("x", "dt", "A", "B", "C")} == {
        "x": "x", "dt": "dt", "A": "A", "B": "B", "C": "C"
    }  # fmt: skip
    assert largest_error(before, model, random_feeds(before, {"b": 2})) <= BOUND
    assert not ChunksToScan().run(model).modified


def test_last_state_comes_from_the_scan() -> None:
    model = exported(21, last=True)
    before = model.clone()
    model, _ = Pipeline(recurrence_passes(ScanForm(channels_last=True, chunk=4, steps=True))).run(model)
    assert "Einsum" not in ops_of(model)
    assert [value.name for value in model.graph.outputs] == ["y", "last"]
    assert largest_error(before, model, random_feeds(before, {"b": 2})) <= BOUND


def test_only_roles_where_the_target_keeps_the_products() -> None:
    model = exported()
    count = len(ops_of(model))
    outcome = ChunksToScan(rewrite=False).run(model)
    assert outcome.matched == ("z",) and outcome.modified and len(ops_of(model)) == count
    roles = {role.value: str(value.name) for value in tensors_with_roles(model) if (role := tensor_role(value))}
    assert roles == {"x": "x", "dt": "dt", "A": "A", "B": "B", "C": "C", "y": "flat"}
    assert not ChunksToScan(rewrite=False).run(model).modified


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("both = Add (diagonal, carried)", "both = Sub (diagonal, carried)"),
        ("left = Sub (ends, sums)", "left = Sub (sums, ends)"),
        ("(C_chunks, starts, since)", "(B_chunks, starts, since)"),
    ],
)
def test_other_sums_stay(old: str, new: str) -> None:
    outcome = ChunksToScan().run(exported(old=old, new=new))
    assert not outcome.modified
    assert [item.reason for item in outcome.skipped] == ["running sums, but no recurrence of Mamba-2"]
