"""Scales of states that are carried as int8: which percentile of their magnitudes maps to the largest code.

A state is clipped and rounded at every call, and what it loses comes back through the recurrence: a slow channel adds
up the errors of many calls, so one call does not tell. Percentiles are of the pooled histogram of what goes in and
what comes out, which depends on no order of samples, and are compared at the outputs of `CALLS` calls in a row (Quamba,
arXiv:2410.13229, section 4.1, takes 99.999 or 99.95 by hand).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.thresholds import find_threshold
from qcompiler.errors import UsageError
from qcompiler.numerics import SMALLEST_SCALE
from qcompiler.passes.quant.quantize_states import can_dither
from qcompiler.passes.quant.racing import race
from qcompiler.passes.quant.switched_model import NO_NOISE, decibels, output_noise
from qcompiler.passes.recurrence.carried_states import CarriedState, StateKind, carried_states
from qcompiler.plan import QuantPlan, StateQuant
from qcompiler.scheme import INT8_ACTIVATION, TensorQuant
from qcompiler.session import Arrays, Feeds, Session
from qcompiler.state_codes import dequantized

PERCENTILES = (100.0, 99.999, 99.99, 99.95, 99.9)
FEWEST_SAMPLES, MOST_SAMPLES = 2, 6
CALLS = 64


@dataclass(frozen=True, slots=True)
class StateScales:
    """States for the plan, and for the report what was measured: percentile to SQNR by kind of state."""

    states: dict[str, StateQuant]
    facts: dict[str, Any] = field(default_factory=dict)


def states_or_raise(model: ir.Model) -> list[CarriedState]:
    """The states that can be held in int8; UsageError where there is none."""
    found = carried_states(model)
    if not found:
        raise UsageError("no state of a recurrence goes in and comes out", where="--states",
                         hint="it is for one-step graphs of state-space models; leave it out")  # fmt: skip
    return found


def tensors_of(states: Sequence[CarriedState]) -> set[str]:
    """Names of what calibration has to see."""
    return {str(value.name) for state in states for value in (state.first, state.last)}


def choose_state_scales(
    model: ir.Model,
    states: Sequence[CarriedState],
    plan: QuantPlan,
    tensors: Mapping[str, Histogram],
    feeds: Sequence[Feeds],
    *,
    threads: int = 0,
) -> StateScales:
    """One percentile for all states of a kind, the one that leaves the outputs closest to float.

    Recurrent states are dithered: see `qcompiler/dither.py`.

    A convolution whose input is quantized takes its state on that grid: codes then pass through unchanged.

    Args:
        plan: Of the rest; left as it is.
        tensors: Histograms by name, those of `tensors_of` among them.
        feeds: Samples to measure on; none takes the exact maximum.
    """
    found: dict[str, StateQuant] = {}
    facts: dict[str, Any] = {}
    for kind in StateKind:
        mine = [state for state in states if state.kind is kind]
        shared = {str(state.first.name): quant for state in mine if (quant := _of_reader(state, plan)) is not None}
        left = [state for state in mine if state.first.name not in shared]
        scales = {
            percentile: {str(state.first.name): _scale(state, tensors, percentile) for state in left}
            for percentile in PERCENTILES
        }
        best = PERCENTILES[0]
        if left and feeds:
            best, levels = _sweep(model, left, scales, feeds, threads)
            facts[kind.value] = {"percentile": best, "sqnr": levels}
        for state in mine:
            name = str(state.first.name)
            quant = shared.get(name) or TensorQuant(INT8_ACTIVATION, np.asarray(scales[best][name], np.float32))
            found[name] = StateQuant(str(state.last.name), quant, _is_dithered(state))
        if shared:
            facts.setdefault(kind.value, {})["on_the_grid_of_their_reader"] = len(shared)
    return StateScales(found, facts)


def _sweep(
    model: ir.Model,
    states: Sequence[CarriedState],
    scales: Mapping[float, Mapping[str, float]],
    feeds: Sequence[Feeds],
    threads: int,
) -> tuple[float, dict[str, float]]:
    """The best percentile, and the SQNR in dB of each, averaged over the samples that it was measured on."""
    session = Session(model, threads=threads)
    pairs = {str(state.first.name): str(state.last.name) for state in carried_states(model)}
    dithered = _is_dithered(states[0])
    references: dict[int, list[Arrays]] = {}

    def measure(percentile: float, index: int) -> float:
        if index not in references:
            references[index] = _calls(session, pairs, feeds, index, {}, False)
        found = _calls(session, pairs, feeds, index, scales[percentile], dithered)
        noises = [output_noise(*pair) for pair in zip(references[index], found, strict=True)]
        return fmean(decibels(max(noise, NO_NOISE)) for noise in noises)

    found = race(PERCENTILES, measure, min(len(feeds), MOST_SAMPLES), fewest=FEWEST_SAMPLES)
    return found.best, {str(key): round(fmean(levels), 2) for key, levels in found.measured.items()}


def _calls(
    session: Session,
    pairs: Mapping[str, str],
    feeds: Sequence[Feeds],
    index: int,
    scales: Mapping[str, float],
    dithered: bool,
) -> list[Arrays]:
    """Outputs, but for the states, of the last half of `CALLS` calls from the states of one sample on.

    The other inputs of each call are those of the next sample that has their shapes.
    """
    start = feeds[index]
    fitting = [feed for feed in feeds if all(feed[name].shape == array.shape for name, array in start.items())]
    first = next(place for place, feed in enumerate(fitting) if feed is start)
    states = {name: start[name] for name in pairs}
    found: list[Arrays] = []
    for turn in range(CALLS):
        given = {
            name: dequantized(array, scales[name], dithered=dithered and turn > 0) if name in scales else array
            for name, array in states.items()
        }
        outputs = session.run({**fitting[(first + turn) % len(fitting)], **given})
        states = {name: outputs[last] for name, last in pairs.items()}
        if turn >= CALLS // 2:
            found.append({name: array for name, array in outputs.items() if name not in pairs.values()})
    return found


def _is_dithered(state: CarriedState) -> bool:
    """A convolution forgets its state within a few calls, so that nothing adds up."""
    return state.kind is StateKind.RECURRENT and can_dither(state.last)


def _of_reader(state: CarriedState, plan: QuantPlan) -> TensorQuant | None:
    """The grid of the Concat that a convolution state goes into, where that is quantized without a zero point."""
    for use in state.first.uses():
        quant = plan.tensors.get(str(use.node.outputs[0].name)) if use.node.op_type == "Concat" else None
        if quant is not None and quant.scheme == INT8_ACTIVATION and quant.zero_point is None:
            return quant
    return None


def _scale(state: CarriedState, tensors: Mapping[str, Histogram], percentile: float) -> float:
    pooled = Histogram()
    for value in (state.first, state.last):
        pooled = pooled.merge(tensors.get(str(value.name), Histogram()))
    threshold = find_threshold(pooled, "percentile", percentile=percentile).value
    return float(np.maximum(np.float32(threshold / INT8_ACTIVATION.qmax), SMALLEST_SCALE))
