"""loop-to-scan, with what cleans up behind it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.passes.recurrence.loop_to_scan import LoopToScan
from tests.equivalence import largest_error, ops_of, random_feeds
from tests.recurrences import build


def loop(
    condition: str = "go_on = Identity (yes)", step: str = "x_t = Gather <axis = 1> (x, t)", **more: str
) -> ir.Model:
    """h <- a h + x[:, t], y = 2 h as a row of a sequence and as a scan output."""
    join = more.get("join", "ConcatFromSequence <axis = 1, new_axis = 1> (rows)")
    count = more.get("count", "Gather <axis = 0> (sizes, one)")
    return build(
        f"""agraph (float[2,T,4] x, float[2,4] first, int64 other)
            => (float[2,T,4] y, float[N,2,4] scanned, float[2,4] last) {{
          sizes = Shape (x)
          count = {count}
          empty = SequenceEmpty <dtype = 1> ()
          last, rows, scanned = Loop <body = b (int64 t, bool cond, float[2,4] h, seq(float[2,4]) seq)
              => (bool go_on, float[2,4] n, seq(float[2,4]) longer, float[2,4] row2) {{
            {condition}
            {step}
            ah = Mul (h, half)
            n = Add (ah, x_t)
            row = Add (n, n)
            longer = SequenceInsert (seq, row)
            row2 = Neg (n)
          }}> (count, yes, first, empty)
          y = {join}
        }}""",
        yes=np.array(True), half=np.full((), 0.5, np.float32), one=np.array(1),
    )  # fmt: skip


def test_rows_states_and_scan_outputs() -> None:
    model = loop()
    before = model.clone()
    assert LoopToScan().run(model).matched
    InferShapes().run(model)
    assert not {"Loop", "SequenceInsert", "ConcatFromSequence", "Slice"} & set(ops_of(model))
    feeds = {**random_feeds(before, {"T": 5}), "other": np.array(3)}
    assert largest_error(before, model, feeds) == 0.0
    assert not LoopToScan().run(model).modified


def test_fewer_turns_than_places() -> None:
    model = loop(count="Identity (other)")
    before = model.clone()
    assert LoopToScan().run(model).matched
    assert "Slice" in ops_of(model)
    assert largest_error(before, model, {**random_feeds(before, {"T": 5}), "other": np.array(3)}) == 0.0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"condition": "s = ReduceSum <keepdims = 0> (h)\n go_on = Less (s, half)"}, "it may end early"),
        ({"step": "t_f = Cast <to = 1> (t)\n x_t = Mul (first, t_f)"}, "Cast reads the turn's number"),
        ({"step": "both = Concat <axis = 0> (h, h)\n g = Gather <axis = 0> (both, t)\n x_t = Add (h, g)"},
         "what it goes through changes from turn to turn"),
        ({"step": "x_t = Identity (h)"}, "it goes through no tensor"),
        ({"join": "ConcatFromSequence <axis = 1> (rows)"}, "a carried sequence is joined along an axis of its tensors"),
    ],
)  # fmt: skip
def test_near_miss_is_left_alone(given: dict[str, str], reason: str) -> None:
    model = loop(**given)
    outcome = LoopToScan().run(model)
    assert not outcome.modified
    assert "Loop" in ops_of(model)
    assert [item.reason for item in outcome.skipped] == [reason]
