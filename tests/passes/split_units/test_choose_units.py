"""Units that stand out are found, as few as suffice and only where the outputs gain; a plan repeats them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.cli import main
from qcompiler.driver import compile_model
from qcompiler.errors import UsageError
from qcompiler.filters import node_precisions
from qcompiler.graph import constant_array
from qcompiler.options import CompileOptions
from qcompiler.passes.canonical.forms import Form, form_of
from qcompiler.passes.equalize.decide import decide
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.split_units.choose_units import Decision, choose_units
from qcompiler.passes.split_units.split_units import SplitUnits
from qcompiler.plan import QuantPlan
from qcompiler.precision import Precisions
from qcompiler.registry import find_target
from qcompiler.result import CompileResult
from qcompiler.session import Feeds, Session
from tests.architectures import canonical, llama, vit
from tests.building import build

TARGET = find_target("ort-cpu")
RANDOM = np.random.default_rng(9)
TOKENS: list[Feeds] = [{"x": RANDOM.integers(0, 20, (1, 12))} for _ in range(6)]
for feeds in TOKENS:
    feeds["x"][0, 3] = 7
PICTURES: list[Feeds] = [{"x": RANDOM.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(6)]
OPTIONS = CompileOptions(target="ort-cpu", threads=1, build_check="off", goal_sqnr=100.0, float_share=0.0)
UNIT, WIDTH, HIDDEN = 5, 16, 192
_MLP = """u{i}_ = MatMul({x}, up{i}) u{i} = Add(u{i}_, bu) e{i}0 = Div(u{i}, root_2) e{i}1 = Erf(e{i}0)
    e{i}2 = Add(e{i}1, one) e{i}3 = Mul(u{i}, e{i}2) h{i} = Mul(e{i}3, half) d{i}_ = MatMul(h{i}, down{i})
    d{i} = Add(d{i}_, bd) r{i} = Add(d{i}, {x})
