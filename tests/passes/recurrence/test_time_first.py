"""time-first: Scans along other axes."""

from __future__ import annotations

import numpy as np

from qcompiler.passes.recurrence.time_first import TimeFirst
from tests.equivalence import largest_error, ops_of, random_feeds
from tests.recurrences import build


def test_axes_in_and_out_move_outside() -> None:
    model = build(
        """agraph (float[2,T,4] x, float[2,4,T] w) => (float[2,T,4] y, float[2,4] last) {
          last, y = Scan <num_scan_inputs = 2, scan_input_axes = [1, -1], scan_output_axes = [1],
                          scan_input_directions = [0, 1],
                          body = b (float[2,4] h, float[2,4] x_t, float[2,4] w_t) => (float[2,4] n, float[2,4] y_t) {
            p = Mul (x_t, w_t)
            n = Add (h, p)
            y_t = Neg (n)
          }> (zeros, x, w)
        }""",
        zeros=np.zeros((2, 4), np.float32),
    )
    before = model.clone()
    assert TimeFirst().run(model).matched
    assert ops_of(model).count("Transpose") == 3
    scan = next(node for node in model.graph if node.op_type == "Scan")
    assert list(scan.attributes["scan_input_axes"].as_ints()) == [0, 0]
    assert [value.name for value in model.graph.outputs] == ["y", "last"]
    assert largest_error(before, model, random_feeds(before, {"T": 5})) == 0.0
    assert not TimeFirst().run(model).modified
