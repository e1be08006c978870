"""The loss at the joint end: its graph is the model's, it chooses what serves the end, and it keeps to its budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.equalize import choose_shift_scale, joint_loss
from qcompiler.passes.equalize.choose_shift_scale import choose, choose_jointly, shortlist
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.equalize.joint_loss import JointLoss, JointLosses
from qcompiler.passes.equalize.joint_region import JointRegion, joint_region
from qcompiler.passes.equalize.joint_samples import MOST_SAMPLES, SAMPLES, JointSamples, Seen
from qcompiler.passes.equalize.loss import SiteLoss
from qcompiler.passes.equalize.sample_rows import sample_rows
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind, Site
from qcompiler.precision import Precision, Precisions
from qcompiler.session import Session
from tests.architectures import WIDTH, canonical, llama
from tests.joint_models import JOINT, SINGLE, joint_feeds, joint_model

EIGHT, FINE = Precisions(), Precisions(Precision(weights=20, activations=20))
SPREAD = ShiftScale(np.linspace(-2, 2, WIDTH), np.linspace(0.5, 3, WIDTH))
Array = np.ndarray[Any, Any]


def norm_of(model: ir.Model) -> Site:
    return next(site for site in find_sites(model).sites if site.kind is Kind.NORM)


def loss_of(model: ir.Model, feeds: list[dict[str, Any]], precisions: Precisions = EIGHT) -> JointLoss:
    site = norm_of(model)
    loss = JointLosses(model, [site], feeds, precisions, threads=1).of(site)
    assert loss is not None
    return loss


def region_of(model: ir.Model, feeds: list[dict[str, Any]]) -> tuple[JointRegion, list[Seen]]:
    site = norm_of(model)
    found = JointSamples(model, [site], feeds, threads=1).of(site)
    assert found is not None
    return joint_region(model, site, found[0]), found[1]


def run_region(
    model: ir.Model, region: JointRegion, seen: list[Seen], change: Callable[[Array], Array] = np.asarray
) -> list[Array]:
    """The joint end with the layers' own weights, for each sample."""
    weights = [reader.matrix() for reader in norm_of(model).readers]
    given = dict(zip(region.weights, weights, strict=True))
    given |= {name: np.zeros(len(weight.T), np.float32) for name, weight in zip(region.offsets, weights, strict=True)}
    session, made = Session(region.model, threads=1), list[Array]()
    for item in seen:
        reads = {name: change(rows.array) for name, rows in zip(region.reads, item.read, strict=True)}
        made += session.run(given | item.beside | reads).values()
    return made


@pytest.mark.parametrize("text", JOINT.values(), ids=JOINT)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_region_makes_what_the_model_makes(text: str, dtype: type) -> None:
    model = joint_model(text, dtype)
    feeds = joint_feeds(model)
    region, seen = region_of(model, feeds)
    whole = Session(model, ["end"], threads=1)
    for made, item, feed in zip(run_region(model, region, seen), seen, feeds, strict=True):
        wanted = whole.run(feed)["end"]
        np.testing.assert_allclose(made, wanted, atol=1e-6 if dtype is np.float32 else 4e-3)
        np.testing.assert_array_equal(item.end.array, wanted.astype(np.float32))


@pytest.mark.parametrize("text", JOINT.values(), ids=JOINT)
def test_a_shift_and_scale_alone_is_no_error(text: str) -> None:
    """On fine grids nothing is left, so that z W and diag(s) W are what they should be."""
    model = joint_model(text)
    loss = loss_of(model, joint_feeds(model), FINE)
    assert loss() < 1e-8 and loss(SPREAD) < 1e-8
    assert loss_of(model, joint_feeds(model))(SPREAD) > 1e-5


def test_the_bias_of_a_gemm_counts() -> None:
    text = """f = Reshape(x, flat) n = LayerNormalization<axis = -1>(f, gain, bias) g0 = Gemm(n, w_q, b_q)
    u0 = Gemm<transB = 1>(n, w_k, b_k) g1 = Sigmoid(g0) end = Mul(g1, u0) y1 = MatMul(end, w_out)
    d = Shape(x) y = Reshape(y1, d)"""  # fmt: skip
    model = joint_model(text, flat=np.array([-1, WIDTH]))
    site = norm_of(model)
    assert {reader.node.op_type for reader in site.readers} == {"Gemm"}
    unnamed = replace(site, readers=tuple(replace(reader, bias=None) for reader in site.readers))
    for given in (site, unnamed):  # behind a factor a reader is given no bias, and has one all the same
        loss = JointLosses(model, [given], joint_feeds(model), FINE, threads=1).of(given)
        assert loss is not None and loss(SPREAD) < 1e-8


