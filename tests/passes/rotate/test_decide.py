"""What gains is taken and nothing else; names are obeyed; a plan repeats the choice byte by byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.driver import compile_model
from qcompiler.errors import UsageError
from qcompiler.graph import constant_array
from qcompiler.options import CompileOptions
from qcompiler.passes.quant.measure_rewrites import Measured
from qcompiler.passes.rotate.decide import Decision, decide, still_noisy
from qcompiler.passes.rotate.rotations import Rotation
from qcompiler.passes.rotate.search import Search
from qcompiler.plan import QuantPlan
from qcompiler.precision import Precisions
from qcompiler.registry import find_target
from qcompiler.session import Feeds, Session
from tests.architectures import canonical, llama, vit

TARGET = find_target("ort-cpu-arm64")
RANDOM = np.random.default_rng(8)
TOKENS: list[Feeds] = [{"x": RANDOM.integers(0, 20, (1, 12))} for _ in range(6)]
PICTURES: list[Feeds] = [{"x": RANDOM.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(6)]
OPTIONS = CompileOptions(target="ort-cpu-arm64", threads=1, build_check="off", goal_sqnr=100.0, float_share=0.0,
                         split_units="none")  # fmt: skip


def set_weight(model: ir.Model, name: str, array: np.ndarray[Any, Any]) -> None:
    model.graph.initializers[name].const_value = ir.tensor(array.astype(np.float32), name=name)


def weight(model: ir.Model, name: str) -> np.ndarray[Any, Any]:
    array = constant_array(model.graph.initializers[name])
    assert array is not None
    return array


def with_large_hidden_channel() -> ir.Model:
    """One token's gated hidden channel 5 is a few hundred times all others, as behind an attention sink."""
    model = llama(1, embedded=True)
    up = weight(model, "wu_0").copy()
    up[:, 5] *= 400
    down = weight(model, "wd_0").copy()
    down[5] /= 400
    set_weight(model, "wu_0", up)
    set_weight(model, "wd_0", down)
    return model


def decided(model: ir.Model, feeds: list[Feeds], **more: Any) -> Decision:
    return decide(canonical(model), TARGET, feeds, threads=1, share=0.0, **more)


def test_a_large_hidden_channel_takes_a_rotation_in_front_of_its_reader() -> None:
    found = decided(with_large_hidden_channel(), TOKENS, goal=100.0)
    facts = found.facts
    assert "down" in {item.kind for item in found.rotations}
    assert facts["sqnr"]["down"] > facts["sqnr"]["none"] + 3
    assert facts["sqnr"][facts["taken"]] >= facts["sqnr"]["none"]
    assert facts["added_nodes"] == 1 + 2 * ("scores" in facts["sites"])
    assert 0 < facts["added_work"] < 1
    losses = next(iter(facts["down_readers_sqnr"].values()))
    assert losses["rotated"] > losses["none"] + 3
    assert decided(with_large_hidden_channel(), TOKENS, how="recipe", goal=100.0).rotations == ()  # no recurrence
    stop = decided(with_large_hidden_channel(), TOKENS, goal=-100.0)
    assert not {item.kind for item in stop.rotations} & {"down", "scores"}  # the outputs need no nodes


def test_a_large_channel_of_the_stream_takes_a_rotation_without_nodes() -> None:
    model = vit(2, embedded=True)
    places = weight(model, "places").copy()
    places[..., 3] += 30 * RANDOM.standard_normal(places.shape[:-1])
    set_weight(model, "places", places)
    found = decided(model, PICTURES, goal=-100.0)
    assert {item.kind for item in found.rotations} >= {"residual"}
    assert found.facts["added_nodes"] == 0
    assert found.facts["sqnr"]["residual"] > found.facts["sqnr"]["none"] + 1


def test_what_gains_nothing_is_left_alone() -> None:
    model = llama(1, embedded=True)
    found = decided(model, TOKENS, goal=100.0)
    sqnr = found.facts["sqnr"]
    assert sqnr[found.facts["taken"]] >= sqnr["none"]
    for name, level in sqnr.items():
        if "+" not in name and name != "none" and level < sqnr["none"]:
            assert name not in found.facts["sites"]
    assert decide(canonical(model), TARGET, [], threads=1) == Decision(
        (), {"how": "auto", "found": {"residual": 1, "heads": 1, "down": 1, "scores": 1}}
    )
    every = frozenset(str(node.name) for node in canonical(model).graph)
    assert not decided(model, TOKENS, float_nodes=every).rotations


def test_layers_that_a_rotation_does_not_help_are_named() -> None:
    losses = {f"h{index}": (0.01, 0.0005) for index in range(5)} | {"sink": (0.3, 0.2), "rough": (0.1, 0.003)}
    assert still_noisy(losses, {name: (f"down_{name}",) for name in losses}) == ["down_sink"]
    assert not still_noisy({"h": (0.1, 0.1)}, {"h": ("down",)})


def test_a_compile_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcompiler.passes.rotate.decide.FAR_BELOW", 0.0)  # below the median of three: one of them
    result = compile_model(llama(3, embedded=True), replace(OPTIONS, calib=TOKENS, rotate="auto"))
    noisy = result.facts["plan"]["rotate"]["still_noisy"]
    assert len(noisy) == 1
    assert [item.where for item in result.diagnostics if item.code == "QC205"] == noisy


