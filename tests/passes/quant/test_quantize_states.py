"""States of one-step graphs as int8: scales from data, codes at the edges, streams that equal a reference in numpy."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler import runtime
from qcompiler.calibration.observers import Histogram
from qcompiler.dither import dither
from qcompiler.driver import compile_model
from qcompiler.errors import UsageError
from qcompiler.golden import write_npz
from qcompiler.numerics import dequantize, quantize
from qcompiler.options import CompileOptions
from qcompiler.passes.quant.quantize_states import QuantizeStates
from qcompiler.passes.quant.state_scales import PERCENTILES, choose_state_scales
from qcompiler.passes.recurrence.carried_states import StateKind, carried_states
from qcompiler.passes.recurrence.recognise_recurrences import RecogniseRecurrences
from qcompiler.plan import QuantPlan, StateQuant
from qcompiler.result import CompileResult
from qcompiler.session import Feeds, Session
from qcompiler.state_codes import dequantized, encode_states, state_codes, with_float_states
from tests.architectures import canonical
from tests.building import per_tensor
from tests.mamba_blocks import CHANNELS, MODEL, STATES, TAPS, mamba_block, mamba_step

SCAN, CONV = "past_ssm_state_0", "past_conv_state_0"
NEXT = {SCAN: "present_ssm_state_0", CONV: "present_conv_state_0"}
RANDOM = np.random.default_rng(3)
TOKENS = RANDOM.standard_normal((60, 2, MODEL)).astype(np.float32)


def float_states(rows: int) -> Feeds:
    shapes = {CONV: (rows, CHANNELS, TAPS - 1), SCAN: (rows, CHANNELS, STATES)}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def calibration() -> list[Feeds]:
    """Tokens with the states that the float step left before them."""
    session, states = Session(mamba_step()), float_states(2)
    found: list[Feeds] = []
    for token in RANDOM.standard_normal((12, 2, MODEL)).astype(np.float32):
        found.append({"u": token, **states})
        outputs = session.run(found[-1])
        states = {name: outputs[output] for name, output in NEXT.items()}
    return found


SAMPLES = calibration()
QUANT = per_tensor(float(max(np.abs(feed[SCAN]).max() for feed in SAMPLES)) / 100)  # nothing is clipped


def compiled(model: ir.Model | None = None, **more: Any) -> CompileResult:
    options: dict[str, Any] = {"target": "ort-cpu", "calib": SAMPLES, "threads": 1, "build_check": "off",
                               "states": "int8", "method": "mse"} | more  # fmt: skip
    return compile_model(mamba_step() if model is None else model, CompileOptions(**options))


def types(model: ir.Model) -> dict[str, str]:
    return {str(item.name): item.dtype.name for item in (*model.graph.inputs, *model.graph.outputs) if item.dtype}


def test_inputs_and_outputs_become_codes_with_one_scale() -> None:
    model = canonical(mamba_step(), 21)
    plan = QuantPlan(states={SCAN: StateQuant(NEXT[SCAN], QUANT)})
    before = model.clone()
    outcome = QuantizeStates(plan).run(model)
    assert outcome.matched == (SCAN,)
    assert {name for name, kind in types(model).items() if kind == "INT8"} == {SCAN, NEXT[SCAN]}
    assert list(types(model)) == list(types(before))  # names and order stay
    assert not QuantizeStates(plan).run(model).modified
    feed = SAMPLES[-1]
    wanted = Session(before).run({**feed, SCAN: dequantize(quantize(feed[SCAN], QUANT), QUANT)})
    found = Session(model).run(encode_states(feed, plan.states))
    np.testing.assert_allclose(found["out"], wanted["out"], atol=1e-5)
    codes = quantize(wanted[NEXT[SCAN]], QUANT)
    assert (found[NEXT[SCAN]] == codes).mean() > 0.999
    with_edges = Session(with_float_states(model, plan.states)).run(feed)
    np.testing.assert_allclose(with_edges["out"], found["out"], atol=1e-6)
    assert with_edges[NEXT[SCAN]].dtype == np.float32
    absent = QuantizeStates(QuantPlan(states={"nowhere": StateQuant("nothing", per_tensor(1))})).run(before)
    assert not absent.modified
    assert absent.skipped[0].reason == "the graph has no such state"


def test_states_go_by_role() -> None:
    model = canonical(mamba_step(), 21)
    RecogniseRecurrences().run(model)
    found = {state.kind: (state.first.name, state.last.name) for state in carried_states(model)}
    assert found == {StateKind.RECURRENT: (SCAN, NEXT[SCAN]), StateKind.CONVOLUTION: (CONV, NEXT[CONV])}
    sequence = canonical(mamba_block(), 21)
    RecogniseRecurrences().run(sequence)
    assert carried_states(sequence) == []


def test_the_percentile_is_pooled_and_chosen_by_what_it_does_to_the_outputs() -> None:
    model = canonical(mamba_step(), 21)
    RecogniseRecurrences().run(model)
    seen = np.concatenate([feed[SCAN].ravel() for feed in SAMPLES] * 10)
    spike = float(np.float32(100 * np.abs(seen).max()))  # once in all of calibration: it would round all else to zero
    whole = Histogram().observe(seen).observe(np.asarray([spike], np.float32))
    tensors = dict.fromkeys((*NEXT, *NEXT.values()), whole)
    chosen = choose_state_scales(model, carried_states(model), QuantPlan(), tensors, SAMPLES[4:10], threads=1)
    assert float(chosen.states[SCAN].quant.scale) < 0.1 * spike / 127
    levels = chosen.facts["ssm"]["sqnr"]
    assert set(map(float, levels)) == set(PERCENTILES)
    assert levels[str(chosen.facts["ssm"]["percentile"])] == max(levels.values())
    unmeasured = choose_state_scales(model, carried_states(model), QuantPlan(), tensors, [])
    assert float(unmeasured.states[SCAN].quant.scale) == pytest.approx(spike / 127)
    plan = QuantPlan(tensors={"joined": per_tensor(0.5)})
    shared = choose_state_scales(model, carried_states(model), plan, tensors, [])
    assert float(shared.states[CONV].quant.scale) == 0.5


def shifts(outputs: Feeds, name: str, scale: float) -> Any:
    """What is added to a state before it is rounded."""
    return dither(outputs[NEXT[name]], scale) * np.float32(scale) if name == SCAN else 0.0


@pytest.mark.parametrize("target", ["ort-cpu", "orin"])
def test_a_stream_equals_a_reference_in_numpy(target: str, tmp_path: Path) -> None:
    """Nothing but the states is quantized, so that float32 and rounding by hand are the whole reference."""
    result = compiled(exclude=(".*",), target=target, carrier="fp32")
    folder = result.save(tmp_path / "step")
    quants = {name: state.quant for name, state in result.plan.states.items()}
    assert quants.keys() == NEXT.keys()
    stream = runtime.load(folder, runtime="onnxruntime").stream()
    session, states = Session(mamba_step()), float_states(2)
    same = []
    for token in TOKENS:
        found = stream.run({"u": token})
        wanted = session.run({"u": token, **states})
        moved = {name: wanted[NEXT[name]] + shifts(wanted, name, float(quant.scale)) for name, quant in quants.items()}
        codes = {name: state_codes(moved[name], quant.scale) for name, quant in quants.items()}
        assert all(np.abs(stream.states[name].astype(int) - codes[name]).max() <= 1 for name in codes)
        same += [(stream.states[name] == codes[name]).mean() for name in codes]
        np.testing.assert_allclose(found["out"], wanted["out"], rtol=1e-5, atol=1e-4)
        states = {name: dequantize(stream.states[name], quants[name]) for name in codes}
    assert np.mean(same) > 0.999  # a code may differ where two float sums round apart
    assert float(np.abs(TOKENS).max()) > 1  # they move the states


def test_bundle_manifest_golden_and_script(tmp_path: Path) -> None:
    result = compiled()
    folder = result.save(tmp_path / "step")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    kinds = {item["name"]: item["dtype"] for item in (*manifest["inputs"], *manifest["outputs"])}
    assert {name for name, kind in kinds.items() if kind == "int8"} == {*NEXT, *NEXT.values()}
    held = {item["input"]: item for item in manifest["states"]}
    assert held[SCAN]["output"] == NEXT[SCAN]
    assert held[SCAN]["scale"] == pytest.approx(float(result.plan.states[SCAN].quant.scale))
    assert {item.name for item in result.verification["model"].outputs if not item.integer} >= {"out", NEXT[SCAN]}
    script = [sys.executable, str(folder / "run_ort.py")]
    assert subprocess.run([*script, "--check"], check=False).returncode == 0
    np.savez(tmp_path / "in.npz", u=TOKENS)
    subprocess.run([*script, "--stream", str(tmp_path / "in.npz"), str(tmp_path / "out.npz")], check=True)
    model = runtime.load(folder)
    stream = model.stream()
    wanted = np.stack([stream.run({"u": token})["out"] for token in TOKENS])
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["out"], wanted)
        np.testing.assert_array_equal(found[NEXT[SCAN]], stream.states[SCAN])
    assert model.state_scales.keys() == NEXT.keys()
    real = {NEXT[SCAN]: SAMPLES[-1][SCAN]}  # floats, as a prefill leaves them
    codes = state_codes(SAMPLES[-1][SCAN], result.plan.states[SCAN].quant.scale)
    np.testing.assert_array_equal(model.stream(real).states[SCAN], codes)
    stream = model.stream(real)
    wanted = np.stack([stream.run({"u": token})["out"] for token in TOKENS])
    for name in (SCAN, NEXT[SCAN]):
        write_npz(tmp_path / "in.npz", {"u": TOKENS, name: SAMPLES[-1][SCAN]})
        subprocess.run([*script, "--stream", str(tmp_path / "in.npz"), str(tmp_path / "out.npz")], check=True)
        with np.load(tmp_path / "out.npz") as found:
            np.testing.assert_array_equal(found["out"], wanted)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--stream"], "--stream needs inputs.npz"), (["--stream", "in.npz"], "lacks u"),
     (["--stream", "scalar.npz"], "no leading axis")],
)  # fmt: skip
def test_bad_streams_are_one_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    folder = compiled(verify=False).save(tmp_path / "step")
    np.savez(tmp_path / "in.npz", v=TOKENS)
    np.savez(tmp_path / "scalar.npz", u=np.float32(1))
    done = subprocess.run([sys.executable, str(folder / "run_ort.py"), *arguments], cwd=tmp_path, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_plan_repeats_the_states(tmp_path: Path) -> None:
    first = compiled(verify=False)
    (tmp_path / "plan.json").write_bytes(first.plan.to_json())
    again = compiled(plan=tmp_path / "plan.json", states="float", verify=False)  # the plan says it
    assert ir.to_onnx_text(again.model) == ir.to_onnx_text(first.model)
    held = QuantPlan.load(tmp_path / "plan.json").states
    assert {name: state.next for name, state in held.items()} == NEXT


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"input": "nowhere"}, "no input 'nowhere'"),
        ({"next": "nowhere"}, "no output 'nowhere'"),
        ({"next": SCAN}, "no output"),
        ({"dtype": "int4"}, "is int4"),
        ({"zero_point": 3}, "no zero point"),
        ({"scale": 0}, "positive"),
    ],
)
def test_bad_states_of_a_plan(edit: dict[str, Any], words: str, tmp_path: Path) -> None:
    plan = replace(compiled(verify=False).plan)
    document = json.loads(plan.to_json())
    entry = {**document["states"][SCAN], **{key: value for key, value in edit.items() if key != "input"}}
    document["states"] = {edit.get("input", SCAN): entry}
    (tmp_path / "plan.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=words):
        compiled(plan=tmp_path / "plan.json", states="float")


def test_a_model_without_states_is_refused() -> None:
    with pytest.raises(UsageError, match="no state of a recurrence"):
        compiled(mamba_block(), calib=[{"u": TOKENS[:, 0]}])
    assert "states" not in json.loads(compiled(states="float", verify=False).plan.to_json())


def test_dither_is_even_and_leaves_zero_and_whole_codes() -> None:
    state = RANDOM.standard_normal((400, 6, 16)).astype(np.float32)
    found = dither(state, 0.02) + 0.5
    assert found.shape == (400, 1, 16)
    assert found.min() >= 0
    assert found.max() < 1
    counts, _ = np.histogram(found, 10, (0, 1))
    assert np.abs(counts / found.size - 0.1).max() < 0.01
    whole = (np.arange(-8, 8, dtype=np.float32) * np.float32(0.02))[None, None].repeat(3, 0)
    moved = whole + dither(whole, 0.02) * np.float32(0.02)
    np.testing.assert_array_equal(state_codes(moved, 0.02), state_codes(whole, 0.02))


def test_a_slow_state_decays_and_does_not_stand_still() -> None:
    """100 codes times 0.998 a step: to the nearest code 100 stays 100 for ever."""
    step, real = 0.01, np.full((1, 8, 16), 1.0, np.float32) * np.linspace(0.9, 1, 16, dtype=np.float32)
    dithered, nearest = real.copy(), real.copy()
    for _ in range(500):
        given = np.zeros_like(real)
        given[:, 4:] = RANDOM.standard_normal((4, 16)) * 0.03  # the other channels take nothing in and decay
        real, dithered, nearest = (state * np.float32(0.998) + given for state in (real, dithered, nearest))
        dithered, nearest = dequantized(dithered, step, dithered=True), dequantized(nearest, step)
    slow = np.s_[:, :4]
    assert nearest[slow].mean() > 2 * real[slow].mean()
    assert dithered[slow].mean() == pytest.approx(float(real[slow].mean()), rel=0.15)


def test_a_state_of_unknown_width_is_not_dithered() -> None:
    model = canonical(mamba_step(), 21)
    last = next(value for value in model.graph.outputs if value.name == NEXT[SCAN])
    last.shape = ir.Shape(["batch", CHANNELS, "N"])
    plan = QuantPlan(states={SCAN: StateQuant(NEXT[SCAN], QUANT, dither=True)})
    outcome = QuantizeStates(plan).run(model)
    assert not outcome.modified
    assert "last axis" in outcome.skipped[0].reason
