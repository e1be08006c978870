"""Pairs from small graphs: the right level, the change named, nothing else said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompiler.diffing.changes import Level
from tests.building import build
from tests.diffing.pairs import diff, edited, lines, renamed, scaled, without_pair
from tests.quantizing import quantized
from tests.small_models import small_cnn, transformer_block

W = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
CHAIN = """m (float[N, 8] x) => (float[N, 8] y) {
    [fc1] a = MatMul(x, w1) [act] b = Relu(a) [fc2] c = MatMul(b, w2) [add] d = Add(c, x) [top] y = Softmax<axis = 1>(d)
}"""
LOOP = """m (float[N, 8] x, int64 n, bool go) => (float[N, 8] y) {
    [loop] y = Loop(n, go, x) <body = inner (int64 i, bool c, float[N, 8] s) => (bool c2, float[N, 8] t) {
        [same] c2 = Identity(c) [step] m = MatMul(s, w1) [cap] t = Clip(m, low) }> }"""
CALL = """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
m (float[N, 8] x) => (float[N, 8] y) { [call] y = own.twice(x) }
<domain: "own", opset_import: ["" : 21]>
twice (a) => (b) { two = Constant<value = float {2.0}>() [scale] c = Mul(a, two) [out] b = Tanh(c) }"""


def chain() -> ir.Model:
    return build(CHAIN, w1=W, w2=W.T)


def qdq() -> ir.Model:
    return quantized(CHAIN, w1=W, w2=W.T)[0]


def loop(low: float = 0.0) -> ir.Model:
    return build(LOOP, w1=W, low=np.float32(low))


def call(number: str = "2.0") -> ir.Model:
    return ir.from_onnx_text(CALL.replace("{2.0}", f"{{{number}}}"))


def twins(order: str = "g, h, i, j") -> ir.Model:
    """Two equal pieces with two equal readers each."""
    return build("m (float[N, 8] x) => (float[N, 8] y) { a = Relu(x) b = Relu(x) c = Tanh(a) d = Tanh(b) e = Tanh(a) "
                 f"f = Tanh(b) g = Neg(c) h = Neg(d) i = Neg(e) j = Neg(f) y = Sum({order}) }}")  # fmt: skip


MODELS = {"chain": chain, "twins": twins, "qdq": qdq, "loop": loop, "call": call, "cnn": small_cnn,
          "block": transformer_block}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_equal_to_itself(name: str) -> None:
    found = diff(MODELS[name](), MODELS[name]())
    assert (found.level, found.fails) == (None, False)
    assert found.verdict == "the same graph, weights and names"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MODELS)
def test_other_names_and_another_order_are_names(name: str, seed: int) -> None:
    model = MODELS[name]()
    found = diff(model, renamed(model, seed))
    assert found.level is Level.NAMES, list(found.changes)
    assert not found.fails
    assert diff(renamed(model, seed), model, fail_on=Level.NAMES).fails


def test_names_of_axes_are_nothing() -> None:
    assert diff(chain(), build(CHAIN.replace("N,", "batch,"), w1=W, w2=W.T)).level is None


def test_constant_nodes_are_initializers() -> None:
    text = CHAIN.replace("[act] b = Relu(a)", "[act] b = Mul(a, half)")
    held = build(text, w1=W, w2=W.T, half=np.float32(0.5))
    spelled = build(text.replace("[act]", "half = Constant<value = float {0.5}>() [act]"), w1=W, w2=W.T)
    assert diff(held, spelled).level is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Softmax<axis = 1>(d)", "Softmax(d)"),  # the default, counted from the other end
        ("Softmax<axis = 1>(d)", "Softmax<axis = -1>(d)"),
        ("Add(c, x)", "Add(x, c)"),
    ],
)
def test_other_spellings_are_nothing(old: str, new: str) -> None:
    assert diff(chain(), build(CHAIN.replace(old, new), w1=W, w2=W.T)).level is None


def test_axes_as_attribute_and_as_input() -> None:
    text = "m (float[N, 8] x) => (float[N] y) {{ [sum] y = {} }}"
    before = build(text.format("ReduceMean<axes = [1], keepdims = 0>(x)"), 17)
    after = build(text.format("ReduceMean<keepdims = 0>(x, axes)"), 18, axes=np.array([1]))
    assert lines(diff(before, after), Level.INTERFACE) == ["opset ai.onnx: 17 -> 18"]
    assert list(diff(before, after).counts) == [Level.INTERFACE]


def test_a_default_that_another_opset_has_changed() -> None:
    text = "m (float[N, 8, 4] x) => (float[N, 8, 4] y) { [top] y = Softmax(x) }"
    assert lines(diff(build(text, 12), build(text, 13)), Level.STRUCTURE) == ["Softmax axis: 1 -> -1 (top)"]


@pytest.mark.parametrize("order", ["g, i, h, j", "j, g, h, i", "h, g, j, i"])
def test_equal_pieces_keep_together(order: str) -> None:
    assert (diff(twins(), renamed(twins(order))).level or Level.NAMES) is Level.NAMES


Edit = Callable[[onnx.GraphProto], None]


def node(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(item for item in graph.node if item.name == name)
    return found


def insert(graph: onnx.GraphProto, op_type: str, before: str) -> None:
    reader = node(graph, before)
    made = onnx.helper.make_node(op_type, [reader.input[0]], ["fresh"], name="fresh")
    reader.input[0] = "fresh"
    graph.node.insert(list(graph.node).index(reader), made)


def swap_act(graph: onnx.GraphProto) -> None:
    node(graph, "act").op_type = "Tanh"


def drop_act(graph: onnx.GraphProto) -> None:
    node(graph, "fc2").input[0] = "a"
    graph.node.remove(node(graph, "act"))


def rewire(graph: onnx.GraphProto) -> None:
    node(graph, "add").input[1] = "b"


def rename_output(graph: onnx.GraphProto) -> None:
    node(graph, "top").output[0] = graph.output[0].name = "z"


def widen_input(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def other_axis(graph: onnx.GraphProto) -> None:
    node(graph, "top").attribute[0].i = 0


@pytest.mark.parametrize(
    ("edit", "level", "what"),
    [
        (scaled("w2", 1.01), Level.WEIGHTS, ["w2 of fc2: 8x8, 100% of its elements changed, by up to 0.01 of its"
                                             " largest magnitude"]),
        (swap_act, Level.STRUCTURE, ["Relu -> Tanh (act, behind fc1, before fc2)"]),
        (drop_act, Level.STRUCTURE, ["removed Relu (act, behind fc1, before fc2)"]),
        (lambda graph: insert(graph, "Tanh", "fc2"), Level.STRUCTURE, ["added Tanh (fresh, behind act, before fc2)"]),
        (lambda graph: insert(graph, "Relu", "fc2"), Level.STRUCTURE, ["added Relu (fresh, behind act, before fc2)"]),
        (lambda graph: insert(graph, "Identity", "fc2"), Level.STRUCTURE, ["added Identity on the way to fc2[0]"]),
        (rewire, Level.STRUCTURE, ["input 1 of Add add reads act, read x"]),
        (other_axis, Level.STRUCTURE, ["Softmax axis: 1 -> 0 (top)"]),
        (rename_output, Level.INTERFACE, ["output 'y' is now called 'z'"]),
        (widen_input, Level.INTERFACE, ["input 'x': [N, 8] -> [4, 8]"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rename", [False, True])
def test_one_edit_is_one_line(edit: Edit, level: Level, what: list[str], rename: bool) -> None:
    before = chain()
    after = edited(before, edit)
    found = diff(before, renamed(after) if rename else after)
    assert found.level is level
    got = lines(found, level)
    if not rename:
        assert got == what
        assert set(found.counts) <= {level, Level.NAMES}
    else:
        assert len(got) == 1
        assert got[0].split()[0] == what[0].split()[0]
    assert found.fails


def test_one_scale_is_named_with_its_readers() -> None:
    before = qdq()
    quantizers = (item.inputs for item in before.graph if item.op_type == "QuantizeLinear")
    names = {source.name: scale.name for source, scale, *_ in quantizers if source is not None and scale is not None}
    name = names["b"]
    found = diff(before, edited(before, scaled(str(name), 1.25)))
    assert found.level is Level.SCALES
    (what,) = lines(found, Level.SCALES)
    assert what.startswith("act: scale ")
    assert what.endswith(" (+25%), read by fc2[0]")
    assert diff(before, edited(before, scaled(str(name), 1.005))).level is None  # below the tolerance
    assert diff(before, edited(before, scaled(str(name), 1.005)), tolerance=0.001).level is Level.SCALES


def test_a_removed_pair_is_a_precision_and_an_island() -> None:
    before = qdq()
    found = diff(before, edited(before, without_pair("fc2")))
    assert found.level is Level.PRECISION
    assert lines(found, Level.PRECISION) == ["int8 x int8[axis 1] -> float32 x int8[axis 1]: MatMul (fc2)"]
    section = next(item for item in found.sections if item.name == "quantization")
    assert section.rows == (("integer MatMul", "2 of 2", "1 of 2"),)
    third = CHAIN.replace("[add] d = Add(c, x)", "[fc3] d = MatMul(c, w1)")
    longer = quantized(third, w1=W, w2=W.T)[0]
    found = diff(longer, edited(longer, without_pair("fc2")))
    assert "new float island between integer operators: fc2" in lines(found, Level.PRECISION)


def test_float_against_quantized() -> None:
    found = diff(chain(), qdq())
    assert found.level is Level.PRECISION
    assert lines(found, Level.PRECISION) == ["float32 x float32 -> int8 x int8[axis 1]: MatMul 2 (fc1, fc2)"]
    assert not lines(found, Level.STRUCTURE)
    assert not lines(found, Level.WEIGHTS)


def test_changes_in_subgraphs_and_functions_are_seen() -> None:
    found = diff(loop(), loop(0.5))
    assert lines(found, Level.STRUCTURE) == ["Clip min: 0 -> 0.5 (cap)"]
    found = diff(loop(), edited(loop(), scaled("w1", 2.0)))
    assert found.level is Level.WEIGHTS
    assert lines(found, Level.WEIGHTS)[0].startswith("w1 of step: ")
    found = diff(call(), call("3.0"))
    assert found.level is Level.WEIGHTS
    assert lines(found, Level.WEIGHTS)[0].startswith("two of scale: scalar")


def test_a_removed_input_and_the_order_of_outputs() -> None:
    before = build("m (float[N, 8] x, float[N, 8] u) => (float[N, 8] y, float[N, 8] z) "
                   "{ y = Relu(x) z = Add(x, u) }")  # fmt: skip
    after = build("m (float[N, 8] x) => (float[N, 8] z, float[N, 8] y) { y = Relu(x) z = Add(x, x) }")
    found = lines(diff(before, after), Level.INTERFACE)
    assert found == ["input 'u' is gone: float32[N, 8]", "outputs in another order: z, y"]


def test_ignored_levels_do_not_count() -> None:
    after = edited(chain(), scaled("w2", 1.01))
    found = diff(chain(), after, ignored=frozenset({Level.WEIGHTS}))
    assert (found.level, found.fails) == (None, False)


def test_an_edit_in_one_of_many_equal_layers_stays_there() -> None:
    body = " ".join(f"[m{i}] a{i} = MatMul(a{i - 1}, w) [r{i}] b{i} = Relu(a{i}) [s{i}] c{i} = Add(b{i}, x)"
                    .replace("a0", "x").replace(f"MatMul(a{i - 1}", f"MatMul(c{i - 1}" if i > 1 else "MatMul(x")
                    for i in range(1, 13))  # fmt: skip
    before = build(f"m (float[N, 8] x) => (float[N, 8] y) {{ {body} y = Tanh(c12) }}", w=W)
    after = edited(before, lambda graph: setattr(node(graph, "r7"), "op_type", "Sigmoid"))
    found = diff(before, renamed(after))
    assert lines(found, Level.STRUCTURE) == ["Relu -> Sigmoid (r7, behind m7, before s7)"]
    assert found.counts[Level.STRUCTURE] == 1
