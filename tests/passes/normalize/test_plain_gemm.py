"""plain-gemm: factors leave, transposed and constant left operands get nodes of their own, nothing changes in value."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.passes.normalize.plain_gemm import PlainGemm
from tests.equivalence import largest_error, ops_of, random_feeds

HEAD = '<ir_version: 9, opset_import: ["" : 19]>\n'


def gemm(attributes: str, x: tuple[int, int], w: tuple[int, int], c: tuple[int, ...] | None, order: str = "x, w"):  # type: ignore[no-untyped-def]
    model = ir.from_onnx_text(
        HEAD + f"g (float[{x[0]},{x[1]}] x, float[M,8] r) => (float[M,N] y) "
        f"{{ y = Gemm<{attributes}>({order}{'' if c is None else ', c'}) }}".replace("Gemm<>", "Gemm")
    )
    rng = np.random.default_rng(0)
    for name, shape in {"w": w, "c": c}.items():
        value = next((v for node in model.graph for v in node.inputs if v is not None and v.name == name), None)
        if value is None or shape is None:
            continue
        value.const_value = ir.tensor(rng.standard_normal(shape).astype(np.float32), name=name)
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
        model.graph.register_initializer(value)
    return model


CASES = {
    "alpha": ("alpha = 0.5", (5, 16), (16, 8), (8,), "x, w"),
    "beta": ("beta = 2.0", (5, 16), (16, 8), (8,), "x, w"),
    "no-bias": ("beta = 0.0", (5, 16), (16, 8), (1,), "x, w"),
    "all": ("alpha = 0.5, beta = 0.25, transA = 1, transB = 1", (16, 5), (8, 16), (5, 1), "x, w"),
    "constant-left": ("alpha = 3.0", (16, 5), (8, 16), (5,), "w, x"),
    "constant-left-transposed": ("transA = 1, transB = 1", (5, 16), (16, 8), None, "w, x"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_value_stays_and_products_become_integer(case: str) -> None:
    model = gemm(*CASES[case])
    before = model.clone()
    assert PlainGemm().run(model).modified
    kinds = {"Gemm": {"transB"}, "MatMul": set(), "Add": set(), "Transpose": {"perm"}}
    assert all(set(node.attributes) <= kinds[node.op_type] for node in model.graph)
    assert largest_error(before, model, random_feeds(model)) < 32 * 2.0**-24  # sums of 16 products
    assert not PlainGemm().run(model).modified
    result = qcompiler.compile(before, target="ort-cpu", calibration=[random_feeds(before)])
    assert not {"MatMul", "Gemm"} & set(ops_of(result.model))
    assert result.verification["model"].outputs[0].sqnr > 25


def test_computed_bias_and_computed_weights() -> None:
    model = gemm("beta = 0.5", (5, 16), (16, 8), None, "x, w, r")
    before = model.clone()
    assert PlainGemm().run(model).modified and ops_of(model) == ["Mul", "Gemm"]
    assert largest_error(before, model, random_feeds(model, {"M": 5})) < 32 * 2.0**-24
    model = ir.from_onnx_text(
        HEAD + "g (float[3,4] x, float[4,2] w) => (float[3,2] y) { y = Gemm<alpha = 0.5>(x, w) }"
    )
    outcome = PlainGemm().run(model)
    assert not outcome.modified and "alpha" in outcome.skipped[0].reason


def test_shared_weight_is_not_written_into() -> None:
    model = gemm("alpha = 0.5", (5, 16), (16, 8), (8,))
    weight = model.graph.initializers["w"].const_value.numpy().copy()
    model.graph.outputs.append(model.graph.initializers["w"])
    PlainGemm().run(model)
    assert np.array_equal(model.graph.initializers["w"].const_value.numpy(), weight)
