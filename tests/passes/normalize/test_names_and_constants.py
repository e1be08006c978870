"""Names, lifted constants, inlined functions, inferred shapes."""

from __future__ import annotations

import sys
from types import FrameType

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from qcompiler.errors import ModelError, UnsupportedError
from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.passes.normalize.inline_functions import InlineFunctions
from qcompiler.passes.normalize.lift_constants import LiftConstants
from qcompiler.passes.normalize.name_everything import NameEverything
from tests.equivalence import largest_error, normalized, ops_of, random_feeds

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
NESTED = (
    HEAD
    + """m (bool flag, float[3] x) => (float[3] y) {
  h = Neg(x)
  y = If<then_branch = a () => (float[3] t) { h2 = Constant<value_floats = [1.0, 2.0, 3.0]>() t = Add(h, h2) },
         else_branch = b () => (float[3] t) { h2 = Constant<value_float = 2.0>() t = Mul(h, h2) }>(flag)
}"""
)


def test_names_are_unique_across_subgraphs_and_interface_names_stay() -> None:
    model = ir.from_onnx_text(NESTED)
    NameEverything().run(model)
    values = [value.name for node in model.graph.all_nodes() for value in node.outputs]
    nodes = [node.name for node in model.graph.all_nodes()]
    assert len(set(values)) == len(values)
    assert len(set(nodes)) == len(nodes) and all(nodes)
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert not NameEverything().run(model).modified


def test_equal_node_names_are_told_apart_in_order() -> None:
    model = ir.from_onnx_text(
        HEAD + "m (float[3] x) => (float[3] y) {\n  [n] a = Neg(x)\n  [n] b = Neg(a)\n  y = Neg(b)\n}"
    )
    NameEverything().run(model)
    assert [node.name for node in model.graph] == ["n", "n_1", "y"]


def test_constants_of_every_form_are_lifted_in_subgraphs_too() -> None:
    model = ir.from_onnx_text(NESTED)
    LiftConstants().run(model)
    assert "Constant" not in ops_of(model)
    assert not LiftConstants().run(model).modified
    forms = (
        HEAD
        + """m (float[2] x) => (float[2] y) {
      a = Constant<value_float = 2.0>()
      b = Constant<value_floats = [1.0, 2.0]>()
      c = Constant<value = float[2] {3.0, 4.0}>()
      d = Constant<value_int = 0>()
      e = Constant<value_ints = [0, 1]>()
      f = Mul(x, a)
      g = Add(f, b)
      h = Sub(g, c)
      i = Gather(h, d)
      j = Gather(h, e)
      y = Add(i, j)
    }"""
    )
    source = ir.from_onnx_text(forms)
    result = normalized(source)
    assert result.graph.initializers["b"].const_value is not None
    assert largest_error(source, result, random_feeds(source)) == 0.0


def test_constant_without_value_is_an_error() -> None:
    model = ir.from_onnx_text(
        HEAD + "m (float x) => (float y) {\n  c = Constant<value_float = 1.0>()\n  y = Add(x, c)\n}"
    )
    model.graph[0].attributes.clear()
    with pytest.raises(ModelError, match="Constant without a value"):
        LiftConstants().run(model)


def test_weights_listed_as_inputs_are_unlisted_before_ir_4() -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "w", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", infos[:2], infos[2:], [weight])
    model = ir.from_proto(helper.make_model(graph, ir_version=3, opset_imports=[helper.make_opsetid("", 9)]))
    result = normalized(model)
    assert [value.name for value in result.graph.inputs] == ["x"]


def test_function_of_another_opset_is_converted_and_inlined() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "local" : 1]>
    m (float[2, 3] x) => (float[A, B] y) { y = local.mean(x) }
    <domain: "local", opset_import: ["" : 13]>
    mean (a) => (b) { b = ReduceMean<axes = [1]>(a) }"""
    model = ir.from_onnx_text(text)
    InlineFunctions().run(model)
    assert not model.functions
    assert list(model.opset_imports) == [""]
    feeds = random_feeds(model)
    wanted = np.mean(feeds["x"], axis=1, keepdims=True)
    from qcompiler.session import run_all

    assert np.allclose(run_all(model, [feeds])[0]["y"], wanted, atol=1e-6)


def test_function_that_calls_itself_is_unsupported() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    m (float x) => (float y) { y = local.f(x) }
    <domain: "local", opset_import: ["" : 17, "local" : 1]>
    f (a) => (b) { b = local.f(a) }"""
    with pytest.raises(UnsupportedError, match="cannot be inlined"):
        InlineFunctions().run(ir.from_onnx_text(text))


def test_false_claims_on_shapes_are_corrected() -> None:
    model = ir.from_onnx_text(HEAD + "m (float[N, 4] x) => (float[N, wrong] y) {\n  y = Relu(x)\n}")
    InferShapes().run(model)
    assert [str(size) for size in model.graph.outputs[0].shape or ()] == ["N", "4"]
    assert not InferShapes().run(model).modified


def test_shapes_are_inferred_in_subgraphs() -> None:
    model = ir.from_onnx_text(NESTED)
    LiftConstants().run(model)
    NameEverything().run(model)
    InferShapes().run(model)
    assert all(value.shape is not None for node in model.graph.all_nodes() for value in node.outputs)


def test_contradicting_shapes_are_reported() -> None:
    model = ir.from_onnx_text(HEAD + "m (float[2, 3] x, float[4, 5] w) => (float[A, B] y) {\n  y = MatMul(x, w)\n}")
    outcome = InferShapes().run(model)
    assert [finding.code for finding in outcome.diagnostics] == ["QC101"]
    assert "shapes do not fit" in outcome.diagnostics[0].message


def test_work_grows_with_the_number_of_nodes_only() -> None:
    """Four times the nodes may take five times the calls: linear with slack, far from quadratic."""

    def calls(count: int) -> int:
        nodes = [helper.make_node("Relu" if i % 3 else "Identity", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("v0", f"v{count}"))
        model = ir.from_proto(
            helper.make_model(
                helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
            )
        )
        made = 0

        def count_call(frame: FrameType, event: str, argument: object) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(count_call)
        try:
            normalized(model, canonical=True)
        finally:
            sys.setprofile(before)
        return made

    calls(50)  # what the first run imports
    assert calls(1600) < 5 * calls(400)
