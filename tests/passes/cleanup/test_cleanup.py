"""No-ops, duplicates, unused nodes, order."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from qcompiler.passes.cleanup.drop_no_ops import DropNoOps
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.cleanup.merge_equal_nodes import MergeEqualNodes
from qcompiler.passes.cleanup.pipeline import cleanup_passes
from qcompiler.passes.cleanup.sort_nodes import SortNodes
from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.pipeline import Pipeline
from tests.equivalence import largest_error, ops_of, random_feeds


def model_of(body: str, weights: str = "float w = {2.0}", outputs: str = "float[N, 3] y") -> ir.Model:
    model = ir.from_onnx_text(
        f'<ir_version: 8, opset_import: ["" : 17]>\nm (float[N, 3] x) => ({outputs})\n  <{weights}> {{\n  {body}\n}}'
    )
    InferShapes().run(model)
    return model


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("a = Identity(x)", "float w = {2.0}"),
        ("a = Cast<to = 1>(x)", "float w = {2.0}"),
        ("a = Dropout(x)", "float w = {2.0}"),
        ("a = Transpose<perm = [0, 1]>(x)", "float w = {2.0}"),
        ("a = Reshape(x, s)", "int64[2] s = {0, 3}"),
        ("a = Expand(x, s)", "int64[2] s = {1, 3}"),
        ("a = Pad(x, s)", "int64[4] s = {0, 0, 0, 0}"),
        ("a = Concat<axis = 0>(x)", "float w = {2.0}"),
        ("a = Where(c, x, w)", "bool[3] c = {1, 1, 1}, float w = {2.0}"),
        ("a = Where(c, w, x)", "bool c = {0}, float w = {2.0}"),
    ],
)
def test_no_op_goes(body: str, weights: str) -> None:
    model = model_of(body + "\n  y = Relu(a)", weights)
    assert DropNoOps().run(model).modified
    assert ops_of(model) == ["Relu"]
    assert model.graph[0].inputs[0] is model.graph.inputs[0]
    assert not DropNoOps().run(model).modified


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("a = Cast<to = 10>(x)\n  b = Cast<to = 1>(a)", "float w = {2.0}"),
        ("a = Transpose<perm = [1, 0]>(x)\n  b = Transpose<perm = [1, 0]>(a)", "float w = {2.0}"),
        ("b = Dropout(x, r, t)", "float r = {0.5}, bool t = {1}"),
        ("b = Expand(x, s)", "int64[3] s = {2, 1, 1}"),
        ("b = Where(c, x, w)", "bool[3] c = {1, 0, 1}, float w = {2.0}"),
        ("b = Where(c, w, x)", "bool c = {1}, float w = {2.0}"),  # repeated to the shape of x
    ],
)
def test_what_changes_something_stays(body: str, weights: str) -> None:
    model = model_of(body + "\n  y = Relu(b)", weights, "float[?] y" if "Expand" in body else "float[N, 3] y")
    before = ops_of(model)
    DropNoOps().run(model)
    assert ops_of(model) == before


def test_no_op_in_front_of_an_output_gives_its_name_on() -> None:
    model = model_of("a = Relu(x)\n  b = Neg(a)\n  y = Identity(a)", outputs="float[N, 3] y, float[N, 3] b")
    DropNoOps().run(model)
    assert ops_of(model) == ["Relu", "Neg"]
    assert [value.name for value in model.graph.outputs] == ["y", "b"]
    assert model.graph[0].outputs[0].name == "y"


def test_identity_of_an_input_or_of_another_output_stays() -> None:
    model = model_of(
        "z = Identity(x)\n  a = Relu(x)\n  y = Identity(a)", outputs="float[N, 3] y, float[N, 3] z, float[N, 3] a"
    )
    DropNoOps().run(model)
    assert sorted(ops_of(model)) == ["Identity", "Identity", "Relu"]


def test_equal_nodes_and_small_initializers_merge() -> None:
    source = model_of("a = Mul(x, w)\n  b = Mul(x, v)\n  c = Mul(x, u)\n  d = Add(a, b)\n  y = Add(d, c)",
                      "float w = {2.0}, float v = {2.0}, float u = {3.0}")  # fmt: skip
    model = source.clone()
    assert MergeEqualNodes().run(model).modified
    assert ops_of(model) == ["Mul", "Mul", "Add", "Add"]
    assert largest_error(source, model, random_feeds(source)) == 0.0
    assert not MergeEqualNodes().run(model).modified


def test_random_nodes_and_outputs_do_not_merge() -> None:
    body = "a = RandomNormalLike(x)\n  b = RandomNormalLike(x)\n  c = Add(a, b)\n  y = Relu(c)\n  z = Relu(c)"
    model = model_of(body, outputs="float[N, 3] y, float[N, 3] z")
    assert not MergeEqualNodes().run(model).modified


def test_attributes_tell_nodes_apart() -> None:
    model = model_of("a = LeakyRelu<alpha = 0.1>(x)\n  b = LeakyRelu<alpha = 0.2>(x)\n  y = Add(a, b)")
    assert not MergeEqualNodes().run(model).modified


def test_unused_nodes_and_initializers_go_and_inputs_stay() -> None:
    model = model_of("a = Mul(x, w)\n  b = Neg(a)\n  y = Relu(x)")
    outcome = DropUnused().run(model)
    assert set(outcome.matched) >= {"w"}
    assert ops_of(model) == ["Relu"]
    assert not model.graph.initializers
    assert not DropUnused().run(model).modified


def test_nodes_are_sorted() -> None:
    model = model_of("a = Neg(x)\n  y = Relu(a)")
    first, second = model.graph
    model.graph.remove(first)
    model.graph.insert_after(second, first)
    assert SortNodes().run(model).modified
    assert ops_of(model) == ["Neg", "Relu"]
    assert not SortNodes().run(model).modified


def test_pipeline_settles() -> None:
    model = model_of("a = Identity(x)\n  b = Mul(a, w)\n  c = Mul(x, w)\n  y = Add(b, c)")
    Pipeline(cleanup_passes()).run(model)
    assert ops_of(model) == ["Mul", "Add"]
    assert not any(run.outcome.modified for run in Pipeline(cleanup_passes()).run(model)[1])
