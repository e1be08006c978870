"""BatchNormalization, Add and Mul into the layer before them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompiler.passes.fold.pipeline import fold_passes
from qcompiler.pipeline import Pipeline
from tests.equivalence import largest_error, normalized, ops_of, random_feeds

RANDOM = np.random.default_rng(7)
BOUND = 1e-5
"""Each of at most 200 products is rounded once more than before: 200 * 2^-24 of the largest output."""


def model_of(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    shape: list[int],
    rank: int,
    outputs: tuple[str, ...] = ("y",),
) -> ir.Model:
    initializers = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in outputs],
        initializers,
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def norm(
    data: str, output: str, channels: int, name: str = "n", **attributes: Any
) -> tuple[onnx.NodeProto, dict[str, Any]]:
    constants = {
        f"{name}g": RANDOM.uniform(-1.5, 1.5, channels),
        f"{name}b": RANDOM.standard_normal(channels),
        f"{name}m": RANDOM.standard_normal(channels),
        f"{name}v": RANDOM.uniform(0.1, 2, channels),
    }
    return helper.make_node("BatchNormalization", [data, *constants], [output], name=name, **attributes), constants


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(np.float32)


LAYERS: dict[str, tuple[str, tuple[int, ...], list[int], dict[str, Any], int]] = {
    "conv": ("Conv", (6, 3, 3, 3), [2, 3, 8, 8], {"pads": [1, 1, 1, 1]}, 6),
    "conv-grouped": ("Conv", (6, 2, 3, 3), [2, 4, 8, 8], {"group": 2, "strides": [2, 2]}, 6),
    "conv-1d": ("Conv", (6, 3, 3), [2, 3, 8], {}, 6),
    "conv-3d": ("Conv", (4, 2, 2, 2, 2), [1, 2, 4, 4, 4], {}, 4),
    "transposed": ("ConvTranspose", (3, 5, 2, 2), [2, 3, 4, 4], {"strides": [2, 2]}, 5),
    "transposed-grouped": ("ConvTranspose", (4, 3, 3, 3), [2, 4, 4, 4], {"group": 2, "output_padding": [1, 1],
                                                                        "strides": [2, 2]}, 6),
    "gemm": ("Gemm", (5, 7), [3, 5], {"alpha": 0.5}, 7),
    "gemm-transposed": ("Gemm", (7, 5), [3, 5], {"transB": 1, "beta": 0.25}, 7),
}  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", list(LAYERS))
def test_norm_and_affine_go_into_the_layer(case: str, bias: bool) -> None:
    op, weight, shape, attributes, channels = LAYERS[case]
    batch_norm, constants = norm("a", "b", channels)
    operand = (1, channels, *[1] * (len(shape) - 2))
    constants |= {"w": normal(*weight), "c": normal(channels), "k": normal(*operand), "s": normal(*operand[1:])}
    nodes = [
        helper.make_node(op, ["x", "w", "c"] if bias else ["x", "w"], ["a"], **attributes),
        batch_norm,
        helper.make_node("Mul", ["s", "b"], ["d"]),
        helper.make_node("Sub", ["k", "d"], ["y"]),
    ]
    source = normalized(model_of(nodes, constants, shape, len(shape)))
    before = {name: value.const_value.numpy().copy() for name, value in source.graph.initializers.items()
              if value.const_value is not None}  # fmt: skip
    folded, _ = Pipeline(fold_passes()).run(source.clone())
    assert ops_of(folded) == [op]
    assert folded.graph.outputs[0].name == "y"
    assert largest_error(source, folded, random_feeds(source)) < BOUND
    for name, array in before.items():
        value = source.graph.initializers[name].const_value
        assert value is not None
        np.testing.assert_array_equal(value.numpy(), array)
    assert not any(run.outcome.modified for run in Pipeline(fold_passes()).run(folded)[1])


def test_matmul_becomes_a_gemm() -> None:
    batch_norm, constants = norm("a", "y", 7)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), batch_norm]
    source = normalized(model_of(nodes, {"w": normal(5, 7), **constants}, [3, 5], 2))
    folded, _ = Pipeline(fold_passes()).run(source.clone())
    assert ops_of(folded) == ["Gemm"]
    assert largest_error(source, folded, random_feeds(source)) < BOUND


def test_weights_that_layers_share_stay_shared() -> None:
    one, constants = norm("a", "c", 4)
    two = helper.make_node("BatchNormalization", ["b", *one.input[1:]], ["d"])
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["b"]),
        one,
        two,
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    source = normalized(model_of(nodes, {"w": normal(4, 3, 1, 1), **constants}, [1, 3, 5, 5], 4))
    folded, _ = Pipeline(fold_passes()).run(source.clone())
    assert sorted(ops_of(folded)) == ["Add", "Conv", "Conv", "Relu"]
    assert len(folded.graph.initializers) == 2
    assert largest_error(source, folded, random_feeds(source)) < BOUND


CONV = helper.make_node("Conv", ["x", "w"], ["a"], name="conv")
NEAR_MISSES: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], str]] = {
    "second reader": ([CONV, helper.make_node("Add", ["a", "k"], ["b"]), helper.make_node("Mul", ["a", "b"], ["y"])],
                      {"k": normal(1, 5, 1, 1)}, "read elsewhere"),
    "along the width": ([CONV, helper.make_node("Add", ["a", "k"], ["y"])], {"k": normal(5)}, "each output channel"),
    "whole map": ([CONV, helper.make_node("Mul", ["a", "k"], ["y"])], {"k": normal(5, 5, 5)}, "each output channel"),
    "wider": ([CONV, helper.make_node("Mul", ["a", "k"], ["y"])], {"k": normal(1, 1, 5, 1, 1)}, "each output channel"),
    "by zero": ([CONV, helper.make_node("Div", ["a", "k"], ["y"])], {"k": [0.0]}, "division by zero"),
    "overflow": ([CONV, helper.make_node("Mul", ["a", "k"], ["y"])], {"k": [3e38]}, "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(NEAR_MISSES))
def test_near_misses_stay(case: str) -> None:
    nodes, constants, reason = NEAR_MISSES[case]
    rank = 5 if case == "wider" else 4
    source = normalized(model_of(nodes, {"w": normal(5, 3, 1, 1) * 20, **constants}, [1, 3, 5, 5], rank))
    folded, runs = Pipeline(fold_passes()).run(source.clone())
    assert ops_of(folded) == ops_of(source)
    assert any(reason in skip.reason for run in runs for skip in run.outcome.skipped)


def test_norms_that_stay() -> None:
    behind_input, first = norm("x", "p", 3, "first")
    training, second = norm("q", "r", 4, "second", training_mode=1)
    training.output.extend(["tm", "tv"])
    unstable, third = norm("s", "t", 4, "third")
    third["thirdv"] = -np.ones(4)
    returned, fourth = norm("u", "y", 4, "fourth")
    nodes = [
        behind_input,
        helper.make_node("Conv", ["p", "w"], ["q"]),
        training,
        helper.make_node("Conv", ["r", "w4"], ["s"]),
        unstable,
        helper.make_node("Conv", ["t", "w4"], ["u"]),
        returned,
    ]
    constants = {"w": normal(4, 3, 1, 1), "w4": normal(4, 4, 1, 1), **first, **second, **third, **fourth}
    source = normalized(model_of(nodes, constants, [1, 3, 5, 5], 4, ("y", "u")))
    folded, runs = Pipeline(fold_passes()).run(source.clone())
    assert ops_of(folded) == ops_of(source)
    assert [(skip.where, skip.reason) for skip in runs[1].outcome.skipped] == [
        ("first", "follows an input"),
        ("second", "in training mode"),
        ("third", "its statistics give numbers that are not finite"),
        ("fourth", "the layer's output is read elsewhere too"),
    ]


def test_layers_in_a_body_fold() -> None:
    source = normalized(
        ir.from_onnx_text(
            """<ir_version: 8, opset_import: ["" : 17]>
            m (float[2, 3] x, bool c) => (float[2, 4] y)
            <float[3, 4] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1.5, 2.5, 3.5},
             float[4] k = {1.0, 2.0, 3.0, 4.0}> {
              y = If(c) <
                then_branch = t () => (float[2, 4] a) { g = Gemm(x, w)  a = Add(g, k) },
                else_branch = e () => (float[2, 4] b) { h = Gemm(x, w)  b = Mul(h, k) }>
            }"""
        )
    )
    folded, _ = Pipeline(fold_passes()).run(source.clone())
    assert ops_of(folded) == ["If", "Gemm", "Gemm"]
    for seed in range(4):
        assert largest_error(source, folded, random_feeds(source, seed=seed)) < BOUND