def test_the_error_is_that_of_the_rewritten_and_rounded_layers() -> None:
    """Against silu(gate) * up in numpy, one scale for the tensor and one for each output channel."""
    model = joint_model(JOINT["gate and up"])
    feeds = joint_feeds(model, 2)
    rows = np.concatenate([Session(model, ["n"], threads=1).run(feed)["n"][0] for feed in feeds]).astype(np.float64)
    gate, up = (np.asarray(reader.matrix(), np.float64) for reader in norm_of(model).readers)
    shift, scale = SPREAD.shift, SPREAD.scale

    def end(left: Array, right: Array) -> Array:
        return np.asarray(left / (1 + np.exp(-left)) * right)

    def on_grid(weight: Array) -> Array:
        step = np.abs(weight).max(0) / 127
        return np.asarray(np.rint(weight / step) * step)

    moved, exact, losses = (rows - shift) / scale, end(rows @ gate, rows @ up), []
    signal = np.square(exact - exact.mean(0)).mean(1)
    worth = 1 / np.maximum(signal, 0.1 * np.median(signal))
    for clip in (1.0, 0.6):
        step = np.abs(moved).max() * clip / 7
        codes = np.clip(np.rint(moved / step), -7, 7) * step
        made = [codes @ on_grid(weight * scale[:, None]) + shift @ weight for weight in (gate, up)]
        error = end(*made) - exact
        losses.append((np.square(error).mean(1) * worth).mean() + 7 * np.square(error.mean(0)).mean() * worth.mean())
    four = Precisions(Precision(weights=8, activations=4))
    assert loss_of(model, feeds, four)(SPREAD) == pytest.approx(min(losses), rel=1e-3) and losses[1] < losses[0]


def planted() -> ir.Model:
    """Queries and keys read channels 0 to 7 and hardly matter to the probabilities, values read channels 8 to 15."""
    random, first = np.random.default_rng(4), (np.arange(WIDTH) < 8)[:, None]
    weights: dict[str, Any] = {f"w_{i}": random.standard_normal((WIDTH, WIDTH)).astype(np.float32) for i in "qkv"}
    weights |= {name: weights[name] * np.where(first, np.float32(0.05), np.float32(1e-5)) for name in ("w_q", "w_k")}
    weights["w_v"] *= np.where(first, np.float32(1e-3), np.float32(1))
    return joint_model(JOINT["q, k, v"], **weights)


def test_what_serves_the_joint_end_is_chosen_where_single_layers_choose_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, first = planted(), np.arange(WIDTH) < 8
    site, feeds = norm_of(model), joint_feeds(model)
    for_scores, for_values = (ShiftScale(np.zeros(WIDTH), np.where(fine, 1.0, 8.0)) for fine in (first, ~first))
    monkeypatch.setattr(
        choose_shift_scale, "proposals", lambda *_: iter([("os_plus", for_scores), ("os_plus", for_values)])
    )
    five = Precisions(Precision(weights=8, activations=5))
    seen = sample_rows(model, [site], feeds, threads=1)[site.name]
    plain, joint = SiteLoss(site, seen.rows, five), loss_of(model, feeds, five)
    assert 1.2 * plain(for_scores) < plain(for_values) and joint(for_scores) > 4 * joint(for_values)
    chosen = choose(site, seen, seen.rows, ["os_plus"], five)
    assert chosen.best["os_plus"] is for_scores and not chosen.joint
    chosen = choose_jointly(site, seen, chosen, ["os_plus"], five, joint)
    assert chosen.best["os_plus"] is for_values and chosen.joint and chosen.places["os_plus"] == 1
    assert _error_at_the_end(model, feeds, for_values) < _error_at_the_end(model, feeds, for_scores) / 4


def _error_at_the_end(model: ir.Model, feeds: list[dict[str, Any]], wanted: ShiftScale) -> float:
    """Rewritten by the pass, with what the readers get on 5 bits and all else float."""
    rewritten = model.clone()
    FoldShiftScale({norm_of(model).name: wanted}).run(rewritten)
    region, seen = region_of(rewritten, feeds)
    top = max(np.abs(rows.array).max() for item in seen for rows in item.read)
    step = np.float32(top / 15)
    made = run_region(rewritten, region, seen, lambda array: np.rint(array / step) * step)
    return sum(float(np.square(array - item.end.array).sum()) for array, item in zip(made, seen, strict=True))