def test_the_greedy_search_takes_surplus_and_never_ends_worse() -> None:
    residual, heads, down = (Rotation(kind, ("x",)) for kind in ("residual", "heads", "down"))

    def taken(levels: dict[tuple[Rotation, ...], tuple[float, float]], goal: float = 100.0) -> tuple[Rotation, ...]:
        seen = {key: Measured(total, judged, {}) for key, (total, judged) in levels.items()}
        search = Search(canonical(vit(1)), TARGET, [], frozenset(), Precisions(), 0.0, False, 1, lambda: None, seen)
        return search.greedy([residual, heads, down], goal)

    alone = {(): (20.0, 20.0), (residual,): (21.0, 21.0), (heads,): (20.2, 20.2), (down,): (24.0, 24.0)}
    both = {(residual, down): (26.0, 26.0), (heads, down): (24.1, 24.1), (residual, heads, down): (26.2, 26.2)}
    assert taken(alone | both) == (residual, down)
    assert taken({(): (20.0, 20.0), (residual,): (19.9, 23.0), (heads,): (20.0, 20.4), (down,): (20.0, 21.4)}) == ()
    low = {(): (20.0, 20.0), (residual,): (21.0, 21.0), (heads,): (19.0, 19.0)}
    assert taken(low, goal=15.0) == (residual,)  # nodes are not even measured


def test_the_full_search_tries_other_signs() -> None:
    found = decided(with_large_hidden_channel(), TOKENS, goal=100.0, full=True)
    assert sum("seed" in name for name in found.facts["sqnr"]) == 3
    assert len({item.seed for item in found.rotations}) == 1


@pytest.mark.parametrize(
    ("how", "kinds"),
    [("all", ["residual", "heads", "down", "scores"]), ("down,residual", ["residual", "down"]), ("heads", ["heads"])],
)
def test_named_kinds_are_made_everywhere_and_proven(how: str, kinds: list[str]) -> None:
    result = compile_model(llama(2, embedded=True), replace(OPTIONS, calib=TOKENS, rotate=how))
    assert list(result.plan.rotate) == kinds
    assert not [run.undone for run in result.runs if run.undone]
    assert any("rotate-" in name for item in result.certificates for name in item.passes if item.holds)
    assert [item.code for item in result.diagnostics if item.severity.value != "info"] == []


def test_a_plan_repeats_the_rotation(tmp_path: Path) -> None:
    source = with_large_hidden_channel()
    options = replace(OPTIONS, calib=TOKENS, rotate="auto", equalize="auto")
    result = compile_model(source, options)
    assert "down" in result.plan.rotate
    facts = result.facts["plan"]["rotate"]
    assert facts["taken"] != "none"
    path = tmp_path / "plan.json"
    path.write_bytes(result.plan.to_json())
    held = QuantPlan.load(path)
    assert held.rotate == result.plan.rotate and held.to_json() == result.plan.to_json()
    again = compile_model(source, replace(OPTIONS, calib=TOKENS, plan=path))
    first, second = (ir.to_proto(item.model).SerializeToString(deterministic=True) for item in (result, again))
    assert first == second
    plain = compile_model(source, replace(OPTIONS, calib=TOKENS))
    assert not plain.plan.rotate
    wanted = Session(source, threads=1).run(TOKENS[0])["y"]
    better, worse = (
        float(np.square(Session(item.model, threads=1).run(TOKENS[0])["y"] - wanted).sum()) for item in (result, plain)
    )
    assert better < worse


def test_both_graphs_of_orin_take_rotations() -> None:
    result = compile_model(
        with_large_hidden_channel(), replace(OPTIONS, target="orin", carrier="fp32", calib=TOKENS, rotate="all")
    )
    assert result.host is not None and list(result.plan.rotate) == ["residual", "heads", "down", "scores"]
    assert not [item for item in result.diagnostics if item.code in ("QC401", "QC501")]
    wanted = Session(result.reference, threads=1).run(TOKENS[0])["y"]
    for model in (result.model, result.host):
        found = Session(model, threads=1).run(TOKENS[0])["y"]
        assert np.square(found - wanted).sum() < 0.05 * np.square(wanted).sum()


def test_data_that_can_be_read_once_is_said() -> None:
    result = compile_model(llama(1, embedded=True), replace(OPTIONS, calib=iter(TOKENS), rotate="auto"))
    assert [item.code for item in result.diagnostics if item.where == "--rotate"] == ["QC204"]
    named = compile_model(llama(1, embedded=True), replace(OPTIONS, calib=iter(TOKENS), rotate="residual"))
    assert list(named.plan.rotate) == ["residual"]


def test_a_plan_with_half_a_rotation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"schema": "qcompile-plan/1", "tensors": {}, "nodes": {}, "rotate": {"residual": {"seed": 0}}}')
    with pytest.raises(UsageError, match="not a plan"):
        QuantPlan.load(path)


def test_words_of_the_setting() -> None:
    from qcompiler.config import checked

    assert checked({"rotate": "residual, down"}, str)["rotate"] == "residual,down"
    with pytest.raises(UsageError, match="unknown value 'dwn'"):
        checked({"rotate": "residual,dwn"}, str)
    with pytest.raises(UsageError, match="unknown value 'auto'"):
        checked({"rotate": "auto,down"}, str)
