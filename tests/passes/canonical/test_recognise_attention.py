"""Attention in several spellings, and rotary embedding in front of it."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from qcompiler.passes.canonical.forms import Form, Role, form_of, role_of
from qcompiler.passes.canonical.recognise_attention import RecogniseAttention
from qcompiler.passes.canonical.recognise_rotary import RecogniseRotary
from tests.equivalence import normalized

INPUTS = "float[N, 2, 5, 4] q, float[N, 2, 5, 4] k, float[N, 2, 5, 4] v, float[N, 1, 1, 5] mask, bool[N, 1, 1, 5] keep"
CONSTANTS = "float scale = {0.5}, float eight = {2.0}, float low = {-10000.0}, float part = {0.7071}, "
CONSTANTS += "float stretch = {1.1}, float gamma = {-0.05}, float nought = {0}, float one = {1}, float small = {0.01}, "
CONSTANTS += "float[2, 1, 1] heads = {2.0, 0.5}, float[1, 1, 5] keys = {1.0, 2.0, 3.0, 4.0, 5.0}"
BACK = "kt = Transpose<perm = [0, 1, 3, 2]>(k)\n  "
OUT = "y = MatMul(p, v)"
SPELLINGS: dict[str, tuple[str, list[Role]]] = {
    "scale-on-scores": (
        BACK + "s = MatMul(q, kt)\n  d = Div(s, eight)\n  m = Add(d, mask)\n  p = Softmax<axis = -1>(m)\n  " + OUT,
        [Role.QK, Role.SCALE, Role.MASK_ADD, Role.SOFTMAX, Role.PV],
    ),
    "scale-on-both": (
        BACK + "qs = Mul(q, part)\n  ks = Mul(part, kt)\n  s = MatMul(qs, ks)\n  p = Softmax<axis = 3>(s)\n  " + OUT,
        [Role.SCALE, Role.SCALE, Role.QK, Role.SOFTMAX, Role.PV],
    ),
    "where": (
        BACK + "s = MatMul(q, kt)\n  d = Mul(scale, s)\n  m = Where(keep, d, low)\n  p = Softmax(m)\n  " + OUT,
        [Role.QK, Role.SCALE, Role.MASK_ADD, Role.SOFTMAX, Role.PV],
    ),
    "mask-first": (
        BACK + "s = MatMul(q, kt)\n  m = Add(mask, s)\n  p = Softmax(m)\n  y = MatMul(p, v)",
        [Role.QK, Role.MASK_ADD, Role.SOFTMAX, Role.PV],
    ),
    "clipped-softmax": (
        BACK + "s = MatMul(q, kt)\n  p = Softmax(s)\n  t = Mul(p, stretch)\n  u = Add(t, gamma)\n"
        "  c = Clip(u, nought, one)\n  y = MatMul(c, v)",
        [Role.QK, Role.SOFTMAX, Role.STRETCH, Role.STRETCH, Role.CLIP, Role.PV],
    ),
    "scale-by-head": (
        BACK + "s = MatMul(q, kt)\n  d = Mul(s, heads)\n  m = Add(d, mask)\n  p = Softmax<axis = -1>(m)\n  " + OUT,
        [Role.QK, Role.SCALE, Role.MASK_ADD, Role.SOFTMAX, Role.PV],
    ),
    "softmax-in-float32": (
        BACK + "s = MatMul(q, kt)\n  c = Cast<to = 11>(s)\n  p = Softmax(c)\n  b = Cast<to = 1>(p)\n  y = MatMul(b, v)",
        [Role.QK, Role.CAST, Role.SOFTMAX, Role.CAST, Role.PV],
    ),
}  # fmt: skip


def model_of(body: str, inputs: str = INPUTS, opset: int = 17) -> ir.Model:
    return ir.from_onnx_text(
        f'<ir_version: 8, opset_import: ["" : {opset}]>\n'
        f"m ({inputs}) => (float[N, 2, 5, 4] y)\n  <{CONSTANTS}> {{\n  {body}\n}}"
    )


@pytest.mark.parametrize("spelling", list(SPELLINGS))
def test_spelling_is_annotated(spelling: str) -> None:
    body, roles = SPELLINGS[spelling]
    result = normalized(model_of(body), canonical=True)
    assert [role_of(node) for node in result.graph if form_of(node) is Form.ATTENTION] == roles


def test_capped_scores_are_a_form_of_their_own() -> None:
    """c tanh(s / c), as Gemma 2 has it; a factor by key is no scale."""
    cap = "d = Div(s, eight)\n  t = Tanh(d)\n  c = Mul(t, eight)\n  p = Softmax(c)\n  "
    body = BACK + "s = MatMul(q, kt)\n  " + cap + OUT
    result = normalized(model_of(body), canonical=True)
    roles = [role_of(node) for node in result.graph if form_of(node) is Form.CAPPED_ATTENTION]
    assert roles == [Role.QK, Role.SCALE, Role.CAP, Role.SCALE, Role.SOFTMAX, Role.PV]
    body = BACK + "s = MatMul(q, kt)\n  d = Mul(s, keys)\n  p = Softmax(d)\n  " + OUT
    assert not [node for node in normalized(model_of(body), canonical=True).graph if role_of(node) is Role.QK]


def test_repeated_heads_are_annotated() -> None:
    inputs = INPUTS.replace("float[N, 2, 5, 4] k", "float[N, 1, 5, 4] k").replace(
        "float[N, 2, 5, 4] v", "float[N, 1, 5, 4] v"
    )
    body = """two = Constant<value_ints = [1, 2, 1, 1]>()
  kr = Expand(k, two)
  vr = Expand(v, two)
  kt = Transpose<perm = [0, 1, 3, 2]>(kr)
  s = MatMul(q, kt)
  p = Softmax(s)
  y = MatMul(p, vr)"""
    result = normalized(model_of(body, inputs), canonical=True)
    assert [node.op_type for node in result.graph if role_of(node) is Role.REPEAT] == ["Expand", "Expand"]


def test_single_operator_is_annotated_or_taken_apart() -> None:
    source = model_of("y = Attention(q, k, v)", opset=23)
    whole = normalized(source, 23, frozenset({"Attention"}), canonical=True)
    assert [role_of(node) for node in whole.graph] == [Role.WHOLE]
    apart = normalized(source, 19, canonical=True)
    roles = [role_of(node) for node in apart.graph]
    assert {Role.QK, Role.SOFTMAX, Role.PV} <= set(roles)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "s = MatMul(q, q)\n  p = Softmax<axis = 1>(s)\n  y = MatMul(p, v)".replace("MatMul(q, q)", "Add(q, k)"),
            "the softmax is not over the last axis",
        ),
        ("y = Softmax(q)", "no product of two activations in front of the softmax"),
        (BACK + "s = MatMul(q, kt)\n  p = Softmax(s)\n  y = Mul(q, scale)\n  z = Neg(p)",
         "no product of two activations behind the softmax"),
        (BACK + "s = MatMul(q, kt)\n  p = Softmax(s)\n  t = Mul(p, stretch)\n  y = MatMul(t, v)",
         "the softmax is stretched and not clipped"),
        (BACK + "s = MatMul(q, kt)\n  p = Softmax(s)\n  c = Clip(p, small, one)\n  y = MatMul(c, v)",
         "the softmax is clipped, and not from 0 on"),
        (BACK + "s = MatMul(q, kt)\n  p = Softmax(s)\n  c = Clip(p)\n  y = MatMul(c, v)",
         "the softmax is clipped, and not from 0 on"),
    ],
)  # fmt: skip
def test_near_miss_has_a_reason(body: str, reason: str) -> None:
    model = model_of(body)
    outcome = RecogniseAttention().run(model)
    assert [skip.reason for skip in outcome.skipped] == [reason]
    assert not outcome.modified


HALVES = """zero = Constant<value_ints = [0]>()
  two = Constant<value_ints = [2]>()
  four = Constant<value_ints = [4]>()
  last = Constant<value_ints = [-1]>()
  a = Slice(q, zero, two, last)
  b = Slice(q, two, four, last)
  """


def test_rotary_by_halves() -> None:
    body = HALVES + "n = Neg(b)\n  r = Concat<axis = -1>(n, a)\n  rs = Mul(r, k)\n  qc = Mul(q, v)\n  y = Add(qc, rs)"
    result = normalized(model_of(body), canonical=True)
    assert {form_of(node) for node in result.graph} == {Form.ROTARY}
    assert [node.op_type for node in result.graph if role_of(node) is Role.RESULT] == ["Add"]
    assert not RecogniseRotary().run(result).modified


def test_rotary_by_products() -> None:
    inputs = INPUTS.replace("float[N, 2, 5, 4] k, float[N, 2, 5, 4] v", "float[5, 2] c, float[5, 2] s")
    body = (
        HALVES
        + """ac = Mul(a, c)
  bs = Mul(s, b)
  bc = Mul(c, b)
  as = Mul(a, s)
  left = Sub(ac, bs)
  right = Add(as, bc)
  y = Concat<axis = -1>(left, right)"""
    )
    result = normalized(model_of(body.replace("as ", "sa ").replace("(as,", "(sa,"), inputs), canonical=True)
    assert [node.op_type for node in result.graph if role_of(node) is Role.RESULT] == ["Concat"]


def test_rotation_of_something_else_is_left_alone() -> None:
    body = HALVES + "n = Neg(b)\n  r = Concat<axis = -1>(n, a)\n  rs = Mul(r, k)\n  qc = Mul(k, v)\n  y = Add(qc, rs)"
    outcome = RecogniseRotary().run(model_of(body))
    assert [skip.reason for skip in outcome.skipped] == ["the other summand is not the same value times a table"]