def test_padding_does_not_count() -> None:
    model = joint_model(JOINT["masked"])
    feeds = joint_feeds(model)
    loud = [feed | {"x": feed["x"] * np.where(np.arange(8) < 5, 1, 50).astype(np.float32)[:, None]} for feed in feeds]
    seen = [JointSamples(model, [norm_of(model)], given, threads=1).of(norm_of(model)) for given in (feeds, loud)]
    assert all(found is not None and len(found[1][0].end.real) == 5 for found in seen)
    assert loss_of(model, feeds)(SPREAD) == pytest.approx(loss_of(model, loud)(SPREAD), rel=1e-5)


def test_padding_is_cut_off_where_the_model_takes_any_length() -> None:
    for length, positions in (("8", 8), ("S", 5)):
        model = joint_model(JOINT["masked"], length=length)
        _, seen = region_of(model, joint_feeds(model))
        assert {item.read[0].array.shape for item in seen} == {(1, positions, WIDTH)}


def test_short_samples_are_taken_until_there_are_enough_positions() -> None:
    model = joint_model(JOINT["rotary and a cache"])
    site = norm_of(model)
    for positions, expected in ((1, MOST_SAMPLES), (8, 8), (40, SAMPLES)):
        found = JointSamples(model, [site], joint_feeds(model, 20, positions), threads=1).of(site)
        assert found is not None and len(found[1]) == expected


def test_the_budget_gives_up_samples_then_candidates_but_no_method(monkeypatch: pytest.MonkeyPatch) -> None:
    model = joint_model(JOINT["gate and up"])
    site, feeds = norm_of(model), joint_feeds(model)
    seen = sample_rows(model, [site], feeds, threads=1)[site.name]
    methods = ("shift", "os_plus", "smooth")
    single = choose(site, seen, seen.rows, methods, EIGHT)
    counted, costs = [], []
    for budget in (joint_loss.BUDGET, 8 * 550_000, 0):
        monkeypatch.setattr(joint_loss, "BUDGET", budget)
        loss, calls = loss_of(model, feeds), list[Any]()
        monkeypatch.setattr(JointLoss, "__call__", lambda _, wanted=None, calls=calls: calls.append(wanted) or 1.0)
        choice = choose_jointly(site, seen, single, methods, EIGHT, loss)
        monkeypatch.undo()
        assert set(choice.best) == set(methods)
        counted.append(len(calls) - 1)
        costs.append(len(loss._seen))
    assert counted[0] == len(list(choose_shift_scale.proposals(site, seen, methods, EIGHT)))
    assert counted[0] > counted[1] > counted[2] == len(methods)
    assert costs[0] == len(feeds) > costs[1] > costs[2] == 1


def test_the_shortlist_takes_methods_in_turns() -> None:
    methods, losses = ["a", "a", "a", "b", "b", "c"], dict(enumerate([1.0, 2.0, 3.0, 9.0, 8.0, 7.0]))
    assert shortlist(methods, losses, 0) == [0, 4, 5]
    assert shortlist(methods, losses, 4) == [0, 1, 4, 5]
    assert shortlist(methods, losses, 99) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("text", [SINGLE["gelu"], SINGLE["plain"]])
def test_no_joint_end_no_joint_loss(text: str) -> None:
    model = joint_model(text)
    assert JointLosses(model, [norm_of(model)], joint_feeds(model), EIGHT).of(norm_of(model)) is None


def test_sites_without_finite_samples_have_none() -> None:
    model = joint_model(JOINT["q, k, v"])
    feeds = joint_feeds(model, 2)
    spoiled = [feed | {"x": np.full_like(feed["x"], np.nan)} for feed in feeds]
    site = norm_of(model)
    assert JointLosses(model, [site], spoiled, EIGHT, threads=1).of(site) is None
    assert JointLosses(model, [site], [spoiled[0], feeds[1]], EIGHT, threads=1).of(site) is not None


def test_sites_of_several_blocks_are_seen_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    model = canonical(llama(2))
    monkeypatch.setattr("qcompiler.passes.equalize.joint_samples.SITES_AT_ONCE", 3)
    sites = [site for site in find_sites(model).sites if site.kind is Kind.NORM]
    made = list[int]()

    def session(model: ir.Model, names: list[str], **given: Any) -> Session:
        made.append(len(names))
        return Session(model, names, **given)

    monkeypatch.setattr("qcompiler.passes.equalize.joint_samples.Session", session)
    losses = JointLosses(model, sites, [{"x": np.ones((1, 6, WIDTH), np.float32)}] * 2, EIGHT, threads=1)
    assert [losses.of(site) is not None for site in sites] == [True] * 4 + [False]
    assert made == [6, 2]  # what readers read and where they end
