"""LayerNorm and RMSNorm in the spellings of different exporters."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from qcompiler.passes.canonical.forms import Form, Role, form_of, role_of, site_of
from qcompiler.passes.canonical.recognise_norms import RecogniseNorms
from tests.equivalence import largest_error, normalized, ops_of, random_feeds

MEAN = "mean = ReduceMean<axes = [-1], keepdims = 1>(x)\n  d = Sub(x, mean)"
VAR = "var = ReduceMean<axes = [-1], keepdims = 1>(sq)\n  ve = Add(var, eps)"
TORCH = f"{MEAN}\n  sq = Pow(d, two)\n  {VAR}\n  s = Sqrt(ve)\n  n = Div(d, s)\n  ng = Mul(n, g)\n  y = Add(ng, b)"
KERAS = f"""{MEAN}
  sq = Mul(d, d)
  {VAR}
  s = Sqrt(ve)
  r = Reciprocal(s)
  rg = Mul(r, g)
  xs = Mul(x, rg)
  ms = Mul(mean, rg)
  rest = Sub(b, ms)
  y = Add(xs, rest)"""
SPELLINGS = {
    "torch": TORCH,
    "square-by-product": TORCH.replace("Pow(d, two)", "Mul(d, d)"),
    "axis-2": TORCH.replace("[-1]", "[2]"),
    "constants-left": TORCH.replace("Add(var, eps)", "Add(eps, var)")
    .replace("Mul(n, g)", "Mul(g, n)")
    .replace("Add(ng, b)", "Add(b, ng)"),
    "reciprocal": TORCH.replace("n = Div(d, s)", "r = Reciprocal(s)\n  n = Mul(r, d)"),
    "one-over": TORCH.replace("n = Div(d, s)", "r = Div(one, s)\n  n = Mul(d, r)"),
    "power": TORCH.replace("Sqrt(ve)", "Pow(ve, half)"),
    "minus-power": TORCH.replace("Sqrt(ve)", "Pow(ve, minus)").replace("Div(d, s)", "Mul(d, s)"),
    "keras": KERAS,
    "no-epsilon": TORCH.replace("ve = Add(var, eps)", "").replace("Sqrt(ve)", "Sqrt(var)"),
    "two-centers": TORCH.replace("n = Div(d, s)", "d2 = Sub(x, mean)\n  n = Div(d2, s)"),
}
CONSTANTS = """
  float[4] g = {1.0, 2.0, -0.5, 0.25}, float[4] b = {0.1, 0.2, 0.3, -0.4}, float two = {2.0}, float one = {1.0},
  float half = {0.5}, float minus = {-0.5}, float eps = {0.00001}, float[1] three = {3.0}"""


def model_of(body: str, outputs: str = "float[N, 3, 4] y") -> ir.Model:
    return ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 17]>\n'
        f"m (float[N, 3, 4] x) => ({outputs})\n  <{CONSTANTS}> {{\n  {body}\n}}"
    )


@pytest.mark.parametrize("spelling", list(SPELLINGS))
def test_layer_norm_becomes_one_operator(spelling: str) -> None:
    source = model_of(SPELLINGS[spelling])
    result = normalized(source, canonical=True)
    assert ops_of(result) == ["LayerNormalization"]
    node = next(iter(result.graph))
    assert (form_of(node), role_of(node), site_of(node)) == (Form.LAYER_NORM, Role.WHOLE, "y")
    assert largest_error(source, result, random_feeds(source)) < 1e-6


def test_norm_without_gain_gets_ones() -> None:
    source = model_of(TORCH.replace("n = Div(d, s)\n  ng = Mul(n, g)\n  y = Add(ng, b)", "y = Div(d, s)"))
    result = normalized(source, canonical=True)
    assert ops_of(result) == ["LayerNormalization"]
    assert largest_error(source, result, random_feeds(source)) < 1e-6


def test_statistics_in_float32_around_float16() -> None:
    body = (
        TORCH.replace("(x)", "(w)")
        .replace("Sub(x", "Sub(w")
        .replace("Mul(n, g)", "Mul(h, gh)")
        .replace("Add(ng, b)", "Add(ng, bh)")
    )
    body = "w = Cast<to = 1>(x)\n  gh = Cast<to = 10>(g)\n  bh = Cast<to = 10>(b)\n  " + body
    body = body.replace("ng = Mul", "h = Cast<to = 10>(n)\n  ng = Mul")
    source = model_of(body, "float16[N, 3, 4] y")
    source.graph.inputs[0].dtype = ir.DataType.FLOAT16
    result = normalized(source, canonical=True)
    assert ops_of(result) == ["LayerNormalization"]
    assert largest_error(source, result, random_feeds(source)) < 2e-3  # units in the last place of float16


def test_centred_in_float16_and_squared_in_float32() -> None:
    """torch's TorchScript exporter below opset 17; without the mean it would be an RMSNorm with a bias behind."""
    narrow = TORCH.replace("Pow(d, two)", "Pow(c, two)").replace("Div(d, s)", "Div(c, s)")
    narrow = narrow.replace("sq = ", "c = Cast<to = 1>(d)\n  sq = ")
    narrow = narrow.replace("ng = Mul(n, g)", "h = Cast<to = 10>(n)\n  ng = Mul(h, gh)")
    body = "gh = Cast<to = 10>(g)\n  bh = Cast<to = 10>(b)\n  " + narrow.replace("Add(ng, b)", "Add(ng, bh)")
    source = model_of(body, "float16[N, 3, 4] y")
    source.graph.inputs[0].dtype = ir.DataType.FLOAT16
    result = normalized(source, canonical=True)
    assert ops_of(result) == ["LayerNormalization"]
    assert largest_error(source, result, random_feeds(source)) < 4e-3  # the mean is rounded to float16 in the source


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (TORCH.replace("Pow(d, two)", "Pow(d, three)"), "no square under the mean"),
        (TORCH.replace("Div(d, s)", "Div(x, s)"), "what is divided is not what was squared"),
        (TORCH.replace("keepdims = 1>(sq)", "keepdims = 0>(sq)"), "the mean drops its dimension"),
        (TORCH.replace("Div(d, s)", "Mul(d, s)"), "Mul behind the root"),
    ],
)
def test_near_miss_is_left_alone(body: str, reason: str) -> None:
    result = normalized(model_of(body))
    before = ops_of(result)
    outcome = RecogniseNorms().run(result)
    assert [skip.reason for skip in outcome.skipped] == [reason]
    assert not outcome.modified
    assert ops_of(result) == before


