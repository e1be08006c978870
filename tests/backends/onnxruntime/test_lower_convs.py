"""Convolutions between dequantized inputs to QLinearConv and ConvInteger: the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.kernels import count_kernels
from qcompiler.backends.onnxruntime.lower_convs import LowerConvs
from qcompiler.backends.onnxruntime.unsigned_activations import UnsignedActivations
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.pipeline import Outcome
from tests.building import build, is_topological
from tests.equivalence import ops_of
from tests.quantizing import outputs, quantized, same

RANDOM = np.random.default_rng(0)


def array(*shape: int, size: float = 1.0) -> np.ndarray[Any, Any]:
    return (RANDOM.standard_normal(shape) * size).astype(np.float32)


def lowered(model: ir.Model, *, unsigned: bool = True) -> tuple[ir.Model, Outcome]:
    copy = model.clone()
    if unsigned:
        UnsignedActivations().run(copy)
    outcome = LowerConvs(saturating=unsigned).run(copy)
    DropUnused().run(copy)
    return copy, outcome


FORMS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "plain": ("", "float[2, 4, 9, 9]", (8, 4, 3, 3)),
    "pads": ("<pads = [1, 2, 0, 1]>", "float[2, 4, 9, 9]", (8, 4, 3, 3)),
    "auto pad": ('<auto_pad = "SAME_UPPER">', "float[2, 4, 9, 9]", (8, 4, 3, 3)),
    "strides and dilations": ("<strides = [2, 1], dilations = [1, 2]>", "float[2, 4, 9, 9]", (8, 4, 3, 3)),
    "groups": ("<group = 2, pads = [1, 1, 1, 1]>", "float[2, 4, 9, 9]", (8, 2, 3, 3)),
    "depthwise": ("<group = 4, pads = [1, 1, 1, 1]>", "float[2, 4, 9, 9]", (4, 1, 3, 3)),
    "pointwise": ("", "float[2, 4, 9, 9]", (8, 4, 1, 1)),
    "one channel": ("", "float[1, 1, 5, 5]", (1, 1, 3, 3)),
    "1-D": ("<pads = [1, 1]>", "float[2, 4, 9]", (8, 4, 3)),
    "1-D, groups": ("<group = 4>", "float[2, 4, 9]", (8, 1, 3)),
    "3-D": ("<pads = [1, 1, 1, 1, 1, 1]>", "float[1, 4, 5, 5, 5]", (8, 4, 3, 3, 3)),
}


def conv(form: str, bias: bool, tail: str = "") -> tuple[str, dict[str, Any]]:
    attributes, kind, shape = FORMS[form]
    dims = ", ".join("?" * len(shape))
    out = "c" if tail else "y"
    text = f"m ({kind} x) => (float[{dims}] y) {{ [n] {out} = Conv{attributes}(x, w{', b' if bias else ''}) {tail} }}"
    return text, {"w": array(*shape), **({"b": array(shape[0])} if bias else {})}


@pytest.mark.parametrize("unsigned", [True, False], ids=["uint8", "int8"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("form", FORMS)
def test_a_conv_that_nothing_quantizes_gives_the_same_numbers(form: str, bias: bool, unsigned: bool) -> None:
    text, constants = conv(form, bias)
    model, feeds = quantized(text, **constants)
    found, outcome = lowered(model, unsigned=unsigned)
    assert outcome.matched == ("n",)
    assert "Conv" not in ops_of(found)
    assert is_topological(found.graph)
    assert [value.name for value in found.graph.outputs] == ["y"]
    same(found, model, feeds)
    assert count_kernels(found)["leftovers"] == []
    assert not lowered(found, unsigned=unsigned)[1].modified


@pytest.mark.parametrize("unsigned", [True, False], ids=["uint8", "int8"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("form", FORMS)
def test_a_conv_whose_output_is_quantized_gives_the_same_codes(form: str, bias: bool, unsigned: bool) -> None:
    text, constants = conv(form, bias, "q = QuantizeLinear(c, so, z) y = DequantizeLinear(q, so, z)")
    scale = np.float32(0.2)
    model, feeds = quantized(text, so=scale, z=np.int8(0), **constants)
    found, outcome = lowered(model, unsigned=unsigned)
    assert outcome.matched == ("n",)
    assert "QLinearConv" in ops_of(found) or "ConvInteger" in ops_of(found)
    assert "Conv" not in ops_of(found)
    wanted, got = outputs(model, feeds)[0], outputs(found, feeds)[0]
    # The int32 bias is rounded to half a step of sx * sw, and rescaling in other steps may tip a tie: one code at most.
    steps = np.abs(np.rint((got - wanted) / scale))
    assert steps.max() <= 1
    assert (steps > 0).mean() <= 0.02


def test_chains_stay_in_integers() -> None:
    text = """m (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {
        [a] c = Conv<pads = [1, 1, 1, 1]>(x, w, b) [b] y = Conv<pads = [1, 1, 1, 1]>(c, w, b) }"""
    model, feeds = quantized(text, w=array(4, 4, 3, 3, size=0.2), b=array(4))
    found, outcome = lowered(model)
    assert outcome.matched == ("a", "b")
    assert ops_of(found)[:2] == ["QuantizeLinear", "QLinearConv"]
    wanted, got = outputs(model, feeds)[0], outputs(found, feeds)[0]
    assert np.abs(got - wanted).max() <= 0.02 * np.abs(wanted).max()  # codes between the two may differ by one


def test_an_output_with_a_second_reader_stays_real() -> None:
    text = """m (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y, float[1, 4, 8, 8] c) {
        [n] c = Conv<pads = [1, 1, 1, 1]>(x, w) q = QuantizeLinear(c, so, z) y = DequantizeLinear(q, so, z) }"""
    model, feeds = quantized(text, w=array(4, 4, 3, 3), so=np.float32(0.1), z=np.int8(0))
    found, _ = lowered(model)
    assert "ConvInteger" in ops_of(found)
    same(found, model, feeds)


@pytest.mark.parametrize("unsigned", [True, False], ids=["uint8", "int8"])
def test_a_bias_beyond_int32_on_a_dead_channel_is_kept(unsigned: bool) -> None:
    weight = array(4, 4, 3, 3)
    weight[1] = 0  # its scale is 2^-24, so that a bias of 5 has 10^10 steps
    text, _ = conv("plain", True, "q = QuantizeLinear(c, so, z) y = DequantizeLinear(q, so, z)")
    scale = np.float32(0.2)
    bias = np.full(4, 5, np.float32)
    model, feeds = quantized(text, w=weight, b=bias, so=scale, z=np.int8(0))
    found, _ = lowered(model, unsigned=unsigned)
    wanted, got = outputs(model, feeds)[0], outputs(found, feeds)[0]
    assert np.unique(wanted[:, 1]) == np.float32(25 * scale)
    assert np.abs(got - wanted).max() <= scale * 1.001


def test_codes_that_leave_the_graph() -> None:
    text = """m (float[1, 4, 8, 8] x) => (int8[1, 4, 6, 6] q) { [n] c = Conv(x, w, b) q = QuantizeLinear(c, so, z) }"""
    model, feeds = quantized(text, w=array(4, 4, 3, 3), b=array(4), so=np.float32(0.2), z=np.int8(0))
    found, _ = lowered(model)
    wanted, got = outputs(model, feeds)[0], outputs(found, feeds)[0]
    assert got.dtype == np.int8
    assert np.abs(got.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("bits", [6, 8])
def test_activations_that_stay_int8_need_weights_that_cannot_saturate(bits: int) -> None:
    text = """m (float[1, 4, 8, 8] x) => (float[1, 8, 6, 6] y, int8[1, 4, 8, 8] q) {
        q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) v = DequantizeLinear(w, s, z) [n] y = Conv(d, v) }"""
    weight = RANDOM.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8) >> (8 - bits)
    model = build(text, s=np.float32(0.02), z=np.int8(0), w=weight)
    found, outcome = lowered(model)
    assert bool(outcome.matched) == (bits == 6)
    same(found, model, {"x": np.sign(array(1, 4, 8, 8)) * 3})


PAIR = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
NUMBERS: dict[str, Any] = {
    "s": np.float32(0.02), "z": np.int8(0), "c": RANDOM.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8),
    "s4": np.full(4, 0.01, np.float32), "z4": np.zeros(4, np.int8),
}  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "body", "reason"),
    [
        ("", "v = DequantizeLinear<axis = 1>(c, s4, z4) [n] y = Conv(d, v)", "scales that no integer Conv takes"),
        ("", "p = QuantizeLinear(f, s, z) v = DequantizeLinear(p, s, z) [n] y = Conv(d, v)", "scales that no integer"),
        (", float[4] b", "v = DequantizeLinear<axis = 0>(c, s4, z4) [n] y = Conv(d, v, b)", "computed at run time"),
    ],
)
def test_near_misses_stay_float_with_their_reason(inputs: str, body: str, reason: str) -> None:
    text = f"m (float[1, 4, 8, 8] x, float[4, 4, 3, 3] f{inputs}) => (float[1, 4, 6, 6] y) {{ {PAIR} {body} }}"
    model = build(text, **NUMBERS)
    outcome = LowerConvs().run(model)
    assert not outcome.modified
    assert [skip.where for skip in outcome.skipped] == ["n"]
    assert reason in outcome.skipped[0].reason


def test_a_conv_with_one_float_side_is_passed_over() -> None:
    model = build(f"m (float[1, 4, 8, 8] x) => (float[1, 4, 6, 6] y) {{ {PAIR} [n] y = Conv(d, w) }}",
                  **NUMBERS, w=array(4, 4, 3, 3))  # fmt: skip
    outcome = LowerConvs().run(model)
    assert (outcome.modified, outcome.skipped) == (False, ())
