"""One-sided tensors get a zero point where their readers take one, and their error halves; others stay symmetric."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.runner import calibrate
from qcompiler.driver import compile_model
from qcompiler.errors import UsageError
from qcompiler.numerics import dequantize, quantize, sqnr
from qcompiler.options import CompileOptions
from qcompiler.passes.quant.choose_ranges import candidates
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.select_sites import Sites, select_sites
from qcompiler.passes.quant.zero_points import choose_zero_points
from qcompiler.registry import find_target
from qcompiler.saving import save_model
from qcompiler.scheme import QuantScheme
from qcompiler.session import Feeds, Session
from qcompiler.target import Placement, Target
from tests.building import Array, build

RANDOM = np.random.default_rng(3)
FREE = Target("free", "", 21, "", placement=Placement(zero_points="free"))
FOLDED = Target("folded", "", 21, "", placement=Placement(zero_points="folded"))
W = RANDOM.standard_normal((8, 8)).astype(np.float32)
K = RANDOM.standard_normal((8, 8, 3, 3)).astype(np.float32)
P = RANDOM.standard_normal((8, 8, 1, 1)).astype(np.float32)
B = RANDOM.standard_normal(8).astype(np.float32)
X = RANDOM.standard_normal((1, 8, 16, 16)).astype(np.float32)


def zeros(target: Target, model: ir.Model, feed: Feeds) -> dict[str, int]:
    sites = select_sites(model, target.placement)
    table = calibrate(model, sorted(set(sites.sources.values())), [feed])
    return choose_zero_points(model, target, sites, table.tensors)


def chosen(values: Array, target: Target = FREE) -> int | None:
    sites = Sites(sources={"t": "t"})
    return choose_zero_points(ir.Model(ir.Graph([], [], nodes=[]), ir_version=10), target, sites,
                              {"t": Histogram().observe(values.astype(np.float32))}).get("t")  # fmt: skip


def test_the_share_of_negative_values_decides() -> None:
    normal = RANDOM.standard_normal(20000)
    assert chosen(np.maximum(normal, 0)) == -128
    assert chosen(normal) is None
    assert chosen(-np.abs(normal)) is None
    assert chosen(np.zeros(10)) is None
    gelu = normal * (0.5 + 0.5 * np.tanh(0.8 * normal))
    found = chosen(gelu)
    assert found is not None
    assert -128 < found < -100
    narrow = replace(FREE, activation=QuantScheme(bits=6))
    assert chosen(np.maximum(normal, 0), narrow) is None


@pytest.mark.parametrize("power", [1.5, 2.0, 3.0])
def test_the_step_halves(power: float) -> None:
    """Without negative values 255 steps stand for what took 127: 6 dB."""
    values = np.abs(RANDOM.standard_normal(50000)).astype(np.float32)
    histogram = {"t": Histogram().observe(values)}
    model = build("m (float[N, 8] t) => (float[N, 8] y) { [n] y = MatMul(t, w) }", w=W)
    sites = select_sites(model, FREE.placement)
    plain = make_plan(model, FREE, sites, candidates(histogram, lambda _: 127)[power]).tensors["t"]
    sites.zero_points = {"t": -128}
    better = make_plan(model, FREE, sites, candidates(histogram, sites.steps)[power]).tensors["t"]
    assert better.zero_point is not None
    assert (better.scheme.qmin, int(better.zero_point)) == (-128, -128)
    gain = (sqnr(values, dequantize(quantize(values, better), better))
            - sqnr(values, dequantize(quantize(values, plain), plain)))  # fmt: skip
    assert 4.5 < gain < 6.5


CONV = "m (float[1, 8, 16, 16] x) => (float[1, 8, A, C] y) {{ g = {}(x) {} }}"


@pytest.mark.parametrize(("maker", "reader", "takes"), [
    ("Softplus", "[n] y = Conv(g, p, b)", True),
    ("Softplus", "[n] y = Conv(g, p)", True),
    ("Softplus", "[n] y = Conv(g, k)", True),
    ("Softplus", "[n] y = Conv<pads = [1, 1, 1, 1]>(g, k)", False),
    ("Softplus", '[n] y = Conv<auto_pad = "SAME_UPPER">(g, k)', False),
    ("Softplus", '[n] y = Conv<auto_pad = "SAME_UPPER">(g, p)', True),
    ("Softplus", "[n] y = ConvTranspose(g, k)", False),
    ("Softplus", "t = Transpose<perm = [0, 2, 3, 1]>(g) [n] h = MatMul(t, w) y = Add(h, b)", True),
    ("Softplus", "t = Transpose<perm = [0, 2, 3, 1]>(g) [n] y = MatMul(t, w)", False),
    ("Softplus", "t = Transpose<perm = [0, 1, 3, 2]>(g) [n] y = MatMul(t, g)", False),
    ("Softplus", "[n] h = Conv(g, p) [o] j = Conv<pads = [1, 1, 1, 1]>(g, k) y = Add(h, j)", False),
    ("Relu", "[n] y = Conv(g, p, b)", False),
    ("Tanh", "[n] y = Conv(g, p, b)", False),
])  # fmt: skip
def test_folded_offsets_need_a_bias_and_no_padding(maker: str, reader: str, takes: bool) -> None:
    model = build(CONV.format(maker, reader), w=W, k=K, p=P, b=B)
    assert ("g" in zeros(FOLDED, model, {"x": X})) is takes
    if maker != "Tanh" and "ConvTranspose" not in reader:
        assert "g" in zeros(FREE, model, {"x": X})
    assert zeros(replace(FREE, placement=Placement()), model, {"x": X}) == {}


def test_tensors_that_share_a_scale_share_the_zero_point() -> None:
    text = """m (float[1, 8, 16, 16] x) => (float[1, 8, A, C] y) { g = Relu(x) h = %s(x) c = Concat<axis = 1>(g, h)
        [n] y = Conv(c, q) [o] i = Conv(g, p) [r] j = Conv(h, p) }"""
    wide = np.concatenate([P, P], 1)
    both = zeros(FREE, build(text % "HardSwish", q=wide, p=P), {"x": X})
    assert len({both["g"], both["h"], both["c"]}) == 1
    assert both["c"] > -128, "enough steps below zero for the member that needs them"
    mixed = zeros(FREE, build(text % "Identity", q=wide, p=P), {"x": X})
    assert mixed == {}


TEXT = """m (float[N, 8, 16, 16] x) => (float[N, 8, A, C] y) { [a] h = Conv<pads = [1, 1, 1, 1]>(x, k, b)
    g = HardSwish(h) [d] i = Conv(g, k, b) r = Relu(i) [e] y = Conv<pads = [1, 1, 1, 1]>(r, k, b) }"""
FEEDS: list[Feeds] = [{"x": RANDOM.standard_normal((1, 8, 16, 16)).astype(np.float32)} for _ in range(12)]


@pytest.mark.parametrize(("target", "with_zero"), [
    ("ort-cpu", {"g", "r"}), ("ort-cpu-arm64", {"g", "r"}), ("orin", {"g"}),
])  # fmt: skip
def test_a_compile_gains_and_its_plan_repeats_it(tmp_path: Path, target: str, with_zero: set[str]) -> None:
    path = tmp_path / "model.onnx"
    save_model(build(TEXT, k=K, b=B), path)
    given: dict[str, Any] = {"target": target, "calib": FEEDS, "build_check": "off", "threads": 1, "method": "mse",
                             "carrier": "fp32"}  # fmt: skip
    plain = compile_model(path, CompileOptions(**given, zero_points="none"))
    better = compile_model(path, CompileOptions(**given, zero_points="auto"))
    quants = better.plan.tensors
    assert {name for name, quant in quants.items() if quant.zero_point is not None} == with_zero
    found = better.verification["model"].outputs[0].sqnr
    assert found > plain.verification["model"].outputs[0].sqnr + 0.5
    if better.host is not None:
        wanted, other = (Session(one, optimize=False).run(FEEDS[0])["y"] for one in (better.model, better.host))
        assert sqnr(wanted, other) > 50
        zero = {int(np.any(find_zero(node))) for node in better.model.graph if node.op_type == "QuantizeLinear"}
        assert zero == {0}, "TensorRT takes no other zero point"
    (tmp_path / "plan.json").write_bytes(better.plan.to_json())
    again = compile_model(path, CompileOptions(**given, plan=tmp_path / "plan.json"))
    assert again.plan.to_json() == better.plan.to_json()
    one, other = (Session(item.model, optimize=False).run(FEEDS[1])["y"] for item in (better, again))
    np.testing.assert_array_equal(one, other)


def test_a_plan_of_another_target_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_model(build(TEXT, k=K, b=B), path)
    given: dict[str, Any] = {"calib": FEEDS, "build_check": "off", "threads": 1, "method": "mse", "verify": False}
    made = compile_model(path, CompileOptions(target="ort-cpu", **given, zero_points="auto"))
    (tmp_path / "plan.json").write_bytes(made.plan.to_json())
    with pytest.raises(UsageError, match="tensor 'r' has a zero point, which node 'e' cannot take on orin"):
        compile_model(path, CompileOptions(target="orin", **given, plan=tmp_path / "plan.json"))


def find_zero(node: ir.Node) -> Array:
    assert node.inputs[2] is not None and node.inputs[2].const_value is not None
    return node.inputs[2].const_value.numpy()


def test_targets_say_which_they_take() -> None:
    assert find_target("ort-cpu").placement.zero_points == "free"
    assert find_target("orin").placement.zero_points == "folded"
