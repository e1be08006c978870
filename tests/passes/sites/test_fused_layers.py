"""Channels that are a part of what a layer makes: gate and up projection in one, interleaved heads, shared keys."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.rotate.rotations import KINDS, PASSES, found_sites
from qcompiler.passes.rotate.rotations import Kind as KindOfRotation
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind
from tests.architectures import canonical
from tests.building import build
from tests.equivalence import largest_error, random_feeds

RANDOM = np.random.default_rng(8)


def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return (RANDOM.standard_normal(shape) / 3).astype(np.float32)


def stays(source: ir.Model, kind: Kind, count: int, rotation: KindOfRotation | None = None) -> None:
    """As many sites, whose random shift and scale, and rotation, leave the function as it was."""
    sites = [site for site in find_sites(source).sites if site.kind is kind]
    assert len(sites) == count
    wanted = {site.name: ShiftScale(RANDOM.standard_normal(site.sources) * site.shifts,
                                    np.exp(RANDOM.standard_normal(site.sources))) for site in sites}  # fmt: skip
    result = source.clone()
    assert len(FoldShiftScale(wanted).run(result).matched) == count
    assert largest_error(source, result, random_feeds(source, {"N": 2, "S": 5})) < 1e-5
    if rotation is not None:
        assert {kind: len(sites) for kind, sites in found_sites(source).items()}.get(rotation) == count
        result = source.clone()
        for name in KINDS:
            PASSES[name]().run(result)
        assert largest_error(source, result, random_feeds(source, {"N": 2, "S": 5})) < 1e-5


GATED = """m (float[N, S, 8] x) => (float y) {{
    a = MatMul(x, w) {split} s = Sigmoid(g) h = Mul(g, s) p = Mul({order}) y = MatMul(p, v) {more} }}"""
HALVES = "g, u = Split<axis = -1, num_outputs = 2>(b)"
SLICES = "g = Slice(b, zero, six, last) u = Slice(b, six, end, last)"
PLACES = {name: np.array([place]) for name, place in
          {"zero": 0, "two": 2, "six": 6, "eight": 8, "end": 12, "last": -1}.items()}  # fmt: skip


@pytest.mark.parametrize(
    ("split", "order"),
    [
        ("b = Add(a, c) " + HALVES, "h, u"),
        ("b = Add(a, c) " + SLICES, "u, h"),
        ("b = Identity(a) " + HALVES.replace("g, u", "u, g"), "u, h"),
    ],
)
def test_one_layer_makes_gate_and_up_projection(split: str, order: str) -> None:
    text = GATED.format(split=split, order=order, more="")
    stays(canonical(build(text, 18, w=normal(8, 12), c=normal(12), v=normal(6, 8), **PLACES)), Kind.GATED, 1, "down")


@pytest.mark.parametrize(
    ("split", "more"),
    [
        ("b = Add(a, c) " + HALVES, "e = Relu(u)"),  # the up projection is read elsewhere
        ("b = Add(a, c) " + HALVES, "e = Relu(b)"),
        ("b = Add(a, c) g = Slice(b, zero, six, last) u = Slice(b, two, eight, last)", ""),  # gate and up overlap
    ],
)
def test_parts_that_others_read_are_no_site(split: str, more: str) -> None:
    text = GATED.format(split=split, order="h, u", more=more)
    text = text.replace("(float y)", "(float y, float e)" if more else "(float y)")
    found = find_sites(canonical(build(text, 18, w=normal(8, 12), c=normal(12), v=normal(6, 8), **PLACES)))
    assert not [site for site in found.sites if site.kind is Kind.GATED]
    assert [item.reason for item in found.refused] == ["what is scaled does not come from a layer of its own"]


BLOOM = """m (float[N, S, 8] x) => (float y) {
    a = MatMul(x, w) b = Add(a, c) r = Reshape(b, five)
    q0 = Gather<axis = 3>(r, n0) k0 = Gather<axis = 3>(r, n1) v0 = Gather<axis = 3>(r, n2)
    d = Shape(x) batch = Gather<axis = 0>(d, n0) seq = Gather<axis = 0>(d, n1)
    many0 = Mul(batch, n2) many = Unsqueeze(many0, zero) one = Unsqueeze(batch, zero) long = Unsqueeze(seq, zero)
    flat = Concat<axis = 0>(many, LENGTH, four) deep = Concat<axis = 0>(one, two, long, four)
    q1 = Transpose<perm = [0, 2, 1, 3]>(q0) q2 = Reshape(q1, flat)
    k1 = Transpose<perm = [0, 2, 1, 3]>(k0) k2 = Reshape(k1, flat) k3 = Transpose<perm = [0, 2, 1]>(k2)
    v1 = Transpose<perm = [0, 2, 1, 3]>(v0) v2 = Reshape(v1, flat)
    s = MatMul(q2, k3) p = Softmax<axis = -1>(s) o0 = MatMul(p, v2) o1 = Reshape(o0, deep)
    o2 = Transpose<perm = [0, 2, 1, 3]>(o1) o3 = Reshape(o2, joined) y = MatMul(o3, v) }"""
BLOOM_PLACES = {
    "five": np.array([0, 0, 2, 3, 4]), "zero": np.array([0]), "two": np.array([2]), "four": np.array([4]),
    "rest": np.array([-1]), "joined": np.array([0, 0, 8]), "n0": np.array(0), "n1": np.array(1), "n2": np.array(2),
}  # fmt: skip


@pytest.mark.parametrize("length", ["long", "rest"])
def test_interleaved_heads_are_joined_with_the_batch(length: str) -> None:
    """BLOOM: query, key and value of a head side by side, products of three axes."""
    source = build(BLOOM.replace("LENGTH", length), 18, w=normal(8, 24), c=normal(24), v=normal(8, 8), **BLOOM_PLACES)
    stays(canonical(source), Kind.VALUE, 1, "heads")


def test_a_value_head_that_all_queries_share_is_picked_by_gather_nd() -> None:
    """Falcon's multi-query attention as torch's dynamo exporter writes it."""
    text = """m (float[N, S, 8] x) => (float y) {
        a = MatMul(x, w) r = Reshape(a, heads) q0 = Slice(r, zero, two, axis) t = Transpose<perm = [2, 0, 1, 3]>(r)
        k0 = GatherND(t, third) v0 = GatherND(t, fourth) q1 = Transpose<perm = [0, 2, 1, 3]>(q0)
        k1 = Transpose<perm = [1, 0, 3, 2]>(k0) v1 = Transpose<perm = [1, 0, 2, 3]>(v0)
        s = MatMul(q1, k1) p = Softmax<axis = -1>(s) o0 = MatMul(p, v1) o1 = Transpose<perm = [0, 2, 1, 3]>(o0)
        o2 = Reshape(o1, joined) y = MatMul(o2, v) }"""
    source = build(text, 18, w=normal(8, 16), v=normal(8, 8), heads=np.array([0, 0, 4, 4]), zero=np.array([0]),
                   two=np.array([2]), axis=np.array([2]), third=np.array([[2]]), fourth=np.array([[3]]),
                   joined=np.array([0, 0, 8]))  # fmt: skip
    stays(canonical(source), Kind.VALUE, 1, "heads")


def test_grouped_heads_are_repeated_to_the_shape_of_another_tensor() -> None:
    """Falcon 40B from TorchScript: queries, key and value of a group side by side, the target behind a Where."""
    text = """m (float[N, S, 8] x) => (float y) {
        a = MatMul(x, w) r = Reshape(a, five) q0 = Slice(r, zero, two, axis)
        k0 = Gather<axis = 3>(r, i2) v0 = Gather<axis = 3>(r, i3)
        d = Shape(q0) n0 = Gather<axis = 0>(d, i0) n = Unsqueeze(n0, zero)
        l0 = Gather<axis = 0>(d, i1) l = Unsqueeze(l0, zero)
        want = Concat<axis = 0>(n, l, two, two, four) ones = ConstantOfShape<value = int64[1] {1}>(rank)
        less = Mul(ones, minus) same = Equal(want, less) target = Where(same, ones, want)
        k1 = Expand(k0, target) v1 = Expand(v0, target)
        q2 = Reshape(q0, all) k2 = Reshape(k1, all) v2 = Reshape(v1, all)
        q3 = Transpose<perm = [0, 2, 1, 3]>(q2) k3 = Transpose<perm = [0, 2, 3, 1]>(k2)
        v3 = Transpose<perm = [0, 2, 1, 3]>(v2)
        s = MatMul(q3, k3) p = Softmax<axis = -1>(s) o0 = MatMul(p, v3) o1 = Transpose<perm = [0, 2, 1, 3]>(o0)
        o2 = Reshape(o1, joined) y = MatMul(o2, v) }"""
    source = build(text, 18, w=normal(8, 32), v=normal(16, 8), five=np.array([0, 0, 2, 4, 4]), zero=np.array([0]),
                   two=np.array([2]), four=np.array([4]), axis=np.array([3]), i0=np.array(0), i1=np.array(1),
                   i2=np.array([2]), i3=np.array([3]), rank=np.array([5]), minus=np.array(-1),
                   all=np.array([0, 0, -1, 4]), joined=np.array([0, 0, 16]))  # fmt: skip
    stays(canonical(source), Kind.VALUE, 1, "heads")
