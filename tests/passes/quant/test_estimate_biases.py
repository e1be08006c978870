"""A shift of means that quantization makes is found and taken out; what does not pay on other samples is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.driver import compile_model
from qcompiler.errors import UsageError
from qcompiler.options import CompileOptions
from qcompiler.passes.quant.correct_biases import CorrectBiases
from qcompiler.passes.quant.estimate_biases import FEWEST, estimate_biases, pays
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.quantize_weights import QuantizeWeights
from qcompiler.passes.quant.taught_model import TaughtModel
from qcompiler.plan import QuantPlan
from qcompiler.saving import save_model
from qcompiler.scheme import TensorQuant, int8_weight
from qcompiler.session import Arrays, Feeds, Session
from tests.building import build, per_tensor

RANDOM = np.random.default_rng(11)
WEIGHTS: dict[str, Any] = {
    "wa": RANDOM.standard_normal((16, 16)).astype(np.float32) / 4, "ba": RANDOM.standard_normal(16).astype(np.float32),
    "wb": RANDOM.standard_normal((16, 16)).astype(np.float32) / 4, "bb": RANDOM.standard_normal(16).astype(np.float32),
    "wc": RANDOM.standard_normal((16, 8)).astype(np.float32) / 4,
}  # fmt: skip
BODY = "[a] g = MatMul(x, wa) h = Add(g, ba) i = Relu(h) [b] j = Gemm(i, wb, bb) k = Tanh(j) [c] y = Gemm(k, wc)"
TEXT = f"m (float[N, 16] x) => (float[N, 8] y) {{ {BODY} }}"
FEEDS: list[Feeds] = [{"x": RANDOM.standard_normal((64, 16)).astype(np.float32) + 1} for _ in range(8)]


def coarse(step: float = 0.05, clip: float = 0.004) -> QuantPlan:
    """Weights on a coarse grid and an activation that clips: both shift means."""
    def weight(size: int) -> TensorQuant:
        return TensorQuant(int8_weight(1), np.full(size, step, np.float32))

    return QuantPlan(
        tensors={"x": per_tensor(0.03), "i": per_tensor(clip), "k": per_tensor(0.008)},
        weights={"a": {1: weight(16)}, "b": {1: weight(16)}, "c": {1: weight(8)}},
        nodes={"a": (0,), "b": (0,), "c": (0,)},
    )  # fmt: skip


def quantized(plan: QuantPlan, text: str = TEXT) -> Session:
    model = build(text, **WEIGHTS)
    for item in (CorrectBiases(plan), QuantizeWeights(plan), InsertQdq(plan)):
        item.run(model)
    return Session(model, optimize=False)


def shift(plan: QuantPlan) -> float:
    """Root mean square over channels of the shift of y on other data than the estimate had."""
    x = np.random.default_rng(99).standard_normal((4096, 16)).astype(np.float32) + 1
    wanted, found = (one.run({"x": x})["y"] for one in (Session(build(TEXT, **WEIGHTS)), quantized(plan)))
    return float(np.sqrt(np.square((found - wanted).mean(0)).mean()))


def test_the_shift_goes() -> None:
    made = estimate_biases(build(TEXT, **WEIGHTS), coarse(), FEEDS, threads=1)
    assert made.facts["taken"]
    assert made.facts["sqnr_gain"] > 1
    assert list(made.biases) == ["a", "b", "c"]
    assert shift(replace(coarse(), biases=made.biases)) < 0.25 * shift(coarse())


def test_switched_off_it_is_the_quantized_graph() -> None:
    plan = coarse()
    taught = TaughtModel(build(TEXT, **WEIGHTS), plan, FEEDS, threads=1)
    wanted = Session(build(TEXT, **WEIGHTS)).run(FEEDS[0])["y"]
    corrections = {"a": RANDOM.standard_normal(16), "c": RANDOM.standard_normal(8)}
    for given in ({}, corrections):
        biases = {name: np.asarray(numbers).tolist() for name, numbers in given.items()}
        found = quantized(replace(plan, biases=biases)).run(FEEDS[0])["y"]
        noise = np.square(found - wanted).sum() / np.square(wanted).sum()
        assert taught.noise(FEEDS[0], given) == pytest.approx(noise, rel=1e-3)


def test_taught_layers_read_corrected_inputs() -> None:
    plan = coarse()
    taught = TaughtModel(build(TEXT, **WEIGHTS), plan, FEEDS, threads=1)
    shifts = taught.teach(FEEDS[0])
    given = {name: numbers.tolist() for name, numbers in shifts.items()}
    wanted = Session(build(TEXT, **WEIGHTS)).run(FEEDS[0])["y"].mean(0)
    found = quantized(replace(plan, biases=given)).run(FEEDS[0])["y"].mean(0)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    alone = quantized(replace(plan, biases={"c": given["c"]})).run(FEEDS[0])["y"].mean(0)
    assert np.abs(alone - wanted).max() > 1e-3, "the last shift alone is not what the uncorrected layers need"


def test_what_does_not_gain_is_not_taken() -> None:
    """Weights that lie on the grid and activations that do not clip: rounding shifts no mean."""
    whole = {name: np.round(array, 2) for name, array in WEIGHTS.items()}
    made = estimate_biases(build(TEXT, **whole), coarse(step=0.01, clip=0.05), FEEDS, threads=1)
    assert not made.facts["taken"]
    assert made.biases == {}


def test_a_shift_of_the_estimating_samples_alone_is_not_taken() -> None:
    """Samples take turns: those that clip estimate, those that do not judge."""
    feeds = [{"x": feed["x"] * (4 if index % 2 == 0 else 0.05)} for index, feed in enumerate(FEEDS)]
    made = estimate_biases(build(TEXT, **WEIGHTS), coarse(step=0.01, clip=0.02), feeds, threads=1)
    assert made.facts["sqnr_gain"] < 0
    assert made.biases == {}


@pytest.mark.parametrize(("gains", "enough"), [
    ([0.5, 0.6, 0.4], True), ([0.29, 0.29, 0.29], False), ([-1.0, -1.1, -0.9], False),
    ([4.0, -2.0, 3.0, -1.0], False), ([4.0, 2.0, 3.0, 1.0], True),
])  # fmt: skip
def test_a_gain_must_be_large_and_steady(gains: list[float], enough: bool) -> None:
    assert pays(gains) is enough


def test_too_few_samples_to_judge_on() -> None:
    made = estimate_biases(build(TEXT, **WEIGHTS), coarse(), FEEDS[: FEWEST - 1], threads=1)
    assert (made.biases, made.facts["taken"]) == ({}, False)


def test_layers_without_a_place_are_counted() -> None:
    text = TEXT.replace("[c] y = Gemm(k, wc)", "[c] y = MatMul(k, wc)")
    made = estimate_biases(build(text, **WEIGHTS), coarse(), FEEDS, threads=1)
    assert made.facts["skipped"] == {"a MatMul without a bias behind it": 1}
    assert set(made.biases) <= {"a", "b"}


@pytest.mark.parametrize("flat", [False, True])
def test_padding_does_not_count(flat: bool) -> None:
    """Rows of padding that are wildly off leave the shifts as they are without them."""
    tail = "[b] j = Gemm(i, wb, bb) k = Tanh(j)" if flat else "[b] q = MatMul(i, wb) j = Add(q, bb) k = Tanh(j)"
    reshape = "r = Reshape(x, rows)" if flat else "r = Identity(x)"
    text = f"""m (float[1, S, 16] x, int64[1, S] attention_mask) => (float[A, B, C] k, int64[1, S] n) {{
        {reshape} [a] g = MatMul(r, wa) h = Add(g, ba) i = Relu(h) {tail} n = Identity(attention_mask) }}"""
    if flat:
        text = text.replace("float[A, B, C] k", "float[A, C] k")
    plan = coarse()
    plan = replace(plan, tensors={"r" if name == "x" else name: quant for name, quant in plan.tensors.items()},
                   weights={"a": plan.weights["a"], "b": plan.weights["b"]}, nodes={"a": (0,), "b": (0,)})  # fmt: skip
    model = build(text, **WEIGHTS, rows=np.array([-1, 16]))
    real = FEEDS[0]["x"][None, :40]
    padded = np.concatenate([np.full((1, 24, 16), 9, np.float32), real], 1)
    mask = np.concatenate([np.zeros((1, 24), np.int64), np.ones((1, 40), np.int64)], 1)
    found = shifts_of(model, plan, {"x": padded, "attention_mask": mask})
    wanted = shifts_of(model, plan, {"x": real, "attention_mask": mask[:, 24:]})
    for name in ("a", "b"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5)


def shifts_of(model: ir.Model, plan: QuantPlan, feed: Feeds) -> Arrays:
    return dict(TaughtModel(model, plan, [feed], threads=1).teach(feed))


def compiled(path: Path, **options: Any) -> Any:
    given = CompileOptions(target="ort-cpu-arm64", calib=FEEDS * 3, method="minmax", threads=1, verify=False, **options)
    return compile_model(path, given)


def test_a_plan_carries_the_corrections(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    weights = {name: np.round(array, 1) if name.startswith("w") else array for name, array in WEIGHTS.items()}
    save_model(build(TEXT, **weights), path)
    first = compiled(path, bias_correction="auto")
    assert "bias_correction" in first.facts["plan"]
    first.plan.biases = {"b": np.linspace(-1, 1, 16).tolist()}
    (tmp_path / "plan.json").write_bytes(first.plan.to_json())
    again = compiled(path, plan=tmp_path / "plan.json")
    assert again.plan.to_json() == first.plan.to_json()
    plain = compiled(path)
    assert "bias_correction" not in plain.facts["plan"]
    feed = FEEDS[0]
    assert np.abs(Session(again.model).run(feed)["y"] - Session(plain.model).run(feed)["y"]).max() > 0.1


@pytest.mark.parametrize(("biases", "says"), [
    ({"b": [1.0]}, "1 corrections for the 16 channels of node 'b'"),
    ({"k": [1.0]}, "the bias of node 'k' cannot be corrected: it is no layer"),
    ({"z": [1.0]}, "unknown node 'z'"),
])  # fmt: skip
def test_a_plan_that_does_not_fit_is_refused(tmp_path: Path, biases: dict[str, list[float]], says: str) -> None:
    path = tmp_path / "model.onnx"
    save_model(build(TEXT, **WEIGHTS), path)
    (tmp_path / "plan.json").write_bytes(QuantPlan(biases=biases).to_json())
    with pytest.raises(UsageError, match=says):
        compiled(path, plan=tmp_path / "plan.json")
