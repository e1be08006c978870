"""settle-shapes: ranks that come to light one fold at a time all come to light."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.passes.normalize.settle_shapes import SettleShapes
from tests.equivalence import largest_error, ops_of, random_feeds


def test_each_round_tells_the_next() -> None:
    lines, last = [], "x"
    for step in range(4):  # the Reshape of each step needs the rank of the one before
        lines.append(
            f"s{step} = Shape({last}) n{step} = Size(s{step}) e{step} = Unsqueeze(n{step}, zeros) "
            f"c{step} = ConstantOfShape<value = int64[1] {{1}}>(e{step}) t{step} = Concat<axis = 0>(c{step}, rest) "
            f"r{step} = Reshape({last}, t{step})"
        )
        last = f"r{step}"
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 19]>\n'
        "m (float[N,4] x) => (float y) <int64[1] zeros = {0}, int64[2] rest = {-1, 4}> {"
        + " ".join(lines) + f" y = ReduceSum<keepdims = 0>({last}) }}"
    )  # fmt: skip
    before = model.clone()
    InferShapes().run(model)
    assert SettleShapes().run(model).modified
    assert "Size" not in ops_of(model) and "Concat" not in ops_of(model)
    assert largest_error(before, model, random_feeds(before)) == 0.0
    assert not SettleShapes().run(model).modified
