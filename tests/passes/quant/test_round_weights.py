"""Codes chosen on data: taken where other samples gain, within the kernels' bound, and made again from a plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.diffing.plans import plan_changes
from qcompiler.driver import compile_model
from qcompiler.errors import UsageError
from qcompiler.graph import constant_array
from qcompiler.numerics import dequantize, pairs_fit, quantize
from qcompiler.options import CalibrationInput, CompileOptions
from qcompiler.passes.quant.input_moments import input_moments
from qcompiler.passes.quant.round_weights import codes_on_data, levels
from qcompiler.passes.quant.weighted_sums import WeightedSum, weighted_sum
from qcompiler.plan import QuantPlan
from qcompiler.registry import find_target
from qcompiler.result import CompileResult
from qcompiler.session import Feeds
from tests.building import build, node_named

RANDOM = np.random.default_rng(8)
WIDTH = 48
MIX = RANDOM.standard_normal((4, WIDTH)).astype(np.float32)
WEIGHTS: dict[str, Any] = {
    "wa": RANDOM.standard_normal((WIDTH, 32)).astype(np.float32) / 7,
    "wb": RANDOM.standard_normal((32, 8)).astype(np.float32) / 5,
}
TEXT = f"m (float[N, T, {WIDTH}] x) => (float[N, T, 8] y) {{ [a] h = MatMul(x, wa) r = Relu(h) [b] y = MatMul(r, wb) }}"


def feeds(count: int, mix: bool = True, seed: int = 1) -> list[Feeds]:
    random = np.random.default_rng(seed)
    shape = (1, 40, 4 if mix else WIDTH)
    rows = [random.standard_normal(shape).astype(np.float32) for _ in range(count)]
    return [{"x": row @ MIX if mix else row} for row in rows]


def compiled(given: CalibrationInput | None, how: Any = "auto", bits: str = "w4a8", **options: Any) -> CompileResult:
    wanted = CompileOptions(calib=given, verify=False, threads=1, build_check="off", rounding=how, **options)
    return compile_model(build(TEXT, **WEIGHTS), wanted if wanted.plan else replace(wanted, bits=bits))


def saved(result: CompileResult, folder: Path) -> Path:
    path = folder / "plan.json"
    path.write_bytes(result.plan.to_json())
    return path


def of_graph(result: CompileResult) -> dict[str, Any]:
    return {name: constant_array(value) for name, value in result.model.graph.initializers.items()}


def test_taken_where_other_samples_gain() -> None:
    result = compiled(feeds(32))
    facts = result.facts["plan"]["rounding"]
    assert facts["taken"]
    assert facts["sqnr_gain"][facts["way"]] > 3
    assert facts["way"] == max(facts["sqnr_gain"], key=facts["sqnr_gain"].get)
    assert (facts["layers"], facts["judged_on"], facts["skipped"]) == (2, 7, {})
    assert result.plan.rounding == dict.fromkeys("ab", facts["way"])
    assert result.plan.codes["a"].shape == (WIDTH, 32)
    fresh = feeds(6, seed=2)
    model = build(TEXT, **WEIGHTS)
    nearest = replace(result.plan, codes={})
    gains = np.subtract(levels(model, result.plan, fresh, threads=1), levels(model, nearest, fresh, threads=1))
    assert gains.mean() > 3


def test_the_graph_holds_the_codes() -> None:
    result = compiled(feeds(32))
    codes = result.plan.codes["b"]
    assert any(array.shape == codes.shape and np.array_equal(array, codes) for array in of_graph(result).values())
    assert not np.array_equal(codes, quantize(WEIGHTS["wb"], result.plan.weights["b"][1]))


def test_left_where_inputs_say_nothing_of_one_another() -> None:
    result = compiled(feeds(32, mix=False), bits="w8a8")
    assert not result.facts["plan"]["rounding"]["taken"]
    assert result.plan.rounding == result.plan.codes == {}
    assert result.plan.to_json() == compiled(feeds(32, mix=False), "nearest", bits="w8a8").plan.to_json()
    forced = compiled(feeds(32, mix=False), "gptq", bits="w8a8")
    assert forced.facts["plan"]["rounding"]["taken"]
    assert list(forced.plan.codes) == ["a", "b"]


def test_few_samples_do_not_choose() -> None:
    assert "samples" in compiled(feeds(4)).facts["plan"]["rounding"]["why"]


def test_samples_that_judge_do_not_choose() -> None:
    """Every fourth sample is huge: the codes are the same without them."""
    model, given = build(TEXT, **WEIGHTS), feeds(24)
    plan = compiled(given, "nearest").plan
    target = find_target("ort-cpu")

    def codes(samples: list[Feeds]) -> Any:
        return codes_on_data(model, plan, target, source(model, samples), threads=1)[0]["gptq-fitted"]["a"]

    odd: list[Feeds] = [{"x": 50 * feed["x"]} if index % 4 == 3 else feed for index, feed in enumerate(given)]
    np.testing.assert_array_equal(codes(given), codes(odd))
    other: list[Feeds] = [{"x": feed["x"] * RANDOM.standard_normal(WIDTH).astype(np.float32)} for feed in given]
    assert not np.array_equal(codes(given), codes(other))


def source(model: ir.Model, samples: list[Feeds]) -> Any:
    from qcompiler.calibration.data import input_specs, open_source

    return open_source(samples, input_specs(model))


@pytest.mark.parametrize("bits", ["w8a8", "w4a8"])
def test_a_plan_passed_back_with_its_data_gives_the_same_graph(bits: str, tmp_path: Path) -> None:
    first = compiled(feeds(32), "gptq", bits=bits)
    plan = saved(first, tmp_path)
    second = compiled(feeds(32), "nearest", plan=plan)
    assert second.plan.to_json() == first.plan.to_json()
    document = json.loads(plan.read_text())
    other = ({"gptq", "gptq-fitted"} - {document["nodes"]["a"]["rounding"]}).pop()
    document["nodes"]["a"]["rounding"] = other
    plan.write_text(json.dumps(document))
    third = compiled(feeds(32), "nearest", plan=plan)
    assert not np.array_equal(third.plan.codes["a"], first.plan.codes["a"])
    np.testing.assert_array_equal(third.plan.codes["b"], first.plan.codes["b"])
    ours, theirs = of_graph(first), of_graph(second)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])


def test_a_plan_passed_back_without_data_is_refused(tmp_path: Path) -> None:
    plan = saved(compiled(feeds(32), "gptq"), tmp_path)
    with pytest.raises(UsageError, match="rounded on data"):
        compiled(None, plan=plan)
    document = json.loads(plan.read_text())
    del document["nodes"]["a"]["rounding"]
    plan.write_text(json.dumps(document))
    assert list(compiled(feeds(32), plan=plan).plan.codes) == ["b"]
    document["nodes"]["a"]["rounding"] = "dice"
    plan.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="'dice'"):
        compiled(feeds(32), plan=plan)


def test_pairs_fit_the_kernels() -> None:
    """Also on a grid so fine that the nearest codes would not."""
    model, given = build(TEXT, **WEIGHTS), feeds(16)
    result = compiled(given, "gptq", bits="w8a8")
    assert not any(array.dtype == np.uint8 and array.ndim == 2 for array in of_graph(result).values())
    plan = result.plan
    plan.weights["a"][1] = replace(plan.weights["a"][1], scale=plan.weights["a"][1].scale * np.float32(0.8))
    codes = codes_on_data(model, plan, find_target("ort-cpu"), source(model, given), threads=1)[0]["gptq-fitted"]["a"]
    assert pairs_fit(codes, 0)
    assert not pairs_fit(quantize(WEIGHTS["wa"], plan.weights["a"][1]), 0)


def test_moments_are_those_of_what_is_read_on_its_grid() -> None:
    model, given = build(TEXT, **WEIGHTS), feeds(3)
    plan = compiled(given, "nearest").plan
    layer = weighted_sum(node_named(model, "b"), plan, 4096)
    assert isinstance(layer, WeightedSum)
    found = input_moments(model, [layer], plan.tensors, iter(given), threads=1)[layer.window]
    rows = np.concatenate([np.maximum(feed["x"] @ WEIGHTS["wa"], 0).reshape(-1, 32) for feed in given])
    read = dequantize(quantize(rows, plan.tensors["r"]), plan.tensors["r"])
    np.testing.assert_allclose(found.second, read.T @ read, rtol=1e-3, atol=0.01)
    assert found.shift is not None
    np.testing.assert_allclose(found.shift, read.T @ (rows - read), rtol=1e-2, atol=0.05)
    plain = input_moments(model, [layer], {}, iter(given), threads=1)[layer.window]
    np.testing.assert_allclose(plain.second, rows.T @ rows, rtol=1e-3, atol=0.01)
    assert plain.shift is None


def test_data_that_is_read_once_leaves_the_nearest() -> None:
    given = iter(feeds(32))
    result = compiled(given)
    assert [item.code for item in result.diagnostics if item.where == "--rounding"] == ["QC208"]
    assert not result.plan.codes


def test_json_names_the_rounding_only() -> None:
    plan = compiled(feeds(32), "gptq").plan
    back = QuantPlan.from_json(plan.to_json())
    assert back.rounding == plan.rounding
    assert not back.codes


def test_a_diff_names_the_layers() -> None:
    plan = compiled(feeds(32), "gptq").plan
    other = replace(plan, rounding={"a": plan.rounding["a"]})
    assert [item.facts["nodes"] for item in plan_changes(plan, other, 0.01)] == [["b"]]
    assert plan_changes(plan, plan, 0.01) == []
