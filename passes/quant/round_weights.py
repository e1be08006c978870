"""Codes of weights chosen on data, not each the nearest: kept where the outputs gain on other samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.calibration.split import Split
from qcompiler.passes.quant.compensated_rounding import compensated_codes
from qcompiler.passes.quant.estimate_biases import pays
from qcompiler.passes.quant.input_moments import every, input_moments, single_samples
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.planned_weights import round_weights_in_place
from qcompiler.passes.quant.switched_model import NO_NOISE, decibels, judge_scores, output_noise
from qcompiler.passes.quant.weighted_sums import WeightedSum, weighted_sum
from qcompiler.passes.softmax.insert_lookups import InsertLookups
from qcompiler.plan import ROUNDINGS, QuantPlan
from qcompiler.session import Arrays, Feeds, Session
from qcompiler.state_names import next_values
from qcompiler.target import Target

LARGEST = 4096
"""Inputs of a layer: the moments of more take 64 MiB and more, and the time of a cube."""
BYTES = 1 << 30
"""Of moments at a time; where there are more, the samples run again."""
PERIOD, JUDGES = 4, 16
"""Of so many samples the last judges, and so many do at most; no others choose."""
FEWEST = 8
"""Samples: six to choose on, two to judge on."""
PLAIN, FITTED = WAYS = ROUNDINGS
"""Without and with the regression of the float output on quantized inputs. That takes 0.8 dB more off MiniLM's error at
8 bits; at 6, with OutlierTune's scales, it costs the outputs 11 dB: clipped outliers ask for weights out of range."""
Codes = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Rounded:
    """Layer to the codes of its weight, empty where they do not pay; which of `WAYS` made them; what was measured."""

    codes: dict[str, Codes] = field(default_factory=dict)
    way: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def round_weights(
    model: ir.Model,
    plan: QuantPlan,
    target: Target,
    batches: Split | Source,
    how: Literal["gptq", "auto"],
    *,
    threads: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Rounded:
    """Codes for the layers of `plan`; with "auto" none where the outputs do not gain as bias corrections have to.

    Costs one run of the float model for each sample and a cube of the inputs for each layer; judging takes six
    sessions, one after the other, on at most `JUDGES` samples.

    Args:
        model: Normalized float model; left as it is.
        batches: Calibration data, which is read twice.
    """
    judges = list(every(single_samples(batches), PERIOD, kept=True, most=JUDGES))
    if len(judges) * PERIOD < FEWEST:
        return Rounded(facts={"taken": False, "why": f"it takes {FEWEST} samples"})
    codes, skipped = codes_on_data(model, plan, target, batches, threads=threads, progress=progress)
    if not codes[PLAIN]:
        return Rounded(facts={"taken": False, "why": "no layer can be rounded so", "skipped": skipped})
    before = levels(model, plan, judges, threads=threads)
    progress()
    gains = {}
    for way, found in codes.items():
        after = levels(model, replace(plan, codes=found), judges, threads=threads)
        gains[way] = [mine - its for mine, its in zip(after, before, strict=True)]
        progress()
    best = max(WAYS, key=lambda way: fmean(gains[way]))
    taken = how == "gptq" or pays(gains[best])
    facts = {
        "taken": taken,
        "way": best,
        "judged_on": len(judges),
        "sqnr_gain": {way: round(fmean(found), 2) for way, found in gains.items()},
        "standard_error": {way: round(stdev(found) / sqrt(len(found)), 2) for way, found in gains.items()},
        "layers": len(codes[best]),
        "skipped": skipped,
    }
    return Rounded(codes[best], best, facts) if taken else Rounded(facts=facts)


def codes_on_data(
    model: ir.Model,
    plan: QuantPlan,
    target: Target,
    batches: Split | Source,
    *,
    ways: Sequence[str] = WAYS,
    only: Sequence[str] | None = None,
    threads: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> tuple[dict[str, dict[str, Codes]], dict[str, int]]:
    """Way to codes by layer from the samples that do not judge, and how many layers were skipped by reason.

    The same plan and samples give the same codes (with as many threads of the linear algebra).

    Args:
        ways: Of `WAYS`.
        only: Names of layers; None for all of the plan.
    """
    layers: list[WeightedSum] = []
    skipped = Counter[str]()
    for node in model.graph:
        if node.name in plan.weights and (only is None or node.name in only):
            found = weighted_sum(node, plan, LARGEST)
            if isinstance(found, str):
                skipped[found] += 1
            else:
                layers.append(found)
    codes: dict[str, dict[str, Codes]] = {way: {} for way in ways}
    for part in _parts(layers):
        read = {layer.tensor: plan.tensors[layer.tensor] for layer in part if plan.nodes.get(str(layer.node.name))}
        chosen = every(single_samples(batches), PERIOD, kept=False)
        moments = input_moments(model, part, read, chosen, threads=threads)
        progress()
        for layer in part:
            seen, bits = moments[layer.window], layer.quant.scheme.bits
            pairs = layer.partners() if target.placement.weights_pair_safe and bits == 8 else []
            for way in ways:
                shift = seen.shift if way == FITTED else None
                made = compensated_codes(
                    layer.matrix(), layer.scale(), layer.quant.scheme.qmax, seen.second, shift, pairs
                )
                codes[way][str(layer.node.name)] = layer.weight(made)
            progress()
    return codes, dict(skipped)


def levels(model: ir.Model, plan: QuantPlan, feeds: Sequence[Feeds], *, threads: int = 0) -> list[float]:
    """SQNR in dB of the outputs on each sample, weights and activations quantized as planned."""
    ends = [str(value.name) for value in model.graph.inputs], [str(value.name) for value in model.graph.outputs]
    states = frozenset(next_values(*ends).values())
    teacher, student = model.clone(), model.clone()
    for item in (teacher, student):
        judge_scores(item.graph)
    round_weights_in_place(student, plan)
    InsertQdq(replace(plan, weights={})).run(student)
    InsertLookups(plan).run(student)
    wanted = _outputs(teacher, ends[1], feeds, threads, optimize=True)
    found = _outputs(student, ends[1], feeds, threads, optimize=False)
    return [decibels(max(output_noise(one, other, states), NO_NOISE)) for one, other in zip(wanted, found, strict=True)]


def _outputs(
    model: ir.Model, names: Sequence[str], feeds: Sequence[Feeds], threads: int, *, optimize: bool
) -> list[Arrays]:
    """By the names of the model's own outputs."""
    session = Session(model, threads=threads, optimize=optimize)
    return [dict(zip(names, session.run(feed).values(), strict=True)) for feed in feeds]


def _parts(layers: Sequence[WeightedSum]) -> Iterator[list[WeightedSum]]:
    """Runs of layers whose moments stay within `BYTES`."""
    part: list[WeightedSum] = []
    known: Mapping[tuple[Any, ...], int] = {}
    for layer in layers:
        sizes = {**known, layer.window: 8 * layer.inputs**2}
        if part and sum(sizes.values()) > BYTES:
            yield part
            part, sizes = [], {layer.window: 8 * layer.inputs**2}
        part.append(layer)
        known = sizes
    if part:
        yield part
