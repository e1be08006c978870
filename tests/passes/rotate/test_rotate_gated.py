"""Rotations in front of the output projections of Mamba blocks. Planted outliers prove the pass, not its worth."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.calibration.data import input_specs, open_source
from qcompiler.driver import compile_model
from qcompiler.graph import constant_array
from qcompiler.options import CompileOptions
from qcompiler.passes.recurrence.pipeline import recurrence_passes
from qcompiler.passes.rotate.decide import decide
from qcompiler.passes.rotate.gated_sites import gated_sites
from qcompiler.passes.rotate.rotate_gated import RotateGated
from qcompiler.passes.sites.recipe import choose_recipe
from qcompiler.pipeline import Pipeline
from qcompiler.plan import QuantPlan
from qcompiler.precision import Precisions
from qcompiler.registry import find_target
from qcompiler.session import Feeds, Session
from tests.architectures import canonical, llama
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds
from tests.mamba_blocks import LAYER_NORM, MODEL, PLANTED, mamba2_block, mamba_block, mamba_step
from tests.recurrences import HEAD, HEADS

BOUND = 4e-6
"""Every weight is rounded once more, by 2^-24 of itself."""
TARGET = find_target("ort-cpu")
RANDOM = np.random.default_rng(2)
SAMPLES: list[Feeds] = [{"u": RANDOM.standard_normal((20, MODEL)).astype(np.float32)} for _ in range(8)]


def formed(model: ir.Model, target: str = "ort-cpu") -> ir.Model:
    return Pipeline(recurrence_passes(find_target(target).scan_form)).run(canonical(model, 21))[0]


@pytest.mark.parametrize("target", ["ort-cpu", "orin"])
@pytest.mark.parametrize(
    ("model", "name"),
    [(mamba_block(), "gated"), (mamba2_block(), "normed"), (mamba2_block(norm=LAYER_NORM), "normed"),
     (mamba_step(), "gated")],
)  # fmt: skip
def test_function_sites_and_nodes(model: ir.Model, name: str, target: str) -> None:
    source = formed(model, target)
    copy = source.clone()
    outcome = RotateGated().run(copy)
    assert outcome.matched == (name,)
    assert Counter(ops_of(copy)) - Counter(ops_of(source)) == {"MatMul": 1}
    assert largest_error(source, copy, random_feeds(source, {"T": 9, "batch": 2})) < BOUND
    assert not RotateGated().run(copy).modified


def test_the_gain_goes_into_the_weights_and_a_bias_keeps_it() -> None:
    for model, ones in ((mamba2_block(), True), (mamba2_block(norm=LAYER_NORM), False)):
        copy = formed(model)
        RotateGated().run(copy)
        read = {value for node in copy.graph for value in node.inputs if value is not None}
        gains = [constant_array(value) for value in read if str(value.name).startswith("gain")]
        assert [bool(np.all(gain == 1)) for gain in gains] == [ones]


def test_values_are_rotated_by_an_orthogonal_matrix_that_spreads_a_channel() -> None:
    source = formed(mamba_block(outlier=300.0))
    copy = source.clone()
    RotateGated().run(copy)
    before = Session(source, ["gated"]).run(SAMPLES[0])["gated"]
    after = Session(copy, ["gated_rotated"]).run(SAMPLES[0])["gated_rotated"]
    np.testing.assert_allclose(np.linalg.norm(after, axis=-1), np.linalg.norm(before, axis=-1), rtol=1e-5)
    peaks = [np.abs(array).max() / np.sqrt(np.mean(array**2)) for array in (before, after)]
    assert int(np.abs(before).max(0).argmax()) == PLANTED
    assert peaks[1] < 0.5 * peaks[0]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (mamba_block(behind="o_0 = MatMul (gated, w_out) o_1 = ReduceMax <keepdims = 1> (gated, last_axis) "
                            "out = Add (o_0, o_1)"), "other nodes than layers read it too"),
        (mamba_block(behind="out = MatMul (gated, w_out)", outputs=", float[T,24] gated"), "is an output of the model"),
        (mamba2_block(behind="o_0 = MatMul (normed, w_out) o_1 = ReduceMax <keepdims = 1> (normed, last_axis) "
                             "out = Add (o_0, o_1)"), "other nodes than layers read its norm too"),
    ],
)  # fmt: skip
def test_near_misses_are_left_alone(model: ir.Model, reason: str) -> None:
    source = formed(model)
    ops = ops_of(source)
    outcome = RotateGated().run(source)
    assert not outcome.modified
    assert any(reason in item.reason for item in outcome.skipped)
    assert ops_of(source) == ops


def test_unknown_channels_and_gated_mlps_are_not_taken() -> None:
    text = """agraph (float[T,C] y, float[T,C] z) => (float[T,4] out) {
        s = Sigmoid (z) gate = Mul (z, s) gated = Mul (y, gate) out = MatMul (gated, w) }"""
    source = canonical(build(text, w=np.ones((8, 4), np.float32)))
    assert "known size" in RotateGated().run(source).skipped[0].reason
    assert gated_sites(canonical(llama(2))) == []  # `rotate-down` takes these
    absent = RotateGated(sites=("nowhere",)).run(formed(mamba_block()))
    assert [item.reason for item in absent.skipped] == ["no such site"]


def test_auto_takes_it_for_a_planted_channel_and_a_plan_repeats_it(tmp_path: Path) -> None:
    found = decide(formed(mamba_block(300.0)), TARGET, SAMPLES, threads=1, share=0.0, goal=100.0)
    assert [item.kind for item in found.rotations] == ["gated"]
    assert found.facts["sqnr"]["gated"] > found.facts["sqnr"]["none"] + 3
    assert 0 < found.facts["added_work"] < 1
    losses = found.facts["gated_readers_sqnr"]["gated"]
    assert losses["rotated"] > losses["none"] + 3
    options: dict[str, Any] = {"target": "ort-cpu", "calib": SAMPLES, "threads": 1, "build_check": "off",
                               "method": "minmax"}  # fmt: skip
    first = compile_model(mamba_block(300.0), CompileOptions(rotate="gated", **options))
    assert first.plan.rotate == {"gated": {"sites": ["gated"], "seed": 0}}
    (tmp_path / "plan.json").write_bytes(first.plan.to_json())
    assert QuantPlan.load(tmp_path / "plan.json").rotate == first.plan.rotate
    second = compile_model(mamba_block(300.0), CompileOptions(plan=tmp_path / "plan.json", **options))
    assert ir.to_onnx_text(second.model) == ir.to_onnx_text(first.model)


def test_a_block_without_outliers_is_not_made_worse() -> None:
    found = decide(formed(mamba_block()), TARGET, SAMPLES, threads=1, share=0.0, goal=100.0)
    assert found.facts["sqnr"][found.facts["taken"]] >= found.facts["sqnr"]["none"]


def test_heads_of_mamba_2_are_one_site() -> None:
    sites = gated_sites(formed(mamba2_block()))
    assert [(site.name, getattr(site, "channels", 0)) for site in sites] == [("normed", HEADS * HEAD)]


def test_the_recipe_measures_it_for_recurrences_alone() -> None:
    found = decide(formed(mamba_block(300.0)), TARGET, SAMPLES, how="recipe", threads=1, share=0.0, goal=100.0)
    assert [item.kind for item in found.rotations] == ["gated"]
    assert rotation_of(formed(mamba_block())) == "recipe"
    gated = """agraph (float[T,8] y, float[T,8] z) => (float[T,4] out) {
        s = Sigmoid (z) gate = Mul (z, s) gated = Mul (y, gate) out = MatMul (gated, w) }"""
    convolution = canonical(build(gated, w=np.ones((8, 4), np.float32)))
    assert [item.name for item in gated_sites(convolution)] == ["gated"]
    assert rotation_of(convolution) == "none", "a gate alone is no Mamba"
    assert rotation_of(canonical(llama(2))) == "none"
    assert rotation_of(formed(mamba_block()), rotate="down") == "down"


def rotation_of(model: ir.Model, **words: Any) -> str:
    options = CompileOptions(equalize="none", **words)
    return choose_recipe(model, TARGET, open_source(SAMPLES, input_specs(model)), options, Precisions(), ()).rotate