"""
_NET = (
    "m (int64[N, S] x) => (float[N, S, 8] y) { t = Gather(table, x)\n"
    + _MLP.format(i=0, x="t")
    + _MLP.format(i=1, x="r0")
    + "n = LayerNormalization<axis = -1>(r1, gain, shift) y = MatMul(n, head) }"
)


def with_massive_units(*units: int) -> ir.Model:
    """On token 7 these units are some twenty times larger than all others, and so are their rows in the layer behind.

    Two layers: the hidden values are h0 and h1, the units those of h1.
    """
    random = np.random.default_rng(3)

    def array(*shape: int) -> np.ndarray[Any, Any]:
        return np.asarray(random.standard_normal(shape) / np.sqrt(shape[0]), np.float32)

    up = np.tile(array(WIDTH, HIDDEN // 8), 8)  # eight times the same peak: no single unit decides the rest
    down, table = array(HIDDEN, WIDTH), 4 * array(20, WIDTH)
    table[:, 0] = 0
    up[0] = 0
    for unit in units:
        table[7, 0] = 1
        up[0, unit] = 60
        down[unit] *= 20
    constants = {
        "gain": 1 + array(WIDTH),
        "shift": array(WIDTH),
        "bu": np.tile(array(HIDDEN // 8), 8),
        "bd": array(WIDTH),
    }
    return build(_NET, 18, table=table, up0=array(WIDTH, HIDDEN), up1=up, down0=0.1 * array(HIDDEN, WIDTH), down1=down,
                 head=array(WIDTH, 8), root_2=np.float32(2**0.5), one=np.float32(1), half=np.float32(0.5),
                 **constants)  # fmt: skip


def chosen(model: ir.Model, feeds: list[Feeds] = TOKENS, **more: Any) -> Decision:
    given: dict[str, Any] = {"float_nodes": frozenset(), "precisions": Precisions(), "goal": 100.0, "share": 0.0,
                             "zero_points": True, "threads": 1}  # fmt: skip
    return choose_units(canonical(model), TARGET, lambda: feeds, **given | more)


def compiled(model: ir.Model, **more: Any) -> CompileResult:
    return compile_model(model, replace(OPTIONS, **{"calib": TOKENS} | more))


def split_nodes(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph if form_of(node) is Form.SPLIT]


def noise(result: CompileResult, source: ir.Model) -> float:
    wanted = Session(source, threads=1).run(TOKENS[0])["y"]
    return float(np.square(Session(result.model, threads=1).run(TOKENS[0])["y"] - wanted).sum())


def test_a_massive_unit_is_found_and_no_other() -> None:
    found = chosen(with_massive_units(UNIT))
    assert found.units == {"h1": (UNIT,)}
    facts = found.facts
    assert facts["looked_at"] == 2
    assert facts["sqnr"]["split"] > facts["sqnr"]["none"] + 3
    levels = facts["sites"]["h1"]["readers_sqnr"]
    assert list(levels) == [0, 1, 2, 4, 8]
    assert levels[1] > levels[0] + 10


def test_as_many_units_as_it_takes() -> None:
    found = chosen(with_massive_units(2, 9))
    assert found.units == {"h1": (2, 9)}


def test_nothing_is_split_where_nothing_stands_out_or_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(with_massive_units()) == Decision({}, {"looked_at": 2, "sites": {}})
    assert not chosen(llama(2, embedded=True)).units
    assert chosen(vit(2, embedded=True), PICTURES).units == {}
    model = with_massive_units(UNIT)
    reached = chosen(model, goal=-10.0)
    assert not reached.units and list(reached.facts["sqnr"]) == ["none"]
    monkeypatch.setattr("qcompiler.passes.split_units.choose_units.GAIN", 200.0)
    assert not chosen(model).units
    monkeypatch.setattr("qcompiler.passes.split_units.choose_units.WORTH", 0.0)
    assert "sqnr" not in chosen(model).facts  # nothing is measured end to end


def test_layers_that_are_not_quantized_are_not_looked_at() -> None:
    source = with_massive_units(UNIT)
    assert chosen(source, float_nodes=frozenset({"d1_"})).facts["looked_at"] == 1
    weight_only = node_precisions(canonical(source), replace(OPTIONS, target="orin", bits="w4a16"))
    assert chosen(source, precisions=weight_only) == Decision()
    drawn: list[int] = []

    def draw() -> list[Feeds]:
        drawn.append(1)
        return TOKENS

    every = frozenset(str(node.name) for node in canonical(source).graph)
    choose_units(canonical(source), TARGET, draw, float_nodes=every, precisions=Precisions(), goal=100.0, share=0.0,
                 zero_points=True, threads=1)  # fmt: skip
    assert not drawn


def test_a_compile_splits_by_default_and_says_so(tmp_path: Path) -> None:
    source = with_massive_units(UNIT)
    result = compiled(source)
    assert result.plan.units == {"h1": [UNIT]}
    facts = result.facts["plan"]["units"]
    assert facts["sites"]["h1"]["units"] == [UNIT]
    (run,) = (run for run in result.runs if run.name == "split-units")
    assert run.outcome.matched == ("h1",) and not run.undone
    assert any("split-units" in item.passes and item.holds and item.arithmetic != "float32"
               for item in result.certificates)  # fmt: skip
    assert split_nodes(result.reference) == ["MatMul", "MatMul", "Add"]
    assert not [name for name in result.plan.nodes if "unit" in name]
    assert sum("split off" in reason for reason in result.plan.floats.values()) == 2
    assert not result.gates and not [item for item in result.diagnostics if item.severity.value != "info"]
    plain = compiled(source, split_units="none")
    assert not plain.plan.units and "units" not in plain.facts["plan"]
    assert noise(result, source) < 0.25 * noise(plain, source)
    result.save(tmp_path / "m")
    assert "Hidden units apart" in (tmp_path / "m" / "report.html").read_text()


def test_a_plan_repeats_it(tmp_path: Path) -> None:
    source = with_massive_units(UNIT)
    result = compiled(source, equalize="auto")
    path = tmp_path / "plan.json"
    path.write_bytes(result.plan.to_json())
    held = QuantPlan.load(path)
    assert held.units == {"h1": [UNIT]} and held.to_json() == result.plan.to_json()
    again = compiled(source, plan=path)
    first, second = (ir.to_proto(item.model).SerializeToString(deterministic=True) for item in (result, again))
    assert first == second
    path.write_bytes(compiled(source, split_units="none").plan.to_json())
    assert not compiled(source, plan=path).plan.units


def test_a_plan_with_units_that_are_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"schema": "qcompile-plan/1", "tensors": {}, "nodes": {}, "units": {"h": "all"}}')
    with pytest.raises(UsageError, match="not a plan"):
        QuantPlan.load(path)


def test_made_up_data_splits_nothing() -> None:
    source = with_massive_units(UNIT)
    assert not compiled(source, calib=None).plan.units
    assert not compiled(source, calib=iter(TOKENS)).plan.units  # can be read once


def test_weight_only_splits_nothing_and_few_bits_do() -> None:
    source = with_massive_units(UNIT)
    result = compiled(source, target="orin", carrier="fp32", bits="w4a16")
    assert not result.plan.units
    assert compiled(source, bits="w4a4").plan.units == {"h1": [UNIT]}


@pytest.mark.parametrize(
    "more",
    [
        {"bias_correction": "auto"},
        {"rounding": "gptq"},
        {"rotate": "all", "equalize": "os_plus"},
        {"rotate": "down"},
        {"equalize": "smooth"},
        {"zero_points": "none"},
        {"target": "ort-cpu-arm64"},
    ],
    ids=lambda more: "-".join(map(str, more.values())),
)
def test_with_everything_else(more: dict[str, Any]) -> None:
    source = with_massive_units(UNIT)
    result = compiled(source, strict=True, **more)
    assert result.plan.units == {"h1": [UNIT]} and not result.gates
    assert not [run.undone for run in result.runs if run.undone]
    assert not [item for item in result.diagnostics if item.severity.value != "info"]
    floats = result.plan.floats
    narrow = [
        str(node.name) for node in result.reference.graph if form_of(node) is Form.SPLIT and node.op_type != "Add"
    ]
    assert len(narrow) == 2 and set(narrow) <= set(floats) and not set(narrow) & set(result.plan.nodes)
    assert noise(result, source) < 0.25 * noise(compiled(source, split_units="none"), source)


@pytest.mark.parametrize("carrier", ["fp16", "fp32"])
def test_both_graphs_of_orin(carrier: str) -> None:
    source = with_massive_units(UNIT)
    result = compiled(source, target="orin", carrier=carrier)
    assert result.plan.units and result.host is not None
    assert not [item for item in result.diagnostics if item.severity.value != "info"]
    wanted = Session(source, threads=1).run(TOKENS[0])["y"]
    for model in (result.model, result.host):
        found = Session(model, threads=1).run(TOKENS[0])["y"]
        assert np.square(found - wanted).sum() < 0.02 * np.square(wanted).sum()


def test_equalization_judges_by_quantized_readers_alone() -> None:
    """Gate and up still have their joint end behind a norm that narrow layers read too."""
    source = canonical(llama(1, embedded=True))
    parted = source.clone()
    assert SplitUnits({"h3_0": (UNIT,)}).run(parted).matched
    readers = {site.name: len(site.readers) for site in find_sites(parted).sites}
    assert readers["f_0"] == 4
    found = [decide(model, TARGET, TOKENS, threads=1).facts["sites"] for model in (source, parted)]
    whole, apart = (sites["f_0"] for sites in found)
    assert whole["loss"] == apart["loss"] == "joint"
    for method, level in whole["readers_sqnr"].items():
        assert abs(apart["readers_sqnr"][method] - level) < 0.5


def test_numbers_beyond_half_precision_stay_in_float32() -> None:
    """A unit of 2,400 on one token whose row brings products beyond 65,504."""
    source = with_massive_units(UNIT)
    up, down = (constant_array(source.graph.initializers[name]) for name in ("up1", "down1"))
    assert up is not None and down is not None
    for name, array in (("up1", up), ("down1", down)):
        made = array.copy()
        made[(slice(None), UNIT) if name == "up1" else UNIT] *= 40
        source.graph.initializers[name].const_value = ir.tensor(made, name=name)
    result = compiled(source, target="orin", carrier="fp16")
    assert result.plan.units == {"h1": [UNIT]}
    wanted = Session(source, threads=1).run(TOKENS[0])["y"]
    whole = Session(result.reference, ["d1_of_units"], threads=1).run(TOKENS[0])["d1_of_units"]
    assert np.abs(whole).max() > 65504
    for model in (result.model, result.host):
        assert model is not None
        found = Session(model, threads=1).run(TOKENS[0])["y"]
        assert np.isfinite(found).all()
        assert np.square(found - wanted).sum() < 0.02 * np.square(wanted).sum()


def test_diff_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = with_massive_units(UNIT)
    for name, how in (("a", "auto"), ("b", "none")):
        (tmp_path / f"{name}.json").write_bytes(compiled(source, split_units=how).plan.to_json())
    main(["diff", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert "plan: other units are apart at h1" in capsys.readouterr().out
