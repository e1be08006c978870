"""Rotations leave the function as it was, at the sites that a person counts, with the nodes that the docstrings say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.graph import constant_array
from qcompiler.passes.canonical.forms import Form, Role, annotate, form_of
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.rotate.residual_streams import NoStream, Stream, residual_streams
from qcompiler.passes.rotate.rotate_down import RotateDown
from qcompiler.passes.rotate.rotate_heads import RotateHeads
from qcompiler.passes.rotate.rotate_residual import RotateResidual
from qcompiler.passes.rotate.rotate_scores import RotateScores
from qcompiler.passes.rotate.rotations import RotationPass, found_sites
from qcompiler.registry import find_target
from qcompiler.session import run_all
from tests.architectures import HEADS, SIZE, WIDTH, bert, canonical, llama, vit
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

BOUND = 4e-6
"""Every weight is rounded once more, by 2^-24 of itself; the layers of three blocks add up."""
RANDOM = np.random.default_rng(4)


def rotated(source: ir.Model, made: RotationPass, seed: int = 0) -> tuple[ir.Model, int]:
    before = {name: value.const_value.numpy().copy() for name, value in source.graph.initializers.items()
              if value.const_value is not None}  # fmt: skip
    copy = source.clone()
    outcome = made(seed=seed).run(copy)
    for name, array in before.items():  # never written in place
        held = source.graph.initializers[name].const_value
        assert held is not None
        np.testing.assert_array_equal(held.numpy(), array)
    return copy, len(outcome.matched)


@pytest.mark.parametrize(
    ("model", "made", "sites", "new"),
    [
        (llama(3, embedded=True), RotateResidual, 1, {}),
        (vit(3, embedded=True), RotateResidual, 1, {}),
        (llama(3), RotateHeads, 3, {}),
        (vit(3), RotateHeads, 3, {}),
        (bert(2), RotateHeads, 2, {}),
        (llama(3), RotateDown, 3, {"MatMul": 3}),
        (vit(3), RotateDown, 3, {"MatMul": 3}),
        (llama(3), RotateScores, 3, {"MatMul": 6}),
        (vit(3), RotateScores, 3, {"MatMul": 6}),
    ],
)
def test_function_sites_and_nodes(model: ir.Model, made: RotationPass, sites: int, new: dict[str, int]) -> None:
    source = canonical(model)
    result, count = rotated(source, made)
    assert count == sites
    assert dict(Counter(ops_of(result)) - Counter(ops_of(source))) == new
    assert largest_error(source, result, random_feeds(source, {"S": 5})) < BOUND
    other, _ = rotated(source, made, seed=7)
    assert any(
        not np.array_equal(array, second)
        for name, value in result.graph.initializers.items()
        if (array := constant_array(value)) is not None
        and (second := constant_array(other.graph.initializers.get(name))) is not None
    )
    names = list(result.graph.initializers)
    again = made().run(result)
    assert not again.modified
    assert list(result.graph.initializers) == names


@pytest.mark.parametrize("made", [RotateResidual, RotateHeads, RotateDown, RotateScores])
def test_any_order(made: RotationPass) -> None:
    source = canonical(llama(2, embedded=True))
    result = source.clone()
    for item in (made, RotateScores, RotateDown, RotateHeads, RotateResidual):
        assert item().run(result).matched or item is made
    assert largest_error(source, result, random_feeds(source, {"S": 5})) < BOUND
    assert not found_sites(result)


def test_what_writes_and_reads_a_residual_stream() -> None:
    (stream,) = residual_streams(canonical(llama(2, embedded=True)))
    assert isinstance(stream, Stream)
    assert stream.channels == WIDTH and not stream.centred
    assert [item.node.op_type for item in stream.writers].count("Gather") == 1
    assert len(stream.writers) == 1 + 2 * 2  # the table; output and down projection of each block
    assert [len(site.readers) for site in stream.norms] == [3, 2, 3, 2, 1]  # the last one is the head
    (stream,) = residual_streams(canonical(vit(2, embedded=True)))
    assert isinstance(stream, Stream) and stream.centred
    assert [len(site.readers) for site in stream.norms] == [3, 1, 3, 1, 1]
    counts = Counter(item.node.op_type for item in stream.writers)
    assert counts["Conv"] == 2 and counts["Expand"] == 1 and counts["MatMul"] == 4
    assert counts["Add"] == 5  # four biases and the positions


def test_a_table_shared_with_the_head_gets_a_copy() -> None:
    source = canonical(llama(1, embedded=True))
    result, _ = rotated(source, RotateResidual)
    gather = next(node for node in result.graph if node.op_type == "Gather")
    table, old = constant_array(gather.inputs[0]), constant_array(source.graph.initializers["table"])
    assert table is not None and old is not None and not np.array_equal(table, old)
    np.testing.assert_allclose(table @ table.T, old @ old.T, atol=1e-5)


def test_a_large_channel_is_spread() -> None:
    model = llama(1, embedded=True)
    table = constant_array(model.graph.initializers["table"])
    assert table is not None
    large = table.copy()
    large[:, 3] += 50
    model.graph.initializers["table"].const_value = ir.tensor(large, name="table")
    source = canonical(model)
    result, _ = rotated(source, RotateResidual)
    name = next(item.name for item in residual_streams(source))
    feeds = [random_feeds(source, {"S": 5})]
    old, new = (run_all(item, feeds, [name], optimize=False)[0][name] for item in (source, result))
    assert np.abs(old).max() > 3 * np.abs(new).max()
    np.testing.assert_allclose(np.square(old).sum(-1), np.square(new).sum(-1), rtol=1e-4)


def test_layer_norm_keeps_its_operator_and_its_mean() -> None:
    source = canonical(vit(1, embedded=True))
    result, _ = rotated(source, RotateResidual)
    norms = [node for node in result.graph if node.op_type == "LayerNormalization"]
    assert len(norms) == 3
    for node in norms:
        np.testing.assert_array_equal(constant_array(node.inputs[1]), np.ones(WIDTH))
        np.testing.assert_array_equal(constant_array(node.inputs[2]), np.zeros(WIDTH))
    name = str(norms[-1].inputs[0].name)  # type: ignore[union-attr]
    feeds = [random_feeds(source)]
    old, new = (run_all(item, feeds, [name], optimize=False)[0][name] for item in (source, result))
    np.testing.assert_allclose(new.mean(-1), old.mean(-1), atol=1e-6)
    assert np.abs(old - new).max() > 0.1


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.asarray(RANDOM.standard_normal(shape), np.float32)


def stream_of(body: str, *, inputs: str = "float[N, 4, 6] x", outputs: str = "float[N, 4, 5] y", **more: Any) -> Any:
    constants = {"win": normal(6, 8), "w": normal(8, 5), "wo": normal(8, 8), "g": normal(8), "b": normal(8)} | more
    text = f"m ({inputs}) => ({outputs}) {{ {body} }}"
    model = canonical(build(text, 17, **constants))
    return model, residual_streams(model)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a = MatMul(x, win) n = LayerNormalization(a, g) c = Relu(a) s = MatMul(n, wo) t = Add(s, c) y = MatMul(t, w)",
         "a is read by Relu"),
        ("a = MatMul(x, win) c = Relu(a) n = LayerNormalization(c, g) y = MatMul(n, w)", "c comes from Relu"),
        ("a = MatMul(x, win) n = LayerNormalization(a, g) s = Add(n, a) y = MatMul(s, w)",
         "n is what a norm gives (post-LN, or a norm behind the embedding)"),
        ("a = MatMul(x, win) s = Add(a, one) n = LayerNormalization(s, g) y = MatMul(n, w)",
         "one does not have the channels of s"),
        ("a = MatMul(x, win) s = Mul(a, g) n = LayerNormalization(s, b) y = MatMul(n, w)", "s comes from Mul"),
        ("a = MatMul(x, win) n = LayerNormalization(a, g) r = Relu(n) y = MatMul(r, w)",
         "norm n: no layer reads it but Relu"),
        ("a = MatMul(x, win) n = LayerNormalization(a, g) r = Relu(n) t = Add(r, r) m = MatMul(n, w) u = MatMul(t, w)"
         " y = Add(m, u)", "post-LN: norm n is also read by Relu"),
    ],
)  # fmt: skip
def test_near_misses_of_streams(body: str, reason: str) -> None:
    model, found = stream_of(body, one=np.ones(1, np.float32))
    assert [item.reason for item in found if isinstance(item, NoStream)][:1] == [reason]
    outcome = RotateResidual().run(model)
    assert not outcome.modified and reason in {item.reason for item in outcome.skipped}


def test_inputs_and_outputs_of_the_model_are_no_streams() -> None:
    first, *others = residual_streams(canonical(llama(1)))
    assert isinstance(first, NoStream) and first.reason == "x is an input of the model" and not others
    _, found = stream_of("a = MatMul(x, win) n = LayerNormalization(a, g) y = MatMul(n, w)",
                         outputs="float[N, 4, 5] y, float[N, 4, 8] a")  # fmt: skip
    assert [item.reason for item in found] == ["a is an output of the model"]
    first, *others = residual_streams(canonical(bert(1)))
    assert isinstance(first, NoStream) and first.reason == "x is an input of the model"
    assert len(others) == 2
    assert all(isinstance(item, NoStream) and "post-LN" in item.reason for item in others)


@pytest.mark.parametrize("gain", ["plain", "with_zero"])
def test_a_norm_bias_stays_where_a_reader_takes_none(gain: str) -> None:
    gains = np.abs(normal(8)) + 0.5
    gains[2] = 0.0 if gain == "with_zero" else -1.0
    body = "a = MatMul(x, win) n = LayerNormalization(a, g, b) y = MatMul(n, w)"
    source, _ = stream_of(body, g=gains)
    result = source.clone()
    outcome = RotateResidual().run(result)
    if gain == "with_zero":
        assert not outcome.matched
        assert [item.reason for item in outcome.skipped] == [
            "norm n: it has a bias that its readers cannot take and a gain near zero"
        ]
        return
    assert len(outcome.matched) == 1
    assert ops_of(result) == ops_of(source)
    assert largest_error(source, result, random_feeds(source)) < BOUND


def test_scaled_and_joined_streams() -> None:
    body = """a = MatMul(x, win) e = Mul(a, root) p = Sub(e, b) q = Concat<axis = 1>(p, extra) k = Where(mask, q, fill)
        n = LayerNormalization(k, g) m = MatMul(n, wo) t = Add(k, m) s = Slice(t, zero, three, one) y = MatMul(s, w)"""
    source, found = stream_of(
        body, inputs="float[1, 4, 6] x, bool[1, 6, 1] mask", outputs="float[1, 3, 5] y", root=np.float32(3),
        extra=normal(1, 2, 8), fill=normal(8), zero=np.array([0]), three=np.array([3]), one=np.array([1]),
    )  # fmt: skip
    assert [type(item) for item in found] == [Stream]
    assert found[0].readers[0].node.name == "y"
    result, count = rotated(source, RotateResidual)
    assert count == 1
    assert largest_error(source, result, random_feeds(source)) < BOUND


def test_a_layer_between_norm_and_stream_is_rotated_on_both_sides() -> None:
    body = """a = MatMul(x, win) n = LayerNormalization(a, g, b) m = MatMul(n, wo) c = Add(m, b) t = Add(a, c)
        y = MatMul(t, w)"""
    source, _ = stream_of(body)
    result, count = rotated(source, RotateResidual)
    assert count == 1
    assert largest_error(source, result, random_feeds(source)) < BOUND


def test_wide_down_projections_take_two_factors() -> None:
    text = "m (float[N, S, 8] x) => (float y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"
    source = canonical(build(text, 17, w=normal(8, 192), v=normal(192, 8)))
    result, count = rotated(source, RotateDown)
    assert count == 1
    assert ops_of(result) == ["MatMul", "Relu", "Reshape", "MatMul", "MatMul", "Reshape", "MatMul"]
    assert largest_error(source, result, random_feeds(source, {"S": 5})) < BOUND
    matrices = [array for node in result.graph if form_of(node) is Form.ROTATION for value in node.inputs
                if (array := constant_array(value)) is not None]  # fmt: skip
    assert sorted(array.shape for array in matrices) == [(12, 12), (16, 16)]


def test_rotations_stay_float_and_what_they_feed_is_quantized() -> None:
    result, _ = rotated(canonical(llama(1)), RotateDown)
    sites = select_sites(result, find_target("ort-cpu").placement)
    added = [node for node in result.graph if form_of(node) is Form.ROTATION]
    assert added and all(str(node.name) in sites.floats for node in added)
    down = next(node for node in result.graph if node.inputs[0] is added[-1].outputs[0])
    assert str(down.name) in sites.activations


def test_keys_are_rotated_before_heads_are_repeated() -> None:
    result, _ = rotated(canonical(llama(1)), RotateScores)
    shapes = {tuple(node.outputs[0].shape or ())[1:] for node in result.graph if form_of(node) is Form.ROTATION}
    assert {shape[-1] for shape in shapes} == {SIZE}
    three = [shape for shape in shapes if len(shape) == 3]
    assert {shape[0] for shape in three} >= {HEADS}  # queries [heads, positions, size]
    assert {shape[1] for shape in three} >= {2}  # keys [positions, heads, size], in front of Unsqueeze and Expand


def test_keys_of_a_cache_stay_as_they_were() -> None:
    text = """m (float[1, 2, S, 4] q, float[1, 2, S, 4] k, float[1, 2, P, 4] past, float[1, 2, T, 4] v)
        => (float y, float[1, 2, T, 4] present) {
        present = Concat<axis = 2>(past, k) t = Transpose<perm = [0, 1, 3, 2]>(present) s = MatMul(q, t)
        c = Mul(s, root) p = Softmax<axis = -1>(c) y = MatMul(p, v) }"""
    source = canonical(build(text, 17, root=np.float32(0.5)))
    result, count = rotated(source, RotateScores)
    assert count == 1
    assert largest_error(source, result, random_feeds(source, {"S": 3, "P": 4, "T": 7})) < BOUND


def test_near_misses_of_heads_and_unknown_sites() -> None:
    outcome = RotateHeads().run(canonical(build(
        "m (float[N, 2, S, 4] q, float[N, 2, 4, T] k, float[N, 2, T, 4] v) => (float y) "
        "{ s = MatMul(q, k) p = Softmax<axis = -1>(s) y = MatMul(p, v) }", 17)))  # fmt: skip
    assert [item.reason for item in outcome.skipped] == [
        "the values do not come from a layer of their own, split into heads"
    ]
    cached = llama(1)
    values = next(node.outputs[0] for node in cached.graph if node.name == "v3_0")
    cached.graph.outputs.append(values)
    outcome = RotateHeads().run(canonical(cached))
    assert [item.reason for item in outcome.skipped] == [
        "the values are read elsewhere too, or are an output of the model (a cache)"
    ]
    for made in (RotateResidual, RotateHeads, RotateDown, RotateScores):
        gone = made(sites=("nowhere",)).run(canonical(vit(1)))
        assert not gone.modified and [item.reason for item in gone.skipped] == ["no such site"]


def test_heads_of_a_product_that_broadcasts() -> None:
    text = """m (float[N, 5, 8] x) => (float y) {
        v = MatMul(x, wv) h = Reshape(v, split) t = Transpose<perm = [0, 2, 1, 3]>(h) u = Unsqueeze(t, two)
        q0 = MatMul(x, wq) q1 = Reshape(q0, grouped)
        q2 = Transpose<perm = [0, 2, 3, 1, 4]>(q1) s = MatMul(q2, keys) p = Softmax<axis = -1>(s) o = MatMul(p, u)
        f = Reshape(o, flat) b = Transpose<perm = [0, 2, 1, 3]>(f) j = Reshape(b, joined) y = MatMul(j, wo) }"""
    source = canonical(build(
        text, 17, wv=normal(8, 8), wq=normal(8, 16), wo=normal(16, 3), split=np.array([0, 5, 2, 4]),
        two=np.array([2]), grouped=np.array([0, 5, 2, 2, 4]), keys=normal(4, 5), flat=np.array([0, 4, 5, 4]),
        joined=np.array([0, 5, 16]),
    ))  # fmt: skip
    copy = source.clone()
    for node in copy.graph:  # the keys are constant here, so that recognition sees no attention
        if node.name in ("s", "o"):
            annotate(node, Form.ATTENTION, Role.QK if node.name == "s" else Role.PV, "o")
    result, count = rotated(copy, RotateHeads)
    assert count == 1
    assert largest_error(source, result, random_feeds(source)) < BOUND


def test_half_precision() -> None:
    text = "m (float16[N, S, 8] x) => (float16 y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"
    arrays = {"w": normal(8, 16).astype(np.float16), "v": normal(16, 8).astype(np.float16)}
    source = canonical(build(text, 17, **arrays))
    result, count = rotated(source, RotateDown)
    assert count == 1
    assert largest_error(source, result, random_feeds(source, {"S": 5})) < 0.01
