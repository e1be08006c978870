"""Factors behind a layer and its bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.fold.fold_layer_scale import FoldLayerScale
from qcompiler.passes.fold.pipeline import fold_passes
from qcompiler.passes.rotate.residual_streams import Stream, residual_streams
from qcompiler.pipeline import Pipeline
from tests.architectures import canonical, vit
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

RANDOM = np.random.default_rng(2)


def made(body: str, outputs: str = "float y", **more: np.ndarray[Any, Any]) -> ir.Model:
    constants: dict[str, np.ndarray[Any, Any]]
    constants = {"w": RANDOM.standard_normal((8, 6)).astype(np.float32), "b": np.arange(6, dtype=np.float32),
                 "c": RANDOM.uniform(0.5, 2, 6).astype(np.float32)}  # fmt: skip
    constants |= {"grid": np.array([0, 2, 2, 6]), "back": np.array([0, 4, 6]), "two": np.array([1]),
                  "end": np.array([9]), "zero": np.array([0]), "axis": np.array([1])}  # fmt: skip
    return canonical(build(f"m (float[N, 4, 8] x) => ({outputs}) {{ {body} }}", 17, **(constants | more)))


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("a = MatMul(x, w) d = Add(b, a) y = Mul(d, c)", ["MatMul", "Add"]),
        ("a = MatMul(x, w) d = Add(a, b) y = Div(d, c)", ["MatMul", "Add"]),
        ("a = MatMul(x, w) e = Mul(c, a) y = Relu(e)", ["MatMul", "Relu"]),
        (
            """a = MatMul(x, w) d = Add(a, b) s = Reshape(d, grid) s1 = Slice(s, two, end, axis)
            s2 = Slice(s, zero, two, axis) s3 = Concat<axis = 1>(s1, s2) t = Reshape(s3, back) y = Mul(t, c)""",
            ["MatMul", "Add", "Reshape", "Slice", "Slice", "Concat", "Reshape"],
        ),
    ],
)
def test_factors_go_into_weight_and_bias(body: str, left: list[str]) -> None:
    source = made(body)
    result = source.clone()
    assert len(FoldLayerScale().run(result).matched) == 1
    assert ops_of(result) == left
    assert largest_error(source, result, random_feeds(source)) < 1e-6
    assert not FoldLayerScale().run(result).modified


@pytest.mark.parametrize("factor", ["t = Transpose<perm = [0, 2, 1]>(s) y = Mul(t, c)", "y = Mul(s, columns)"])
@pytest.mark.parametrize("conv", ["a = Conv(x, k, b)", "a = Conv<group = 2>(x, h)"])
def test_factors_go_into_a_conv_whose_places_become_tokens(conv: str, factor: str) -> None:
    weights = {"k": RANDOM.standard_normal((6, 4, 3, 3)), "h": RANDOM.standard_normal((6, 2, 1, 1)), "b": np.arange(6),
               "c": RANDOM.uniform(0.5, 2, 6), "columns": RANDOM.uniform(0.5, 2, (6, 1))}  # fmt: skip
    text = f"m (float[N, 4, 5, 5] x) => (float y) {{ {conv} s = Reshape(a, flat) {factor} }}"
    constants = {name: array.astype(np.float32) for name, array in weights.items()}
    source = canonical(build(text, 17, flat=np.array([0, 6, -1]), **constants))
    result = source.clone()
    assert len(FoldLayerScale().run(result).matched) == 1
    assert "Mul" not in ops_of(result)
    assert largest_error(source, result, random_feeds(source)) < 1e-6
    assert not FoldLayerScale().run(result).modified


def test_factors_go_into_a_gemm_of_all_positions() -> None:
    """As the output projection of torch's MultiheadAttention is exported."""
    text = """m (float[N, 4, 8] x) => (float y) {
        f = Reshape(x, rows) g = Gemm<transB = 1>(f, v, b) s = Reshape(g, tokens) y = Mul(s, c) }"""
    constants = {"v": RANDOM.standard_normal((6, 8)), "b": np.arange(6), "c": RANDOM.uniform(0.5, 2, 6)}
    weights = {name: array.astype(np.float32) for name, array in constants.items()}
    places = {"rows": np.array([-1, 8]), "tokens": np.array([-1, 4, 6])}
    source = canonical(build(text, 17, **weights, **places))
    result = source.clone()
    assert len(FoldLayerScale().run(result).matched) == 1
    assert ops_of(result) == ["Reshape", "Gemm", "Reshape"]
    assert largest_error(source, result, random_feeds(source)) < 1e-6


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        ("a = MatMul(x, w) y = Mul(a, c) z = Relu(a)", "float y, float z", "the layer's output is read elsewhere too"),
        ("a = MatMul(x, w) t = Transpose<perm = [1, 0, 2]>(a) y = Mul(t, c) z = Relu(a)", "float y, float z",
         "the layer's output is read elsewhere too"),
        ("a = MatMul(x, w) y = Mul(a, rows)", "float y", "the constant is not one number for each output channel"),
        ("a = MatMul(x, w) y = Div(a, none)", "float y", "the folded weights are not finite"),
    ],
)
def test_near_misses(body: str, outputs: str, reason: str) -> None:
    more = {"rows": np.ones((4, 1), np.float32), "none": np.zeros(6, np.float32)}
    model = made(body, outputs, **{name: array for name, array in more.items() if name in body})
    before = ops_of(model)
    outcome = FoldLayerScale().run(model)
    assert [item.reason for item in outcome.skipped] == [reason]
    assert not outcome.modified and ops_of(model) == before


def test_a_constant_in_front_of_a_division_stays() -> None:
    model = made("a = MatMul(x, w) y = Div(c, a)")
    assert not FoldLayerScale().run(model).modified


def test_a_shared_weight_keeps_its_other_readers() -> None:
    source = made("a = MatMul(x, w) y = Mul(a, c) z = MatMul(x, w)", "float y, float z")
    result = source.clone()
    FoldLayerScale().run(result)
    assert largest_error(source, result, random_feeds(source)) < 1e-6


def test_the_stream_of_a_vit_with_layer_scale_can_be_rotated() -> None:
    model = canonical(vit(2, embedded=True))
    for name in ("o1_0", "d1_0", "o1_1", "d1_1"):  # what attention and MLP add to the stream
        value = next(output for node in model.graph for output in node.outputs if output.name == name)
        maker = value.producer()
        assert maker is not None and isinstance(model.graph, ir.Graph)
        gain = ir.Value(name=f"gain_{name}", const_value=ir.tensor(RANDOM.uniform(0.1, 1, 16).astype(np.float32)))
        gain.shape, gain.type = ir.Shape([16]), ir.TensorType(ir.DataType.FLOAT)
        model.graph.register_initializer(gain)
        scale = ir.node("Mul", [value, gain], name=f"scale_{name}")
        scale.outputs[0].name, scale.outputs[0].shape, scale.outputs[0].type = f"scaled_{name}", value.shape, value.type
        value.replace_all_uses_with(scale.outputs[0])
        scale.replace_input_with(0, value)
        model.graph.insert_after(maker, scale)
    assert not [item for item in residual_streams(model) if isinstance(item, Stream)]
    result, _ = Pipeline(fold_passes()).run(model.clone())
    assert [isinstance(item, Stream) for item in residual_streams(result)] == [True]
    assert largest_error(model, result, random_feeds(model)) < 1e-5
