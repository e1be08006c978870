"""carry-float16: types agree everywhere, what needs float32 keeps it, and the result is float16-close."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.precision.carry_float16 import CarryFloat16
from qcompiler.passes.precision.sensitive import sensitive_nodes
from qcompiler.passes.precision.slots import slots_of
from qcompiler.passes.precision.types import fill_types, value_types
from qcompiler.session import Session
from tests.building import build

HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT
HEAD = '<ir_version: 9, opset_import: ["" : 19]>\n'


def model_of(text: str, **constants: Any) -> ir.Model:
    model = ir.from_onnx_text(HEAD + text)
    for name, array in constants.items():
        value = next(value for node in model.graph.all_nodes() for value in node.inputs if value and value.name == name)
        value.const_value = ir.tensor(array, name=name)
        value.type, value.shape = ir.TensorType(value.const_value.dtype), ir.Shape(array.shape)
        model.graph.register_initializer(value)
    for index, node in enumerate(model.graph.all_nodes()):
        node.name = f"{node.op_type}_{index}"
    fill_types(model)
    return model


def types_of(model: ir.Model) -> dict[str, ir.DataType | None]:
    return {node.name or "": node.outputs[0].dtype for node in model.graph.all_nodes() if node.op_type != "Cast"}


def assert_strongly_typed(model: ir.Model) -> None:
    """Float operands that share a type variable agree, and stated types follow from the operators."""
    for node in model.graph.all_nodes():
        slots = slots_of(node.op_type, node.domain, 19)
        assert slots is not None
        if node.op_type in ("Scan", "Loop", "If"):
            continue
        by_variable: dict[str, set[ir.DataType | None]] = {}
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in (HALF, FLOAT):
                by_variable.setdefault(slots.input(index), set()).add(value.dtype)
        assert all(len(found) == 1 for found in by_variable.values()), node
    reread = ir.from_proto(ir.to_proto(model))
    stated = {value.name: value.dtype for node in model.graph.all_nodes() for value in node.outputs}
    for node in reread.graph.all_nodes():
        for value in node.outputs:
            value.type = None
    for value, dtype in value_types(reread).items():
        assert stated.get(value.name, dtype) == dtype, value.name


def relative_difference(before: ir.Model, after: ir.Model, feeds: dict[str, np.ndarray]) -> float:
    want, got = Session(before).run(feeds), Session(after).run(feeds)
    assert list(want) == list(got)
    errors = [np.abs(got[name] - want[name]).max() / np.abs(want[name]).max() for name in want]
    assert all(got[name].dtype == want[name].dtype for name in want)
    return float(max(errors))


MLP = "g (float[3,8] x) => (float[3,4] y) { a = MatMul(x, w) b = Add(a, c) d = Relu(b) y = MatMul(d, v) }"


def mlp() -> ir.Model:
    rng = np.random.default_rng(0)
    sizes = {"w": (8, 16), "c": (16,), "v": (16, 4)}
    return model_of(MLP, **{name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()})


def test_arithmetic_becomes_half_and_the_interface_stays() -> None:
    before, model = mlp(), mlp()
    outcome = CarryFloat16().run(model)
    assert outcome.modified and not outcome.skipped
    assert set(types_of(model).values()) == {HALF}
    assert [value.dtype for value in (*model.graph.inputs, *model.graph.outputs)] == [FLOAT, FLOAT]
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert all(value.dtype == HALF for value in model.graph.initializers.values())
    assert_strongly_typed(model)
    feeds = {"x": np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)}
    # Sums of 8 and 16 products of numbers rounded to 11 bits: a few units of 2**-11 of the largest partial sum.
    assert relative_difference(before, model, feeds) < 16 * 2.0**-11


def test_second_run_changes_nothing() -> None:
    model = mlp()
    CarryFloat16().run(model)
    text = ir.to_onnx_text(model)
    assert not CarryFloat16().run(model).modified
    assert ir.to_onnx_text(model) == text


def test_clones_keep_their_types() -> None:
    model = mlp()
    copy = model.clone()
    CarryFloat16().run(copy)
    assert set(types_of(model).values()) == {FLOAT}


def test_half_interface() -> None:
    model = mlp()
    CarryFloat16(half_io=True).run(model)
    assert [value.dtype for value in (*model.graph.inputs, *model.graph.outputs)] == [HALF, HALF]
    assert not [node for node in model.graph if node.op_type == "Cast"]


@pytest.mark.parametrize(("body", "kept"), [
    ("y = Exp(x)", {"Exp_0"}),
    ("y = Softplus(x)", {"Softplus_0"}),
    ("y = ReduceMean(x)", {"ReduceMean_0"}),
    ("a = ReduceMean(x) b = Sub(x, a) c = Mul(b, b) d = ReduceMean(c) e = Add(d, eps) f = Sqrt(e) y = Div(b, f)",
     {"ReduceMean_0", "Sub_1", "Mul_2", "ReduceMean_3", "Add_4", "Sqrt_5", "Div_6"}),
    ("a = Mul(x, eps) b = Sin(a) y = Mul(b, x)", {"Mul_0", "Sin_1"}),
    ("a = Relu(x) b = Add(a, eps) y = Div(x, b)", {"Add_1", "Div_2"}),
    ("a = Mul(x, x) b = Floor(a) c = Cast<to=7>(b) d = Cast<to=1>(c) y = Add(x, d)", {"Mul_0", "Floor_1"}),
    ("a = Softmax(x) y = Tanh(a)", set()),
])
def test_sensitive_nodes_stay_float32(body: str, kept: set[str]) -> None:
    constants = {"eps": np.float32(1e-6)} if "eps" in body else {}
    model = model_of(f"g (float[2,6] x) => (float[?,?] y) {{ {body} }}", **constants)
    outcome = CarryFloat16().run(model)
    assert {skip.where for skip in outcome.skipped if not skip.where.startswith("Cast")} == kept
    assert all(types_of(model)[name] == FLOAT for name in kept)
    assert_strongly_typed(model)


def test_samples_show_what_leaves_the_range() -> None:
    text = "g (float[4] x) => (float[4] y) { a = Mul(x, big) b = Mul(a, small) y = Tanh(b) }"
    constants = {"big": np.float32(1000.0), "small": np.float32(0.001)}
    feeds = {"x": np.array([1, 50, -100, 3], np.float32)}
    model = model_of(text, **constants)
    outcome = CarryFloat16(samples=(feeds,)).run(model)
    reasons = {skip.where: skip.reason for skip in outcome.skipped}
    assert reasons == {"Mul_0": "beyond float16's range", "Mul_1": "beyond float16's range"}
    assert relative_difference(model_of(text, **constants), model, feeds) < 2.0**-10


def test_mask_sentinel_never_becomes_nan() -> None:
    text = """g (float[1,4] m, float[2,4] s) => (float[2,4] y) {
        a = Sub(one, m) b = Mul(a, low) c = Add(s, b) y = Softmax(c) }"""
    constants = {"one": np.float32(1), "low": np.float32(np.finfo(np.float32).min)}
    model = model_of(text, **constants)
    CarryFloat16(samples=({"m": np.array([[1, 1, 0, 0]], np.float32), "s": np.zeros((2, 4), np.float32)},)).run(model)
    feeds = {"m": np.array([[1, 1, 1, 0]], np.float32), "s": np.array([[0, 1, 2, 9], [3, 0, 0, 5]], np.float32)}
    got = Session(model).run(feeds)["y"]
    assert np.all(np.isfinite(got)) and np.all(got[:, 3] == 0)
    assert set(types_of(model).values()) == {HALF}
    assert relative_difference(model_of(text, **constants), model, feeds) < 2.0**-9


def quantized(scale_w: float) -> ir.Model:
    rng = np.random.default_rng(0)
    text = """g (float[4,8] x) => (float[4,6] y) {
        q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z)
        w = DequantizeLinear<axis = 1>(wq, sw, wz) y = MatMul(d, w) }"""
    return model_of(
        text, sx=np.float32(0.02), z=np.int8(0), wq=rng.integers(-127, 128, (8, 6)).astype(np.int8),
        sw=np.full(6, scale_w, np.float32), wz=np.zeros(6, np.int8),
    )


def test_scales_take_the_carrier_type() -> None:
    model = quantized(0.01)
    CarryFloat16().run(model)
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert node.inputs[1] is not None and node.inputs[1].dtype == HALF
    assert_strongly_typed(model)


def test_scales_that_underflow_keep_their_product_in_float32() -> None:
    before, model = quantized(1e-5), quantized(1e-5)
    outcome = CarryFloat16().run(model)
    assert {skip.where: skip.reason for skip in outcome.skipped} == {"MatMul_3": "scale outside float16"}
    feeds = {"x": np.random.default_rng(2).standard_normal((4, 8)).astype(np.float32)}
    # The activation scale is rounded to float16 and x too: codes may move by one of 127 steps.
    assert relative_difference(before, model, feeds) < 3 / 127


def test_siblings_share_a_type() -> None:
    text = """g (float[4,8] x) => (float[4,6] y, float[4,6] t) {
        q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)
        w = DequantizeLinear(wq, s, z) v = DequantizeLinear(vq, tiny, z) y = MatMul(d, w) t = MatMul(d, v) }"""
    codes = np.ones((8, 6), np.int8)
    model = model_of(text, s=np.float32(0.02), tiny=np.float32(1e-6), z=np.int8(0), wq=codes, vq=codes)
    outcome = CarryFloat16().run(model)
    assert {skip.reason for skip in outcome.skipped} == {"scale outside float16", "type of a sibling"}
    assert types_of(model)["MatMul_4"] == types_of(model)["MatMul_5"] == FLOAT


SCAN = """g (float[3] s0, float[5,3] x, float[3] k) => (float[3] s, float[5,3] y) {
    u = Mul(x, x)
    s, t = Scan <num_scan_inputs = 1, body = b (float[3] p, float[3] v) => (float[3] n, float[3] o) {
        f = Tanh(v) e = Mul(p, k) n = Add(e, f) o = Mul(n, f) }> (s0, u)
    y = Relu(t) }"""


def test_scan_states_stay_float32_and_the_body_agrees() -> None:
    before, model = model_of(SCAN), model_of(SCAN)
    CarryFloat16().run(model)
    scan = next(node for node in model.graph if node.op_type == "Scan")
    body = scan.attributes["body"].as_graph()
    assert [value.dtype for value in body.inputs] == [FLOAT, FLOAT]
    assert {node.op_type: node.outputs[0].dtype for node in body if node.op_type != "Cast"}["Add"] == FLOAT
    assert not [node for node in body if node.op_type == "Cast"], "casts of captures stand outside the loop"
    assert_strongly_typed(model)
    rng = np.random.default_rng(0)
    feeds = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in (("s0", 3), ("x", (5, 3)), ("k", 3))}
    assert relative_difference(before, model, feeds) < 2.0**-9


LOOP = """g (float[3] s0, float[3,3] w) => (float[3] s) {
    s = Loop <body = b (int64 i, bool c, float[3] p) => (bool d, float[3] n) {
        a = MatMul(p, w) t = Tanh(a) n = Add(t, p) d = Identity(c) }> (trips, yes, s0) }"""


def test_loop_runs_products_in_half_and_states_in_float32() -> None:
    constants = {"trips": np.array(4, np.int64), "yes": np.array(True)}
    before, model = model_of(LOOP, **constants), model_of(LOOP, **constants)
    CarryFloat16().run(model)
    kinds = {node.op_type: node.outputs[0].dtype for node in model.graph.all_nodes()}
    assert (kinds["MatMul"], kinds["Tanh"], kinds["Add"]) == (HALF, FLOAT, FLOAT)
    rng = np.random.default_rng(0)
    feeds = {"s0": rng.uniform(-1, 1, 3).astype(np.float32), "w": rng.uniform(-1, 1, (3, 3)).astype(np.float32)}
    assert relative_difference(before, model, feeds) < 4 * 2.0**-9


IF = """g (bool c, float[3] x) => (float[3] y) {
    y = If <then_branch = t () => (float[3] a) { a = Exp(x) },
            else_branch = e () => (float[3] b) { b = Tanh(x) }> (c) }"""


@pytest.mark.parametrize("condition", [True, False])
def test_branches_return_one_type(condition: bool) -> None:
    before, model = model_of(IF), model_of(IF)
    CarryFloat16().run(model)
    assert_strongly_typed(model)
    feeds = {"c": np.array(condition), "x": np.array([0.1, -2, 1], np.float32)}
    assert relative_difference(before, model, feeds) < 2.0**-9


def test_operands_that_must_stay_float32() -> None:
    text = "g (float[1,2,3,3] x) => (float[?,?,?,?] y) { a = Relu(x) y = Resize<mode = \"nearest\">(a, , k) }"
    scales = np.array([1, 1, 2, 2], np.float32)
    before, model = model_of(text, k=scales), model_of(text, k=scales)
    CarryFloat16().run(model)
    resize = next(node for node in model.graph if node.op_type == "Resize")
    assert [None if value is None else value.dtype for value in resize.inputs] == [HALF, None, FLOAT]
    assert relative_difference(before, model, {"x": np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3)}) == 0


def test_fractions_of_large_numbers_stay_float32() -> None:
    model = build(
        """m (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) {
            [turns] turns = Mul (x, spread) [places] places = Add (turns, phases) [whole] whole = Floor (places)
            [part] part = Sub (places, whole) [after] y = Mul (part, spread)
            [floor] f = Floor (x) [other] z = Sub (f, x) }""",
        spread=np.asarray(5000, np.float32), phases=np.arange(4, dtype=np.float32) / 4,
    )  # fmt: skip
    reasons = {node.name: reason for node, reason in sensitive_nodes(model).items()}
    assert reasons == dict.fromkeys(("turns", "places", "whole", "part"), "fraction")


@pytest.mark.parametrize("attribute", ["", "<dtype = 1>"])
def test_an_identity_matrix_has_the_carried_type(attribute: str) -> None:
    """XLNet's relative attention masks the diagonal so."""
    model = model_of(f"m (float[4, 4] x) => (float[4, 4] y) {{ e = EyeLike{attribute}(x) y = Sub(x, e) }}")
    result = model.clone()
    CarryFloat16().run(result)
    assert_strongly_typed(result)
    assert types_of(result)["EyeLike_0"] == HALF
    feeds = {"x": np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)}
    assert relative_difference(model, result, feeds) < 2e-3
