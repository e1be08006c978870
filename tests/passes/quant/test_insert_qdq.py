"""One pair a tensor: shared by planned readers, unseen by others, in order, with fresh names."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.numerics import dequantize, quantize
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.pipeline import Skip
from qcompiler.plan import QuantPlan
from qcompiler.scheme import PerAxis, QuantScheme, TensorQuant
from qcompiler.session import run_all
from tests.building import activation_plan, build, is_topological, node_named, per_tensor
from tests.equivalence import ops_of, random_feeds

FAN = """m (float[N, 4] x) => (float[N, 4] y, float[N, 4] h, float[N, 4] k, float[N, 4] l) {
    h = Relu(x) [first] y = MatMul(h, w) [second] k = MatMul(h, w) [third] l = MatMul(h, w) }"""
W = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)


def test_planned_readers_share_a_pair_and_others_keep_float() -> None:
    before, model = build(FAN, w=W), build(FAN, w=W)
    outcome = InsertQdq(activation_plan({"h": 0.02}, {"first": (0,), "second": (0,)})).run(model)
    assert outcome.modified
    assert outcome.matched == ("h",)
    assert outcome.skipped == ()
    assert ops_of(model) == ["Relu", "QuantizeLinear", "DequantizeLinear", "MatMul", "MatMul", "MatMul"]
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert [value.name for value in model.graph.outputs] == ["y", "h", "k", "l"]
    pair = model.graph[2].outputs[0]
    assert node_named(model, "first").inputs[0] is node_named(model, "second").inputs[0] is pair
    third = node_named(model, "third").inputs[0]
    assert third is not None and third.name == "h"

    feeds = random_feeds(before)
    float_outputs, outputs = run_all(before, [feeds])[0], run_all(model, [feeds], optimize=False)[0]
    np.testing.assert_array_equal(outputs["h"], float_outputs["h"])
    np.testing.assert_array_equal(outputs["l"], float_outputs["l"])
    quant = per_tensor(0.02)
    expected = dequantize(quantize(float_outputs["h"], quant), quant) @ W
    np.testing.assert_allclose(outputs["y"], expected, atol=1e-6)
    np.testing.assert_array_equal(outputs["y"], outputs["k"])


def test_a_second_run_changes_nothing() -> None:
    model = build(FAN, w=W)
    plan = activation_plan({"h": 0.02}, {"first": (0,)})
    InsertQdq(plan).run(model)
    text = ir.to_onnx_text(model)
    outcome = InsertQdq(plan).run(model)
    assert not outcome.modified
    assert outcome.skipped == (Skip("first", "the plan has no scale for input 0"),)
    assert ir.to_onnx_text(model) == text


def test_graph_inputs_initializers_and_both_operands() -> None:
    text = """m (float[4, 4] x) => (float[4, 4] y, float[4, 4] z) {
        a = Relu(x) [square] y = MatMul(x, x) [other] z = MatMul(a, w) }"""
    model = build(text, w=W)
    plan = activation_plan({"x": 0.03, "a": 0.03, "w": 0.03}, {"square": (0, 1), "other": (0, 1)})
    assert InsertQdq(plan).run(model).matched == ("x", "a", "w")
    assert is_topological(model.graph)
    square = node_named(model, "square")
    assert square.inputs[0] is square.inputs[1]
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert len(model.graph.initializers) == 3  # w, and one scale and one zero point for all three pairs
    run_all(model, [random_feeds(model)])


def test_names_stay_unique_where_the_wished_ones_are_taken() -> None:
    text = """m (float[N, 4] x) => (float[N, 4] y) {
        x_quantized = Relu(x) x_dequantized = Neg(x_quantized) x_scale = Add(x_dequantized, x) [n] a = MatMul(x, w)
        y = Add(a, x_scale) }"""
    model = build(text, w=W)
    InsertQdq(activation_plan({"x": 0.02}, {"n": (0,)})).run(model)
    names = [value.name for node in model.graph for value in node.outputs] + list(model.graph.initializers)
    assert len(names) == len(set(names))
    run_all(model, [random_feeds(model)])


def test_readers_inside_a_subgraph_keep_float() -> None:
    text = """m (float[N, 4] x, bool c) => (float[N, 4] y) { h = Relu(x) [n] a = MatMul(h, w)
        y = If(c) <then_branch = t () => (float[N, 4] u) { u = Add(a, h) },
                   else_branch = e () => (float[N, 4] v) { v = Neg(h) }> }"""
    model = build(text, w=W)
    InsertQdq(activation_plan({"h": 0.02}, {"n": (0,)})).run(model)
    inner = [str(value.name) for node in model.graph.all_nodes() if node.graph is not model.graph
             for value in node.inputs if value is not None]  # fmt: skip
    assert inner == ["a", "h", "h"]
    assert is_topological(model.graph)


@pytest.mark.parametrize(
    ("nodes", "skip"),
    [
        ({"nowhere": (0,)}, Skip("nowhere", "the graph has no such node")),
        ({"first": (1,)}, Skip("first", "the plan has no scale for input 1")),
        ({"first": (7,)}, Skip("first", "the plan has no scale for input 7")),
    ],
)
def test_what_the_graph_lacks_is_said(nodes: dict[str, tuple[int, ...]], skip: Skip) -> None:
    model = build(FAN, w=W)
    outcome = InsertQdq(activation_plan({"h": 0.02}, nodes)).run(model)
    assert (outcome.modified, outcome.skipped) == (False, (skip,))
    assert ops_of(model) == ["Relu", "MatMul", "MatMul", "MatMul"]


def test_half_precision_carrier() -> None:
    text = "m (float16[N, 4] x) => (float16[N, 4] y) { [n] y = MatMul(x, w) }"
    model = build(text, w=W.astype(np.float16))
    InsertQdq(activation_plan({"x": 0.02}, {"n": (0,)})).run(model)
    assert model.graph.initializers["x_scale"].dtype == ir.DataType.FLOAT16
    assert model.graph[1].outputs[0].dtype == ir.DataType.FLOAT16
    run_all(model, [random_feeds(model)])


def test_equal_numbers_of_other_shapes_are_no_shared_scale() -> None:
    text = """m (float[N, 1] x, float[N, 4] z) => (float[N, 4] y, float[N, 4] k) {
        [n] y = MatMul(x, v) [o] k = MatMul(z, w) }"""
    model = build(text, v=W[:1], w=W)
    channel = TensorQuant(QuantScheme(granularity=PerAxis(1)), np.array([0.02], np.float32))
    plan = QuantPlan(tensors={"x": channel, "z": per_tensor(0.02)}, nodes={"n": (0,), "o": (0,)})
    InsertQdq(plan).run(model)
    shapes = {str(node.inputs[0].name): tuple(node.inputs[1].const_value.shape) for node in model.graph  # type: ignore[union-attr]
              if node.op_type == "QuantizeLinear"}  # fmt: skip
    assert shapes == {"x": (1,), "z": ()}
    run_all(model, [random_feeds(model)])


def test_a_quantized_output_reaches_all_its_readers() -> None:
    text = """m (float[N, 4] x) => (float[N, 4] y, float[N, 4] k) {
        [n] h = MatMul(x, w) i = Relu(h) [o] y = MatMul(i, w) k = Neg(h) }"""
    model = build(text, w=W)
    plan = activation_plan({"x": 0.02, "i": 0.05}, {"n": (0,), "o": (0,)})
    plan.outputs["n"] = per_tensor(0.05)
    assert set(InsertQdq(plan).run(model).matched) == {"x", "h", "i"}
    assert is_topological(model.graph)
    readers = [node for node in model.graph if node.op_type in ("Relu", "Neg")]
    assert [str(node.inputs[0].name) for node in readers if node.inputs[0]] == ["h_dequantized"] * 2
    feeds = random_feeds(model)
    found = run_all(model, [feeds], optimize=False)[0]
    x, h = per_tensor(0.02), per_tensor(0.05)
    product = dequantize(quantize(feeds["x"], x), x) @ W
    np.testing.assert_allclose(found["k"], -dequantize(quantize(product, h), h), atol=1e-6)


@pytest.mark.parametrize("bits", [4, 6])
def test_codes_of_a_narrow_grid_are_clipped(bits: int) -> None:
    before, model = build(FAN, w=W), build(FAN, w=W)
    narrow = TensorQuant(QuantScheme(bits=bits), np.asarray(0.02, np.float32))
    plan = QuantPlan(tensors={"h": narrow}, nodes={"first": (0,), "second": (0,)})
    InsertQdq(plan).run(model)
    assert ops_of(model)[:4] == ["Relu", "QuantizeLinear", "Clip", "DequantizeLinear"]
    assert is_topological(model.graph)
    feeds = random_feeds(before)
    h = run_all(before, [feeds])[0]["h"]
    codes = run_all(model, [feeds], ["h_clipped"], optimize=False)[0]["h_clipped"]
    assert h.max() > 0.02 * narrow.scheme.qmax  # or nothing was to be clipped
    np.testing.assert_array_equal(codes, quantize(h, narrow))
    assert codes.max() == narrow.scheme.qmax == {4: 7, 6: 31}[bits]
    text = ir.to_onnx_text(model)
    assert not InsertQdq(plan).run(model).modified
    assert ir.to_onnx_text(model) == text


def test_grids_of_different_width_have_their_own_bounds() -> None:
    model = build("m (float[N, 4] x) => (float[N, 4] y) { [a] h = MatMul(x, w) [b] y = MatMul(h, w) }", w=W)
    six, four = (TensorQuant(QuantScheme(bits=bits), np.asarray(0.1, np.float32)) for bits in (6, 4))
    InsertQdq(QuantPlan(tensors={"x": six, "h": four}, nodes={"a": (0,), "b": (0,)})).run(model)
    found = run_all(model, [{"x": np.full((1, 4), 99, np.float32)}], ["x_clipped", "h_clipped"], optimize=False)[0]
    assert (np.abs(found["x_clipped"]).max(), np.abs(found["h_clipped"]).max()) == (31, 7)


def test_a_plan_with_nodes_is_meant_for_the_model() -> None:
    model = build(FAN, w=W)
    assert InsertQdq(activation_plan({}, {"first": (0,)})).meant_for(model)
    assert not InsertQdq(QuantPlan()).meant_for(model)
    assert not InsertQdq(QuantPlan()).run(model).modified
