"""chunk-scan: Mamba-2's recurrence in chunks of matrix products."""

from __future__ import annotations

import pytest

from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.passes.recurrence.chunk_scan import ChunkScan
from tests.equivalence import largest_error, random_feeds
from tests.passes.recurrence.test_hoist_from_scan import body_ops
from tests.recurrences import mamba, mamba2

CHUNK = 4
BOUND = 4e-6
"""Sums of at most 16 products in another order, and exp of a sum instead of a product of up to CHUNK exps."""


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("steps", [1, 3, 4, 10])
def test_any_length_in_both_directions(backwards: bool, steps: int) -> None:
    """Lengths below, at and beyond whole chunks; the last state is that of the last real step."""
    model = mamba2(backwards)
    before = model.clone()
    assert ChunkScan(CHUNK).run(model).matched
    InferShapes().run(model)
    assert "MatMul" in body_ops(model)
    assert [value.name for value in model.graph.outputs] == ["y", "last"]
    assert largest_error(before, model, random_feeds(before, {"T": steps, "batch": 2})) <= BOUND
    assert not ChunkScan(CHUNK).run(model).modified


def test_strong_decays_stay_finite() -> None:
    """exp(-1000) is 0: neither its logarithm nor a quotient of running products is taken."""
    model = mamba2()
    before = model.clone()
    ChunkScan(CHUNK).run(model)
    feeds = dict(random_feeds(before, {"T": 9, "batch": 1}))
    feeds["z"] = feeds["z"] * 1000
    assert largest_error(before, model, feeds) <= BOUND


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"exponential": "Sigmoid"}, "its decay is no exponential"),
        ({"read": "y_u = MatMul (h_next, C_t)\n y_t = Abs (y_u)"}, "its output is no sum over the state"),
    ],
)
def test_near_miss_is_left_alone(given: dict[str, str], reason: str) -> None:
    model = mamba2(**given)  # type: ignore[arg-type]
    outcome = ChunkScan(CHUNK).run(model)
    assert not outcome.modified
    assert [item.reason for item in outcome.skipped] == [reason]


def test_decay_of_each_channel_has_no_products() -> None:
    outcome = ChunkScan(CHUNK).run(mamba())
    assert [item.reason for item in outcome.skipped] == ["its decay is not one number a head"]
