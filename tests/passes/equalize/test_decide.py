"""Planted outliers are found and taken away; what gains nothing is left alone; a plan carries the rewrite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.driver import compile_model
from qcompiler.errors import UsageError
from qcompiler.options import CompileOptions
from qcompiler.passes.equalize.decide import decide
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind
from qcompiler.plan import QuantPlan
from qcompiler.precision import Precision, Precisions
from qcompiler.registry import find_target
from qcompiler.session import Feeds, Session
from tests.architectures import WIDTH, bert, canonical, vit
from tests.equivalence import largest_error

TARGET = find_target("ort-cpu-arm64")
RANDOM = np.random.default_rng(8)
FEEDS: list[Feeds] = [{"x": RANDOM.standard_normal((1, 6, WIDTH)).astype(np.float32)} for _ in range(6)]


def planted(model: ir.Model) -> ir.Model:
    """The same function with one channel of each norm 60 times larger and off its centre."""
    shift, scale = np.zeros(WIDTH), np.ones(WIDTH)
    shift[3], scale[3] = -40.0, 1 / 60
    sites = [site for site in find_sites(model).sites if site.kind is Kind.NORM]
    FoldShiftScale({site.name: ShiftScale(shift, scale) for site in sites}).run(model)
    return model


@pytest.mark.parametrize("method", ["auto", "os_plus", "smooth", "repq", "bounded_fold"])
def test_planted_outliers_go(method: str) -> None:
    model = planted(canonical(vit(1)))
    decision = decide(model, TARGET, FEEDS, method=method, threads=1)  # type: ignore[arg-type]
    facts = decision.facts
    taken = facts["taken"]
    assert taken in ("no_nodes", "no_nodes_but_values")
    assert facts["added_nodes"] == 0
    assert facts["sqnr"][taken] > facts["sqnr"]["none"] + (6 if method != "smooth" else 3)
    rewritten = model.clone()
    FoldShiftScale(decision.parameters).run(rewritten)
    assert largest_error(model, rewritten, FEEDS[0]) < 1e-5
    again = decide(rewritten, TARGET, FEEDS, method="auto", threads=1)
    assert again.facts["sqnr"]["none"] == pytest.approx(facts["sqnr"][taken], abs=1.5)


def test_the_full_search_chooses_once_more_behind_errors() -> None:
    model = planted(canonical(vit(2)))
    four = Precisions(Precision(4, 4))
    fast, full = (
        decide(model, TARGET, FEEDS, method="os_plus", precisions=four, threads=1, full=word) for word in (False, True)
    )
    assert fast.facts["taken"] != "none" and not any(name.endswith("_forward") for name in fast.facts["sqnr"])
    assert f"{fast.facts['taken']}_forward" in full.facts["sqnr"]
    judged = full.facts["sqnr_judged"]
    assert judged[full.facts["taken"]] >= judged[fast.facts["taken"]] - 0.01


def test_a_second_shift_finds_nothing_to_move() -> None:
    model = planted(canonical(vit(1)))
    decision = decide(model, TARGET, FEEDS, method="os_plus", threads=1)
    name = next(site.name for site in find_sites(model).sites if site.kind is Kind.NORM)
    FoldShiftScale(decision.parameters).run(model)
    again = decide(model, TARGET, FEEDS, method="os_plus", threads=1)
    second = again.parameters.get(name)
    assert abs(decision.parameters[name].shift[3]) > 20
    assert second is None or np.abs(second.shift).max() < 2.0


def test_nodes_are_added_only_where_the_outputs_need_them() -> None:
    model = planted(canonical(bert(1)))
    high = decide(model, TARGET, FEEDS, threads=1, goal=-100.0)
    assert high.facts["taken"] in ("none", "no_nodes") and high.facts["added_nodes"] == 0
    low = decide(model, TARGET, FEEDS, threads=1, goal=1000.0)
    sqnr = low.facts["sqnr_tuned"]
    assert sqnr[low.facts["taken"]] == pytest.approx(max(sqnr.values()), abs=1.5)
    assert low.facts["taken"] != "none"


def test_attention_is_judged_jointly_where_the_method_asks_for_it() -> None:
    model = planted(canonical(vit(1)))
    for method, loss in (("os_plus", "joint"), ("auto", "joint"), ("smooth", "readers")):
        sites = decide(model, TARGET, FEEDS, method=method, threads=1).facts["sites"]  # type: ignore[arg-type]
        judged = {name: item["loss"] for name, item in sites.items()}
        assert judged == dict.fromkeys(judged, "readers") | {"n_0": loss}


def test_nothing_to_quantize_is_nothing_to_rewrite() -> None:
    model = canonical(vit(1))
    every = frozenset(str(node.name) for node in model.graph)
    assert decide(model, TARGET, FEEDS, float_nodes=every).facts["sites"] == {}
    assert not decide(model, TARGET, [], threads=1).parameters


def test_a_compile_keeps_the_rewrite_in_its_plan(tmp_path: Path) -> None:
    source = planted(canonical(vit(1)))
    options = CompileOptions(target="ort-cpu-arm64", calib=FEEDS, equalize="auto", threads=1, build_check="off")
    result = compile_model(source, options)
    facts = result.facts["plan"]["equalize"]
    assert facts["taken"] == "no_nodes" and facts["sites"]
    assert result.plan.equalize
    path = tmp_path / "plan.json"
    path.write_bytes(result.plan.to_json())
    assert QuantPlan.load(path).equalize == result.plan.equalize
    again = compile_model(
        source, CompileOptions(target="ort-cpu-arm64", calib=FEEDS, plan=path, threads=1, build_check="off")
    )
    first, second = (Session(item.model, threads=1).run(FEEDS[0])["y"] for item in (result, again))
    np.testing.assert_array_equal(first, second)
    plain = compile_model(source, replace(options, equalize="none"))
    assert not plain.plan.equalize and "equalize" not in plain.facts["plan"]


def test_data_that_can_be_read_once_is_said() -> None:
    options = CompileOptions(target="ort-cpu-arm64", calib=iter(FEEDS), equalize="auto", threads=1, build_check="off")
    result = compile_model(canonical(vit(1)), options)
    assert [item.code for item in result.diagnostics if item.where == "--equalize"] == ["QC204"]


def test_a_plan_with_half_a_rewrite_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"schema": "qcompile-plan/1", "tensors": {}, "nodes": {}, "equalize": {"n": {"shift": [1.0]}}}')
    with pytest.raises(UsageError, match="not a plan"):
        QuantPlan.load(path)


@pytest.mark.parametrize("build", [vit, bert])
def test_both_graphs_of_orin_take_the_rewrite(build: Callable[[int], ir.Model]) -> None:
    source = planted(canonical(build(1)))
    options = CompileOptions(
        target="orin", carrier="fp32", calib=FEEDS, equalize="auto", goal_sqnr=100.0, threads=1, build_check="off"
    )
    result = compile_model(source, options)
    assert result.plan.equalize and result.host is not None
    assert not [item for item in result.diagnostics if item.code == "QC401"]
    plain = compile_model(source, replace(options, equalize="none"))
    wanted = Session(source, threads=1).run(FEEDS[0])["y"]
    better, worse = (
        float(np.square(Session(item.host, threads=1).run(FEEDS[0])["y"] - wanted).sum())
        for item in (result, plain)
        if item.host is not None
    )
    assert better < worse
