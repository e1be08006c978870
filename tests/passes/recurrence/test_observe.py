"""Values on seeded inputs of an odd length; a model that only runs at its own lengths tells nothing."""

from __future__ import annotations

from qcompiler.passes.recurrence.observe import observe
from tests.building import build


def values_of(body: str) -> dict[str, tuple[int, ...]]:
    model = build(f"agraph (float[batch,T,4] x) => (float y) {{ a = Neg (x) {body} y = ReduceSum <keepdims = 0> (b) }}")
    return {name: array.shape for name, array in observe(model, [model.graph[0].outputs[0]]).items()}


def test_free_lengths_are_odd_and_inputs_are_there() -> None:
    assert values_of("b = Identity (a)") == {"x": (2, 67, 4), "a": (2, 67, 4), "y": ()}


def test_nothing_where_the_length_does_not_run() -> None:
    body = "shape = Constant <value = int64[3] {2, 64, 4}> () b = Reshape (a, shape)"
    assert values_of(body) == {}
