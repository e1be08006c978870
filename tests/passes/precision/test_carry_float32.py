"""carry-float32: no float16 inside, the interface as it was, and quantized products stay integer for every target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.equivalence import EquivalenceGuard
from qcompiler.errors import UnsupportedError
from qcompiler.passes.precision.carry_float32 import CarryFloat32
from qcompiler.session import Session

HEAD = '<ir_version: 9, opset_import: ["" : 19]>\n'
HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def types_inside(model: ir.Model) -> set[ir.DataType | None]:
    values = [value for node in model.graph.all_nodes() for value in node.outputs if not value.is_graph_output()]
    values += [value for graph in model.graphs() for value in graph.initializers.values()]
    return {value.dtype for value in values if value.dtype is not None and value.dtype.is_floating_point()}


def mlp() -> ir.Model:
    model = ir.from_onnx_text(
        HEAD + """g (float16[N,16] x) => (float16[N,8] y, float[N,32] z) {
          a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) z = Cast<to = 1>(a) }"""
    )
    rng = np.random.default_rng(0)
    for name, shape in {"w": (16, 32), "v": (32, 8)}.items():
        value = next(item for node in model.graph for item in node.inputs if item is not None and item.name == name)
        value.const_value = ir.tensor(rng.standard_normal(shape).astype(np.float16), name=name)
        value.type, value.shape = ir.TensorType(HALF), ir.Shape(shape)
        model.graph.register_initializer(value)
    return model


def test_inside_is_float32_and_the_interface_stays() -> None:
    before, model = mlp(), mlp()
    assert CarryFloat32().run(model).modified
    assert types_inside(model) == {FLOAT}
    assert [(value.name, value.dtype) for value in model.graph.outputs] == [("y", HALF), ("z", FLOAT)]
    assert [value.dtype for value in model.graph.inputs] == [HALF]
    x = {"x": np.random.default_rng(1).standard_normal((5, 16)).astype(np.float16)}
    want, got = Session(before).run(x), Session(model).run(x)
    for name in want:  # float16 rounds sums of 32 products: a few times 2^-11 of the largest
        difference = np.abs(want[name].astype(np.float64) - got[name]).max() / np.abs(want[name]).max()
        assert difference < 8 * 2.0**-11


def test_second_run_and_float32_model_are_left_alone() -> None:
    model = mlp()
    CarryFloat32().run(model)
    assert not CarryFloat32().run(ir.from_proto(ir.to_proto(model))).modified
    plain = ir.from_onnx_text(HEAD + "g (float[2] x) => (float[2] y) { y = Relu(x) }")
    assert not CarryFloat32().run(plain).modified


def test_subgraphs_attributes_and_passed_through_inputs() -> None:
    model = ir.from_onnx_text(
        HEAD + """g (float16[2] x, bool c) => (float16[2] y, float16[2] x, float16[3] k)
          <int64[1] n = {3}> {
          w = Constant<value = float[2] {1, 2}>()
          k = ConstantOfShape<value = float[1] {2.5}>(n)
          y = If<then_branch = a () => (float16[2] t) { t = Add(x, w) },
                 else_branch = b () => (float16[2] e) { f = Cast<to = 10>(w) e = Mul(x, f) }>(c) }"""
    )
    for node in model.graph:
        if "value" in node.attributes:  # the text form has no float16 numbers
            array = node.attributes["value"].as_tensor().numpy().astype(np.float16)
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(array))
            node.outputs[0].type = ir.TensorType(HALF)
    before = model.clone()
    assert CarryFloat32().run(model).modified
    assert types_inside(model) == {FLOAT}
    for flag in (True, False):
        feeds = {"x": np.array([0.5, -3], np.float16), "c": np.array(flag)}
        want, got = Session(before).run(feeds), Session(model).run(feeds)
        assert list(want) == list(got)
        assert all(np.array_equal(want[name], got[name]) and want[name].dtype == got[name].dtype for name in want)


@pytest.mark.parametrize("target", ["ort-cpu", "ort-cpu-arm64", "orin"])
def test_float16_source_compiles_to_integer_products(target: str) -> None:
    x = np.random.default_rng(1).standard_normal((16, 16)).astype(np.float16)
    result = qcompiler.compile(mlp(), target=target, calibration=[{"x": x}], build_check="off")
    interface = [(value.name, value.dtype) for value in (*result.model.graph.inputs, *result.model.graph.outputs)]
    assert interface == [("x", HALF), ("y", HALF), ("z", FLOAT)]
    assert len(result.plan.nodes) == 2
    assert all(comparison.outputs[0].sqnr > 20 for comparison in result.verification.values())
    if target == "orin":
        assert types_inside(result.model) == {HALF}
    else:
        kinds = [node.op_type for node in result.model.graph]
        assert not {"MatMul", "Gemm"} & set(kinds)


def test_guard_knows_the_rounding_of_float16_outputs() -> None:
    one = ir.from_onnx_text(HEAD + "g (float16[2] x) => (float16[2] y) { y = Identity(x) }")
    for step, agrees in ((1, True), (8, False)):
        other = ir.from_onnx_text(
            HEAD + f"""g (float16[2] x) => (float16[2] y) {{ f = Cast<to = 1>(x)
              c = Constant<value = float {{ {1 + step * 2.0**-10:.10f} }}>() m = Mul(f, c) y = Cast<to = 10>(m) }}"""
        )
        guard = EquivalenceGuard([{"x": np.array([1, 0.25], np.float16)}])
        assert (guard(one, other) == "") is agrees


def test_bfloat16_is_refused_by_name(tmp_path: Path) -> None:
    model = ir.from_onnx_text(HEAD + "g (bfloat16[2] x) => (bfloat16[2] y) { y = Relu(x) }")
    ir.save(model, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="bfloat16"):
        qcompiler.compile(tmp_path / "m.onnx", target="ort-cpu")


def test_node_names_stay_apart() -> None:
    """The node that computed y is called y, and so would be the Cast that returns y."""
    model = ir.from_onnx_text(HEAD + "g (float16[N,16] x) => (float16[N,16] y) { y = Relu(x) }")
    for node in model.graph:
        node.name = "y"
    CarryFloat32().run(model)
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names) == 3