def test_inner_value_that_is_returned_is_kept() -> None:
    result = normalized(model_of(TORCH, "float[N, 3, 4] y, float[N, 3, 4] d"))
    outcome = RecogniseNorms().run(result)
    assert [skip.reason for skip in outcome.skipped] == ["d is read elsewhere"]
    assert "LayerNormalization" not in ops_of(result)


RMS = "sq = Pow(x, two)\n  " + VAR + "\n  s = Sqrt(ve)\n  r = Reciprocal(s)\n  n = Mul(x, r)\n  y = Mul(g, n)"


def test_rms_norm_is_annotated_or_becomes_the_operator() -> None:
    source = model_of(RMS)
    kept = normalized(source, canonical=True)
    assert {form_of(node) for node in kept.graph} == {Form.RMS_NORM}
    assert {site_of(node) for node in kept.graph} == {"y"}
    assert role_of(kept.graph.outputs[0].producer()) is Role.GAIN  # type: ignore[arg-type]
    native = normalized(source, 23, frozenset({"RMSNormalization"}), canonical=True)
    assert ops_of(native) == ["RMSNormalization"]
    assert largest_error(source, native, random_feeds(source)) < 1e-6


def test_norm_over_other_axes_is_annotated_as_group_norm() -> None:
    result = normalized(model_of(TORCH.replace("[-1]", "[1, 2]")), canonical=True)
    assert Form.GROUP_NORM in {form_of(node) for node in result.graph}
    assert "LayerNormalization" not in ops_of(result)


def test_second_run_changes_nothing() -> None:
    result = normalized(model_of(TORCH), canonical=True)
    outcome = RecogniseNorms().run(result)
    assert not outcome.modified
    assert not outcome.matched


TWO = f"""{MEAN}
  sq = Pow(d, two)
  {VAR}
  s = Sqrt(ve)
  n = Div(d, s)
  ng = Mul(n, g)
  y = Add(ng, b)
  z = Mul(n, h)"""
TWO_RMS = """sq = Mul(x, x)
  var = ReduceMean<axes = [-1], keepdims = 1>(sq)
  ve = Add(var, eps)
  s = Sqrt(ve)
  n = Div(x, s)
  y = Mul(n, g)
  z = Mul(n, b)"""


@pytest.mark.parametrize(
    ("body", "form", "ops"),
    [(TWO.replace("h)", "b)"), Form.LAYER_NORM, ["LayerNormalization"] * 2), (TWO_RMS, Form.RMS_NORM, None)],
)
def test_norms_that_share_their_statistics(body: str, form: Form, ops: list[str] | None) -> None:
    """Two norms of one value (parallel blocks), whose equal nodes were merged: each is a norm of its own again."""
    source = model_of(body, "float[N, 3, 4] y, float[N, 3, 4] z")
    result = normalized(source, canonical=True)
    assert ops is None or ops_of(result) == ops
    assert {site_of(node) for node in result.graph if form_of(node) is form} >= {"y", "z"} or ops
    assert len({site_of(node) for node in result.graph if form_of(node) is form}) == 2
    assert largest_error(source, result, random_feeds(source, {"N": 2})) < 2e-6
    assert not RecogniseNorms().run(result).modified


def test_a_gain_and_another_reader_are_one_norm_without_gain() -> None:
    body = TWO.replace("z = Mul(n, h)", "z = Relu(n)")
    result = normalized(model_of(body, "float[N, 3, 4] y, float[N, 3, 4] z"), canonical=True)
    assert ops_of(result).count("LayerNormalization") == 1
