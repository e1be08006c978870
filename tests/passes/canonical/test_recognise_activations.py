"""Activations are recognised by their function, whatever their spelling."""

from __future__ import annotations

import re

import onnx_ir as ir
import pytest

from qcompiler.passes.canonical.forms import Form, Role, form_of, role_of
from qcompiler.passes.canonical.recognise_activations import RecogniseActivations
from tests.equivalence import largest_error, normalized, ops_of, random_feeds

CONSTANTS = """float half = {0.5}, float two = {2.0}, float three = {3.0}, float one = {1.0}, float root = {1.41421356},
  float iroot = {0.70710678}, float a = {0.044715}, float c = {0.79788456}, float q = {1.702}, float six = {6.0},
  float zero = {0.0}, float bad = {0.6}"""
ERF = "e = Erf(u)\n  p = Add(e, one)\n  "
TANH = "t = Tanh(i)\n  p = Add(one, t)\n  h = Mul(x, half)\n  y = Mul(h, p)"
SPELLINGS: dict[str, tuple[Form, str]] = {
    "erf-torch": (Form.GELU, "u = Div(x, root)\n  " + ERF + "m = Mul(x, p)\n  y = Mul(m, half)"),
    "erf-half-first": (Form.GELU, "u = Mul(iroot, x)\n  " + ERF + "m = Mul(half, x)\n  y = Mul(m, p)"),
    "erf-half-gate": (Form.GELU, "u = Mul(x, iroot)\n  " + ERF + "m = Mul(p, half)\n  y = Mul(m, x)"),
    "erf-halved": (Form.GELU, "u = Mul(x, iroot)\n  " + ERF + "m = Div(x, two)\n  y = Mul(p, m)"),
    "tanh-power": (
        Form.GELU_TANH, "k = Pow(x, three)\n  ka = Mul(k, a)\n  s = Add(x, ka)\n  i = Mul(c, s)\n  " + TANH
    ),
    "tanh-products": (
        Form.GELU_TANH,
        "k = Mul(x, x)\n  k3 = Mul(k, x)\n  ka = Mul(a, k3)\n  s = Add(ka, x)\n  i = Mul(s, c)\n  " + TANH
    ),
    "tanh-factored": (
        Form.GELU_TANH,
        "k = Mul(x, x)\n  ka = Mul(a, k)\n  s = Add(one, ka)\n  xc = Mul(x, c)\n  i = Mul(xc, s)\n  " + TANH,
    ),
    "silu": (Form.SILU, "s = Sigmoid(x)\n  y = Mul(s, x)"),
    "quick-gelu": (Form.QUICK_GELU, "k = Mul(x, q)\n  s = Sigmoid(k)\n  y = Mul(x, s)"),
    "hard-swish": (Form.HARD_SWISH, "k = Add(x, three)\n  s = Clip(k, zero, six)\n  m = Mul(x, s)\n  y = Div(m, six)"),
    "hard-sigmoid": (Form.HARD_SWISH, "s = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x)\n  y = Mul(x, s)"),
    "mish": (Form.MISH, "s = Softplus(x)\n  t = Tanh(s)\n  y = Mul(x, t)"),
}  # fmt: skip


def model_of(body: str, kind: str = "float", outputs: str = "") -> ir.Model:
    text = (
        f'<ir_version: 8, opset_import: ["" : 17]>\nm ({kind}[N, 8] w) => ({outputs}{kind}[N, 8] z)\n  <{CONSTANTS}> {{'
    )
    text += f"\n  x = Add(w, w)\n  {body}\n  z = Neg(y)\n}}"
    if kind == "float16":  # the text form has no float16 literals
        names = re.findall(r"float (\w+) = ", CONSTANTS)
        text = text.replace(CONSTANTS, re.sub(r"float (\w+) = ", r"float \1_32 = ", CONSTANTS))
        casts = "\n  ".join(f"{name} = Cast<to = 10>({name}_32)" for name in names)
        text = text.replace("x = Add(w, w)", f"{casts}\n  x = Add(w, w)")
    return ir.from_onnx_text(text)


@pytest.mark.parametrize("kind", ["float", "float16"])
@pytest.mark.parametrize("spelling", list(SPELLINGS))
def test_spelling_is_annotated(spelling: str, kind: str) -> None:
    form, body = SPELLINGS[spelling]
    result = normalized(model_of(body, kind), canonical=True)
    inner = [node for node in result.graph if form_of(node) is not None]
    assert {form_of(node) for node in inner} == {form}
    assert [node.op_type for node in result.graph if form_of(node) is None] == ["Add", "Neg"]
    assert [node.outputs[0].name for node in inner if role_of(node) is Role.RESULT] == ["y"]


@pytest.mark.parametrize(
    ("spelling", "opset", "op"),
    [("erf-torch", 20, "Gelu"), ("tanh-power", 20, "Gelu"), ("silu", 24, "Swish"), ("hard-swish", 19, "HardSwish")],
)
def test_native_operator_takes_over(spelling: str, opset: int, op: str) -> None:
    source = model_of(SPELLINGS[spelling][1])
    result = normalized(source, opset, frozenset({op}), canonical=True)
    assert ops_of(result) == ["Add", op, "Neg"]
    assert largest_error(source, result, random_feeds(source)) < 1e-6


@pytest.mark.parametrize(
    "body",
    [
        "u = Div(x, root)\n  " + ERF + "m = Mul(x, p)\n  y = Mul(m, bad)",
        "u = Div(x, two)\n  " + ERF + "m = Mul(x, p)\n  y = Mul(m, half)",
        "s = Sigmoid(x)\n  y = Mul(s, w)",
    ],
)
def test_near_miss_is_left_alone(body: str) -> None:
    result = normalized(model_of(body), canonical=True)
    assert {form_of(node) for node in result.graph} == {None}


def test_inner_value_that_is_returned_is_a_reason() -> None:
    body = SPELLINGS["erf-torch"][1]
    result = normalized(model_of(body, outputs="float[N, 8] p, "))
    outcome = RecogniseActivations().run(result)
    assert [skip.reason for skip in outcome.skipped] == ["p is read elsewhere"]
    assert not outcome.modified


def test_second_run_changes_nothing() -> None:
    result = normalized(model_of(SPELLINGS["silu"][1]), canonical=True)
    assert not RecogniseActivations().run(result).modified
