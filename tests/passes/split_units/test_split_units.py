"""The function stays, the wide path holds nothing of the units, and what cannot be split is left without a trace."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.graph import constant_array
from qcompiler.passes.canonical.forms import Form, form_of
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale
from qcompiler.passes.precision.carry_float32 import CarryFloat32
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.rotate.residual_streams import Stream, residual_streams
from qcompiler.passes.rotate.rotations import PASSES
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Refusal, Site
from qcompiler.passes.split_units.hidden_layers import hidden_layers
from qcompiler.passes.split_units.split_units import SplitUnits
from qcompiler.pipeline import Pass
from qcompiler.registry import find_target
from qcompiler.session import run_all
from tests.architectures import bert, canonical, llama, vit
from tests.building import build, is_topological
from tests.equivalence import largest_error, random_feeds
from tests.proving import proven, shifted_and_scaled

WIDTH, HIDDEN = 8, 16
UNITS = (3, 12)
UP = "u0 = MatMul(x, up) u = Add(u0, bu)\n"
DOWN = "d0 = MatMul(h, down) d = Add(d0, bd) y = Add(d, x)"
GELU = "e0 = Div(u, root_2) e1 = Erf(e0) e2 = Add(e1, one) e3 = Mul(u, e2) h = Mul(e3, half)\n"
LAYERS = {
    "gelu as one operator": UP + "h = Gelu(u)\n" + DOWN,
    "gelu spelled out": UP + GELU + DOWN,
    "gated": "g0 = MatMul(x, gate) g1 = Sigmoid(g0) g2 = Mul(g0, g1) u = MatMul(x, up) h = Mul(g2, u)\n" + DOWN,
    "gated by one layer": """z0 = MatMul(x, wide) z = Add(z0, b_wide) u, g0 = Split<axis = -1, num_outputs = 2>(z)
        g1 = Sigmoid(g0) g2 = Mul(g0, g1) h = Mul(g2, u)\n"""
    + DOWN,
    "gated by slices of one layer": """z = MatMul(x, wide) u = Slice(z, at_0, at_16, last)
        g0 = Slice(z, minus_16, at_64, last) g1 = Sigmoid(g0) g2 = Mul(g0, g1) h = Mul(g2, u)\n"""
    + DOWN,
    "glu": """z0 = MatMul(x, wide) z = Add(z0, b_wide) u, g0 = Split<axis = -1, num_outputs = 2>(z)
        g1 = Sigmoid(g0) h = Mul(u, g1)\n"""
    + DOWN,
    "relu": UP + "h = Relu(u)\n" + DOWN,
    "squared relu": UP + "r = Relu(u) h = Mul(r, r)\n" + DOWN,
    "relu to a power": UP + "r = Relu(u) h = Pow(r, two)\n" + DOWN,
    "elu": UP + "h = Elu<alpha = 0.5>(u)\n" + DOWN,
    "between bounds": UP + "r = Clip(u, zero, two) h = Relu(r)\n" + DOWN,
    "gemm": """f = Reshape(x, flat) u = Gemm<transB = 1>(f, up_t, bu) h = Relu(u) d = Gemm<transB = 1>(h, down_t, bd)
        y = Reshape(d, back)""",
    "gemm as it stands": "f = Reshape(x, flat) u = Gemm(f, up, bu) h = Relu(u) d = Gemm(h, down) y = Reshape(d, back)",
    "no bias": "u = MatMul(x, up) h = Relu(u) y = MatMul(h, down)",
    "two readers": UP + "h = Relu(u) d = MatMul(h, down) e0 = MatMul(h, other) e = Add(bd, e0) y = Add(d, e)",
    "reshaped before and behind": """f = Reshape(x, flat) u0 = Gemm(f, up, bu) u = Reshape(u0, back_16) h = Relu(u)
        h0 = Reshape(h, flat_16) d = Gemm(h0, down, bd) y = Reshape(d, back)""",
    "reshaped to a shape that is computed": """s = Shape(x) s0 = Slice(s, at_0, at_2, at_0)
        s1 = Concat<axis = 0>(s0, at_16) f = Reshape(x, flat) u0 = Gemm(f, up, bu) u = Reshape(u0, s1) h = Relu(u)
        h0 = Reshape(h, flat_16) d = Gemm(h0, down, bd) y = Reshape(d, s)""",
    "reshaped with the units inside": """u = MatMul(x, up) i = Transpose<perm = [0, 2, 1]>(u) j = Reshape(i, one_more)
        h = Relu(j) d = Conv(h, down_c, bd) k = Reshape(d, one_less) y = Transpose<perm = [0, 2, 1]>(k)""",
    "readers behind reshapes": """h_ = MatMul(x, up) h = Relu(h_) f = Reshape(h, flat_16) a = Gemm(f, down, bd)
        b = Reshape(a, back) g = Unsqueeze(h, at_0) c = MatMul(g, other) e = Squeeze(c, at_0) y = Add(e, b)""",
    "casts": UP + "v = Cast<to = 11>(u) r = Relu(v) h0 = Cast<to = 1>(r) d0 = MatMul(h0, down) y = Add(d0, x)",
    "a factor for all units": UP + "m = ReduceMax<keepdims = 1>(x, last) r = Mul(u, m) h = Relu(r)\n" + DOWN,
    "1x1 convolutions": """i = Transpose<perm = [0, 2, 1]>(x) j = Unsqueeze(i, last) u = Conv(j, up_c, bu) h = Relu(u)
        d = Conv(h, down_c, bd) k = Squeeze(d, last) y = Transpose<perm = [0, 2, 1]>(k)""",
    "a convolution behind a layer": """u = MatMul(x, up) h = Relu(u) i = Transpose<perm = [0, 2, 1]>(h)
        j = Unsqueeze(i, last) d = Conv(j, down_c, bd) k = Squeeze(d, last) y = Transpose<perm = [0, 2, 1]>(k)""",
}
DEEP = UP + "h = Relu(u) d0 = MatMul(h, down) h2_ = Add(d0, bd) v = MatMul(h2_, up) k = Relu(v) y = MatMul(k, down)"


def made(text: str, dtype: type = np.float32, **given: Any) -> ir.Model:
    """Canonical; y = f(x) of [N, S, WIDTH]."""
    random = np.random.default_rng(5)

    def array(*shape: int) -> np.ndarray[Any, Any]:
        return np.asarray(random.standard_normal(shape), dtype)

    constants: dict[str, Any] = {
        "up": array(WIDTH, HIDDEN), "gate": array(WIDTH, HIDDEN), "wide": array(WIDTH, 2 * HIDDEN),
        "down": array(HIDDEN, WIDTH), "other": array(HIDDEN, WIDTH), "bu": array(HIDDEN), "bd": array(WIDTH),
        "b_wide": array(2 * HIDDEN), "root_2": dtype(2**0.5), "one": dtype(1), "two": dtype(2), "half": dtype(0.5),
        "zero": dtype(0), "flat": np.array([-1, WIDTH]), "flat_16": np.array([-1, HIDDEN]),
        "back": np.array([-1, 5, WIDTH]), "back_16": np.array([-1, 5, HIDDEN]), "last": np.array([-1]),
        "at_0": np.array([0]), "at_1": np.array([1]), "at_2": np.array([2]), "at_16": np.array([HIDDEN]),
        "at_64": np.array([64]), "one_more": np.array([-1, HIDDEN, 5, 1]), "one_less": np.array([-1, WIDTH, 5]),
        "minus_16": np.array([-HIDDEN]), "gain": array(HIDDEN), "kernel": array(WIDTH, HIDDEN, 3),
        "mixing": array(HIDDEN, HIDDEN),
    }  # fmt: skip
    constants |= {"up_t": constants["up"].T.copy(), "down_t": constants["down"].T.copy()}
    constants |= {"up_c": constants["up_t"][..., None, None], "down_c": constants["down_t"][..., None, None]}
    more = f", float[N, 5, {HIDDEN}] seen" if "seen = " in text else ""
    real = "float" if dtype is np.float32 else "float16" if dtype is np.float16 else "double"
    length = "S" if "Shape(x)" in text else "5"
    model = f"m ({real}[N, {length}, {WIDTH}] x) => ({real}[N, {length}, {WIDTH}] y{more}) {{ {text} }}"
    return canonical(build(model, 18, **constants | given), 20 if "Gelu" in text else 18)


def split(model: ir.Model, units: tuple[int, ...] = UNITS) -> ir.Model:
    """A copy with these units of every hidden layer apart."""
    copy = model.clone()
    wanted = {site.name: units for site in hidden_layers(model) if isinstance(site, Site)}
    outcome = SplitUnits(wanted).run(copy)
    assert outcome.matched == tuple(wanted) and not outcome.skipped
    return copy


def contents(model: ir.Model) -> dict[str, np.ndarray[Any, Any]]:
    return {name: array.copy() for name, value in model.graph.initializers.items()
            if (array := constant_array(value)) is not None}  # fmt: skip


def traces(model: ir.Model) -> tuple[Any, ...]:
    """What a rewrite could leave behind: nodes, initializers, and who reads what."""
    values = [*model.graph.inputs, *model.graph.initializers.values(),
              *(item for node in model.graph for item in node.outputs)]  # fmt: skip
    return [str(node.name) for node in model.graph], list(model.graph.initializers), {
        str(value.name): sorted((str(use.node.name), use.idx) for use in value.uses()) for value in values
    }  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_the_function_stays(name: str) -> None:
    source = made(LAYERS[name])
    (site,) = (item for item in hidden_layers(source) if isinstance(item, Site))
    assert site.channels == HIDDEN
    before, weights = traces(source), contents(source)
    result = split(source)
    assert traces(source) == before
    assert is_topological(result.graph)
    for held, array in contents(source).items():
        np.testing.assert_array_equal(array, weights[held])  # never written in place
    feeds = random_feeds(source)
    assert largest_error(source, result, feeds) < 2e-6
    wide = run_all(result, [feeds], [site.name], optimize=False)[0][site.name]
    parts = np.moveaxis(wide, site.axis, -1)
    assert np.ptp(parts[..., list(UNITS)]) == 0  # of zero columns: f(0), whatever comes in
    assert np.ptp(parts[..., 4]) > 0
    (again,) = hidden_layers(result)  # the narrow one is none of its own
    assert isinstance(again, Site) and again.name == site.name
    assert [item.name for item in find_sites(result).sites] == [item.name for item in find_sites(source).sites]
    readers = again.readers
    assert len(readers) == len(site.readers)
    for reader in readers:
        weight = constant_array(reader.weight.value)
        assert weight is not None and not np.take(weight, UNITS, reader.weight.axis).any()
        assert np.take(weight, 4, reader.weight.axis).any()
    narrow = [node for node in result.graph if form_of(node) is Form.SPLIT and node.op_type != "Add"]
    assert len(narrow) == len(readers) + (1 if "gate = " not in name and name != "gated" and "one layer" not in name
                                          and "slices" not in name and name != "glu" else 2)  # fmt: skip
    assert {str(node.name) for node in narrow} <= set(select_sites(result, find_target("ort-cpu").placement).floats)


@pytest.mark.parametrize("name", LAYERS)
def test_a_certificate_holds_and_a_second_run_changes_nothing(name: str) -> None:
    source = made(LAYERS[name])
    (site,) = (item for item in hidden_layers(source) if isinstance(item, Site))
    rewrite = SplitUnits({site.name: UNITS})
    result = proven(source, rewrite, 1, [random_feeds(source)])
    before = traces(result)
    again = rewrite.run(result)
    assert not again.modified and [item.reason for item in again.skipped] == ["they are apart already"]
    assert traces(result) == before


def test_doubles_agree_to_their_own_rounding() -> None:
    source = made(LAYERS["squared relu"], np.float64)
    assert largest_error(source, split(source), random_feeds(source)) < 1e-14


def test_halves_are_split_in_float32() -> None:
    half = made(LAYERS["gelu spelled out"], np.float16)
    wide = half.clone()
    CarryFloat32().run(wide)
    source = canonical(wide)
    assert largest_error(source, split(source), random_feeds(source)) < 2e-6


def test_a_reader_that_is_an_output_keeps_its_name() -> None:
    source = made(LAYERS["no bias"])
    result = split(source)
    assert [value.name for value in result.graph.outputs] == ["y"]
    maker = result.graph.outputs[0].producer()
    assert maker is not None and maker.op_type == "Add"
    names = Counter(value.name for node in result.graph for value in node.outputs)
    assert max(names.values()) == 1


def test_one_layer_after_the_other() -> None:
    """Of two layers with shared weights each loses its own units, and where they are the same the weight stays one."""
    source = made(DEEP)
    sites = [item.name for item in hidden_layers(source)]
    assert sites == ["h", "k"]
    for units in ({"h": (3,), "k": (5, 6)}, {"k": (5,), "h": (5,)}):
        result = source.clone()
        assert SplitUnits(units).run(result).matched == tuple(units)
        DropUnused().run(result)
        assert largest_error(source, result, random_feeds(source)) < 2e-6
        large = [array for array in contents(result).values() if array.size == WIDTH * HIDDEN]
        assert len(large) == (4 if units["h"] != units["k"] else 2)


def test_one_layer_for_gate_and_up_is_copied_once() -> None:
    result = split(made(LAYERS["gated by one layer"]))
    DropUnused().run(result)
    (wide,) = (array for array in contents(result).values() if array.shape == (WIDTH, 2 * HIDDEN))
    assert not wide[:, [3, 12, 3 + HIDDEN, 12 + HIDDEN]].any()
    assert np.count_nonzero(wide.any(0)) == 2 * HIDDEN - 4


NEAR_MISSES = {
    "read elsewhere": (UP + "h = Relu(u) a = MatMul(h, down) b = ReduceSum<keepdims = 1>(h, last) y = Add(a, b)",
                       "ReduceSum reads it too"),
    "an output": (UP + "h = Relu(u) seen = Identity(h) y = MatMul(h, down)", "seen is an output of the model"),
    "an inner value is an output": (UP + "h = Relu(u) seen = Add(u, one) y = MatMul(h, down)",
                                    "what makes it is read by Add too"),
    "an inner value itself": ("seen = MatMul(x, up) h = Relu(seen) y = MatMul(h, down)",
                              "what makes it is read by the model's outputs too"),
    "an inner value is read": (UP + """h = Relu(u) a = MatMul(h, down) b = ReduceSum<keepdims = 1>(u, last)
        y = Add(a, b)""", "what makes it is read by ReduceSum too"),
    "a gate of its own mean": (UP + """m0 = ReduceMean<keepdims = 1>(u, last) m = Sigmoid(m0) r = Mul(u, m) h = Relu(r)
        y = MatMul(h, down)""", "what makes it is read by ReduceMean too"),
    "softmax between": (UP + "p = Softmax<axis = -1>(u) h = Relu(p) y = MatMul(h, down)", "Softmax may mix channels"),
    "a norm between": (UP + "n = LayerNormalization<axis = -1>(u, gain) h = Relu(n) y = MatMul(h, down)",
                       "LayerNormalization may mix channels"),
    "a reshape that mixes": (UP + """v = Reshape(u, mixed) r = Relu(v) w = Reshape(r, back_16) h = Relu(w)
        y = MatMul(h, down)""", "Reshape may mix channels"),
    "heads between": (UP + "t = Transpose<perm = [0, 2, 1]>(u) v = MatMul(t, fives) w = Transpose<perm = [0, 2, 1]>(v) "
                      "h = Relu(w) y = MatMul(h, down)",
                      "v is no layer with a constant weight, or a convolution of several places"),
    "no layer at all": ("c = Concat<axis = -1>(x, x) h = Relu(c) y = MatMul(h, down)", "Concat may mix channels"),
    "the input of the model": ("h_ = Relu(x) y = MatMul(h_, square)", "x is not made by a layer"),
    "a wide convolution": (UP + """h = Relu(u) i = Transpose<perm = [0, 2, 1]>(h)
        d = Conv<pads = [1, 1]>(i, kernel) a = Transpose<perm = [0, 2, 1]>(d) b = MatMul(h, down) y = Add(a, b)""",
        "Conv reads it too"),
    "only some positions": (UP + "h = Relu(u) a = ReduceMean<keepdims = 1>(h, at_1) b = MatMul(a, down) y = Add(b, x)",
                            "ReduceMean may mix channels"),
    "many operators": (UP + "v0 = Relu(u)" + "".join(f" v{i + 1} = Neg(v{i})" for i in range(70))
                       + " h = Relu(v70) y = MatMul(h, down)", "more than 64 operators make it"),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_a_near_miss_leaves_no_trace(name: str) -> None:
    text, reason = NEAR_MISSES[name]
    random = np.random.default_rng(6)
    source = made(text, mixed=np.array([-1, 10, 8]), fives=random.standard_normal((5, 5)).astype(np.float32),
                  square=random.standard_normal((WIDTH, WIDTH)).astype(np.float32))  # fmt: skip
    found = hidden_layers(source)
    assert [item.reason for item in found if isinstance(item, Refusal)] == [reason]
    before = traces(source)
    outcome = SplitUnits({found[0].name: UNITS}).run(source)
    assert not outcome.modified
    assert [item.reason for item in outcome.skipped] == [reason]
    assert traces(source) == before


@pytest.mark.parametrize(
    ("units", "reason"),
    [
        ({"h": (3, 16)}, "units between 0 and 15 are needed"),
        ({"h": (-1,)}, "units between 0 and 15 are needed"),
        ({"h": ()}, "units between 0 and 15 are needed"),
        ({"u": (1,)}, "no such hidden layer"),
    ],
)
def test_units_and_sites_that_are_not_there(units: dict[str, tuple[int, ...]], reason: str) -> None:
    source = made(LAYERS["relu"])
    before = traces(source)
    outcome = SplitUnits(units).run(source)
    assert not outcome.modified and [item.reason for item in outcome.skipped] == [reason]
    assert traces(source) == before
    assert not SplitUnits().run(source).modified


def test_a_number_without_axes_is_passed_over() -> None:
    text = "s = ReduceMax<keepdims = 0>(x) t = Relu(s) r = Reshape(t, one_of) y = Add(r, x)"
    assert not hidden_layers(made(text, one_of=np.array([1, 1, 1])))


def test_linear_pairs_and_streams_are_no_hidden_layers() -> None:
    assert not hidden_layers(made("a = MatMul(x, up) b = Add(a, bu) y = MatMul(b, down)"))
    assert not hidden_layers(made("a = MatMul(x, up) b = MatMul(x, gate) c = Sub(a, b) y = MatMul(c, down)"))
    assert [item.name for item in hidden_layers(canonical(llama(2)))] == ["h3_0", "h3_1"]


@pytest.mark.parametrize(("model", "count"), [(llama(2, embedded=True), 2), (vit(2, embedded=True), 2), (bert(2), 2)])
def test_blocks_and_the_rewrites_behind(model: ir.Model, count: int) -> None:
    """Rotations and equalization find what they found, narrow layers among the readers, and keep the function."""
    source = canonical(model)
    result = split(source)
    feeds = random_feeds(source, {"S": 5})
    assert largest_error(source, result, feeds) < 4e-6
    old, new = find_sites(source), find_sites(result)
    assert [(item.kind, item.channels, len(item.edges)) for item in old.sites] == [
        (item.kind, item.channels, len(item.edges)) for item in new.sites
    ]
    assert [[edge.bias is None for edge in item.edges] for item in old.sites] == [
        [edge.bias is None for edge in item.edges] for item in new.sites
    ]
    assert [item.reason for item in old.refused] == [item.reason for item in new.refused]
    for before, after in zip(residual_streams(source), residual_streams(result), strict=True):
        assert isinstance(before, Stream) == isinstance(after, Stream)
        if isinstance(before, Stream) and isinstance(after, Stream):
            assert len(after.writers) == len(before.writers) + count
    for rotate in PASSES.values():
        number = len(rotate().run(source.clone()).matched)
        assert len(rotate().run(result.clone()).matched) == number
        if number:
            proven(result.clone(), rotate(), number, [feeds])
    moved: Pass = shifted_and_scaled(result)
    assert isinstance(moved, FoldShiftScale)
    proven(result, moved, len(moved.parameters), [feeds])
