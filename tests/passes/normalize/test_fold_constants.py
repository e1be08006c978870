"""Constants and static shape arithmetic fold; dynamic dimensions, random operators and Q/DQ stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.passes.normalize.fold_constants import FoldConstants
from qcompiler.passes.normalize.shape_values import reshaped
from tests.equivalence import largest_error, normalized, ops_of, random_feeds

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def test_shape_arithmetic_with_one_dynamic_dimension_gives_a_constant_target() -> None:
    source = ir.from_onnx_text(
        HEAD
        + """m (float[N, 4, 6] x) => (float[?, 4, 3, 2] y)
      <int64 zero = {0}, int64 one = {1}, int64[1] ax = {0}, int64[2] tail = {3, 2}> {
      s = Shape(x)
      n = Gather(s, zero)
      c = Gather(s, one)
      nu = Unsqueeze(n, ax)
      cu = Unsqueeze(c, ax)
      target = Concat<axis = 0>(nu, cu, tail)
      y = Reshape(x, target)
    }"""
    )
    result = normalized(source)
    assert ops_of(result) == ["Reshape"]
    node = result.graph[0]
    assert node.inputs[1] is not None and node.inputs[1].const_value is not None
    assert node.inputs[1].const_value.numpy().tolist() == [0, 4, 3, 2]
    assert [str(size) for size in result.graph.outputs[0].shape or ()] == ["N", "4", "3", "2"]
    assert largest_error(source, result, random_feeds(source)) == 0.0


def test_two_dynamic_dimensions_that_are_not_copied_stay() -> None:
    source = ir.from_onnx_text(
        HEAD
        + """m (float[N, T, 6] x) => (float[A, B, C] y) <int64[1] tail = {6}> {
      s = Shape(x)
      n = Shape<start = 0, end = 1>(x)
      t = Shape<start = 1, end = 2>(x)
      target = Concat<axis = 0>(t, n, tail)
      y = Reshape(x, target)
    }"""
    )
    result = normalized(source)
    assert "Concat" in ops_of(result)
    assert largest_error(source, result, random_feeds(source)) == 0.0


def test_torch_expand_of_a_static_shape_folds() -> None:
    source = ir.from_onnx_text(
        HEAD
        + """m (float[2, 3] x) => (float[2, 3] y)
      <int64[2] want = {-1, 3}, int64 minus = {-1}, float[1, 3] row = {1, 2, 3}> {
      s = Shape(x)
      r = Shape(s)
      ones = ConstantOfShape<value = int64[1] {1}>(r)
      neg = Mul(ones, minus)
      same = Equal(want, neg)
      shape = Where(same, s, want)
      e = Expand(row, shape)
      y = Add(x, e)
    }"""
    )
    result = normalized(source)
    assert ops_of(result) == ["Add"]
    assert largest_error(source, result, random_feeds(source)) == 0.0


def test_resized_position_table_folds() -> None:
    source = ir.from_onnx_text(
        HEAD
        + """m (float[1, 2, 8, 8] x) => (float[1, 2, 8, 8] y)
      <float[1, 2, 2, 2] table = {1, 2, 3, 4, 5, 6, 7, 8}, float[0] none = {}, float[4] scales = {1, 1, 4, 4}> {
      t = Resize<mode = "cubic">(table, none, scales)
      y = Add(x, t)
    }"""
    )
    result = normalized(source)
    assert ops_of(result) == ["Add"]
    assert largest_error(source, result, random_feeds(source)) < 1e-6


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("r = RandomNormal<shape = [4], seed = 1.0>()", "RandomNormal"),
        ("q = QuantizeLinear(w, s, z)\n  r = DequantizeLinear(q, s, z)", "QuantizeLinear"),
    ],
)
def test_never_folded(body: str, kept: str) -> None:
    source = ir.from_onnx_text(
        HEAD
        + "m (float[4] x) => (float[4] y)\n"
        + f"<float[4] w = {{1, 2, 3, 4}}, float s = {{0.1}}, int8 z = {{0}}> {{\n  {body}\n  y = Add(x, r)\n}}"
    )
    assert kept in ops_of(normalized(source))


def test_result_that_would_blow_up_is_skipped_with_a_reason() -> None:
    text = "m (float[3000, 300] x) => (float[3000, 300] y)\n"
    text += "<float w = {2.0}, int64[2] s = {3000, 300}> {\n  e = Expand(w, s)\n  y = Add(x, e)\n}"
    source = normalized(ir.from_onnx_text(HEAD + text))
    outcome = FoldConstants().run(source)
    assert [skip.reason for skip in outcome.skipped] == ["the result would take 3600000 bytes, its operands take 20"]
    assert not outcome.modified


def test_large_weights_are_never_read() -> None:
    """3.2 GB of weights behind Transpose and Identity: nothing may ask for them."""

    def read() -> ir.TensorProtocol:
        raise AssertionError("a weight was read")

    source = ir.from_onnx_text(
        HEAD
        + """m (float[N, 20000] x) => (float[N, 40000] y) <float[2] w = {1, 2}> {
      i = Identity(w)
      t = Transpose<perm = [1, 0]>(i)
      y = MatMul(x, t)
    }"""
    )
    weight = source.graph.initializers["w"]
    weight.const_value = ir.LazyTensor(read, dtype=ir.DataType.FLOAT, shape=ir.Shape([40000, 20000]), name="w")
    weight.shape = ir.Shape([40000, 20000])
    result = normalized(source)
    assert ops_of(result) == ["MatMul"]
    transposed = result.graph[0].inputs[1]
    assert transposed is not None and transposed.const_value is not None
    assert list(transposed.const_value.shape) == [20000, 40000]
    assert [str(size) for size in result.graph.outputs[0].shape or ()] == ["N", "40000"]


def test_lazy_transpose_has_the_right_content() -> None:
    weight = np.arange(600 * 500, dtype=np.float32).reshape(600, 500)
    source = ir.from_onnx_text(
        HEAD
        + "m (float[N, 500] x) => (float[N, 600] y)\n"
        + "<float[2] w = {1, 2}> {\n  t = Transpose<perm = [1, 0]>(w)\n  y = MatMul(x, t)\n}"
    )
    held = source.graph.initializers["w"]
    held.const_value, held.shape = ir.tensor(weight, name="w"), ir.Shape([600, 500])
    result = normalized(source)
    assert isinstance(result.graph.initializers["t"].const_value, ir.LazyTensor)
    assert np.array_equal(result.graph.initializers["t"].const_value.numpy(), weight.T)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_reshape_rule_agrees_with_numpy(dims: list[int], data: st.DataObject) -> None:
    target: list[int] = list(data.draw(st.permutations(dims)))
    target[data.draw(st.integers(0, len(dims) - 1))] = -1
    zero = data.draw(st.integers(0, len(dims) - 1))
    if target[zero] == dims[zero]:
        target[zero] = 0
    filled = [dims[index] if size == 0 else size for index, size in enumerate(target)]
    assert reshaped(tuple(dims), tuple(target), False) == np.zeros(dims).reshape(filled).shape


def test_second_run_changes_nothing() -> None:
    source = ir.from_onnx_text(
        HEAD + "m (float[N, 4] x) => (float[N, 4] y) <float[4] a = {1, 2, 3, 4}> {\n  b = Mul(a, a)\n  y = Add(x, b)\n}"
    )
    result = normalized(source)
    assert ops_of(result) == ["Add"]
    assert not FoldConstants().run(result).modified


@pytest.mark.parametrize(
    ("table", "repeats", "ops", "shape"),
    [
        ("float[1, 1, 2] t = {1.0, 2.0}", "n, one, one", "Expand", ["N", "1", "2"]),
        ("float[1, 1, 2] t = {1.0, 2.0}", "n, one, two", "Tile", None),
    ],
)
def test_a_tile_of_axes_of_length_one_is_an_expand(table: str, repeats: str, ops: str, shape: list[str] | None) -> None:
    """torch's repeat of a learned token: inference knows the shape of an Expand by a computed target."""
    source = ir.from_onnx_text(
        HEAD
        + f"""m (float[N, 4] x) => (float[A, B, C] y) <{table}, int64[1] one = {{1}}, int64[1] two = {{2}}> {{
      n = Shape<start = 0, end = 1>(x)
      r = Concat<axis = 0>({repeats})
      y = Tile(t, r)
    }}"""
    )
    result = normalized(source)
    assert ops_of(result)[-1] == ops
    assert shape is None or [str(size) for size in result.graph.outputs[0].shape or ()] == shape
    assert largest_error(source, result, random_feeds(source, {"N": 3})) == 0.0
