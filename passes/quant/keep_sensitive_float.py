"""Mixed precision by measurement: the few nodes whose quantization hurts the outputs most stay float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qcompiler.passes.quant.switched_model import SwitchedModel, decibels
from qcompiler.plan import QuantPlan


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What was measured.

    Attributes:
        alone: Node name to the outputs' SQNR in dB with only that node quantized, worst first.
        before: SQNR in dB with the whole plan.
        after: SQNR in dB of what is left.
        dropped: Nodes taken out of the plan, in that order.
    """

    alone: dict[str, float]
    before: float
    after: float
    dropped: tuple[str, ...]


def keep_sensitive_float(
    switched: SwitchedModel,
    plan: QuantPlan,
    *,
    goal: float,
    share: float,
    progress: Callable[[], None] = lambda: None,
) -> tuple[QuantPlan, Sensitivity]:
    """Take nodes out of `plan`, the most harmful first, until the outputs reach `goal` dB or `share` of them is out.

    Each node is measured alone (one forward pass per node and sample, one session for all), then nodes are dropped one
    by one and the rest is measured together. A drop that does not help the whole is taken back.
    """
    scales = {tensor: float(quant.scale) for tensor, quant in plan.tensors.items()}
    kept = set(plan.nodes)
    noise = switched.noise(kept, scales)
    before = decibels(noise)
    limit = int(len(kept) * share)
    if before >= goal or not limit:
        return plan, Sensitivity({}, before, before, ())
    alone = {}
    for name in plan.nodes:
        alone[name] = switched.noise((name,), scales)
        progress()
    ranked = sorted(alone, key=lambda name: -alone[name])
    dropped: list[str] = []
    for name in ranked[: 2 * limit]:
        if decibels(noise) >= goal or len(dropped) >= limit:
            break
        tried = switched.noise(kept - {name}, scales)
        if tried < noise:
            kept.discard(name)
            dropped.append(name)
            noise = tried
    found = Sensitivity({name: decibels(alone[name]) for name in ranked}, before, decibels(noise), tuple(dropped))
    reasons = {name: f"sensitive: alone it leaves the outputs {found.alone[name]:.1f} dB" for name in dropped}
    return without(plan, reasons), found


def without(plan: QuantPlan, reasons: dict[str, str]) -> QuantPlan:
    """The plan with the nodes that are keys of `reasons` in float."""
    return QuantPlan(
        tensors=dict(plan.tensors),
        weights={name: quants for name, quants in plan.weights.items() if name not in reasons},
        nodes={name: inputs for name, inputs in plan.nodes.items() if name not in reasons},
        floats=plan.floats | reasons,
        groups=list(plan.groups),
        notes=plan.notes,
    )
