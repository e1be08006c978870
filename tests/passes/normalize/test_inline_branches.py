"""inline-branches and Slices of everything."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.cleanup.drop_no_ops import DropNoOps
from qcompiler.passes.normalize.inline_branches import InlineBranches
from tests.equivalence import largest_error, ops_of, random_feeds
from tests.recurrences import build


@pytest.mark.parametrize(("condition", "op"), [(True, "Neg"), (False, "Abs")])
def test_known_condition(condition: bool, op: str) -> None:
    model = build(
        """agraph (float[4] x) => (float[4] y) {
          w = Exp (x)
          y = If <then_branch = a () => (float[4] p) { p = Neg (w) },
                  else_branch = b () => (float[4] q) { q = Abs (w) }> (known)
        }""",
        known=np.array(condition),
    )
    before = model.clone()
    assert InlineBranches().run(model).matched
    assert ops_of(model) == ["Exp", op, "Identity"]
    assert len(tuple(model.graph[0].outputs[0].uses())) == 1  # the other branch reads nothing any more
    assert largest_error(before, model, random_feeds(before)) == 0.0


def test_computed_condition_stays() -> None:
    model = build(
        """agraph (float[4] x, bool c) => (float[4] y) {
          y = If <then_branch = a () => (float[4] p) { p = Neg (x) },
                  else_branch = b () => (float[4] q) { q = Abs (x) }> (c)
        }"""
    )
    assert not InlineBranches().run(model).modified


@pytest.mark.parametrize(
    ("start", "end", "step", "goes"), [(0, 2**63 - 1, 1, True), (0, 4, 1, True), (0, 3, 1, False), (1, 4, 1, False),
                                       (0, 2**63 - 1, 2, False)],
)  # fmt: skip
def test_slice_of_everything_goes(start: int, end: int, step: int, goes: bool) -> None:
    model = build(
        "agraph (float[T,4] x) => (float[T,n] y) {\n s = Slice (x, start, end, axis, step)\n y = Neg (s)\n}",
        start=np.array([start]), end=np.array([end]), axis=np.array([1]), step=np.array([step]),
    )  # fmt: skip
    assert DropNoOps().run(model).modified is goes
