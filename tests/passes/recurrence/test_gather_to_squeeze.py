"""gather-to-squeeze: the only place of an axis."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.recurrence.gather_to_squeeze import GatherToSqueeze
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds


@pytest.mark.parametrize("index", [0, -1])
@pytest.mark.parametrize("axis", [1, -2])
def test_only_place(index: int, axis: int) -> None:
    text = f"agraph (float[n,1,4] x) => (float[n,4] y) {{ y = Gather <axis = {axis}> (x, index) }}"
    model = build(text, index=np.int64(index))
    before = model.clone()
    assert GatherToSqueeze().run(model).matched == ("y",)
    assert ops_of(model) == ["Squeeze"]
    assert largest_error(before, model, random_feeds(before)) == 0
    assert not GatherToSqueeze().run(model).modified


@pytest.mark.parametrize(("size", "index"), [("2", 0), ("m", 0), ("1", [0])])
def test_near_misses(size: str, index: object) -> None:
    text = f"agraph (float[n,{size},4] x) => (float[n,k,4] y) {{ y = Gather <axis = 1> (x, index) }}"
    text = text if isinstance(index, list) else text.replace("[n,k,4]", "[n,4]")
    assert not GatherToSqueeze().run(build(text, index=np.asarray(index, np.int64))).modified
