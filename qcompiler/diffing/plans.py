"""What differs between two plans: types, scales, what stays float and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from qcompiler.diffing.changes import Change, Level
from qcompiler.diffing.words import few, number, percent, shortened
from qcompiler.plan import QuantPlan
from qcompiler.scheme import PerTensor, TensorQuant


def plan_changes(first: QuantPlan, second: QuantPlan, tolerance: float) -> list[Change]:
    """Changes by name of node and tensor, those that matter most first."""
    changes = [*_nodes(first, second), *_quantizers(first, second, tolerance), *_reasons(first, second)]
    if first.rounding != second.rounding:
        names = sorted({*first.rounding} ^ {*second.rounding})
        facts = {"kind": "plan_rounding", "nodes": names}
        changes.append(Change(Level.WEIGHTS, f"plan: weights of {few(names)} are rounded otherwise", len(names), facts))
    if first.equalize != second.equalize:
        names = sorted(key for key in {*first.equalize, *second.equalize}
                       if first.equalize.get(key) != second.equalize.get(key))  # fmt: skip
        facts = {"kind": "plan_equalize", "sites": names}
        changes.append(Change(Level.WEIGHTS, f"plan: shift and scale differ at {few(names)}", len(names), facts))
    ours, theirs = _rotated(first), _rotated(second)
    if ours != theirs:
        names = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        facts = {"kind": "plan_rotate", "sites": names}
        changes.append(Change(Level.WEIGHTS, f"plan: rotations differ at {few(names)}", len(names), facts))
    if first.units != second.units:
        names = sorted(key for key in {*first.units, *second.units} if first.units.get(key) != second.units.get(key))
        facts = {"kind": "plan_units", "sites": names}
        changes.append(Change(Level.WEIGHTS, f"plan: other units are apart at {few(names)}", len(names), facts))
    if first.lookups != second.lookups:
        names = sorted(key for key in {*first.lookups, *second.lookups}
                       if first.lookups.get(key) != second.lookups.get(key))  # fmt: skip
        facts = {"kind": "plan_lookups", "tensors": names}
        changes.append(Change(Level.PRECISION, f"plan: {few(names)} have other levels", len(names), facts))
    return sorted(changes, key=lambda item: -item.level)


def _rotated(plan: QuantPlan) -> dict[str, Any]:
    """Kind and site to what defines the matrix."""
    return {
        f"{kind} of {name}": held.get("draws", {}).get(name, {"seed": held["seed"]})
        for kind, held in plan.rotate.items()
        for name in held["sites"]
    }


def _nodes(first: QuantPlan, second: QuantPlan) -> Iterator[Change]:
    ours, theirs = _quantized(first), _quantized(second)
    for word, names in (("is float now", [name for name in ours if name not in theirs]),
                        ("is quantized now", [name for name in theirs if name not in ours])):  # fmt: skip
        if names:
            why = ""
            if word == "is float now":
                reasons = Counter(second.floats[name] for name in names if name in second.floats)
                why = f": {reasons.most_common(1)[0][0]}" if reasons else ""
            facts = {"kind": "plan_nodes", "what": word, "nodes": names}
            yield Change(Level.PRECISION, f"plan: {few(names)} {word}{why}", len(names), facts)
    places = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    if places:
        yield Change(Level.PRECISION, f"plan: other inputs of {few(places)} are quantized", len(places),
                     {"kind": "plan_inputs", "nodes": places})  # fmt: skip


def _quantized(plan: QuantPlan) -> dict[str, tuple[tuple[int, ...], tuple[int, ...], bool]]:
    names = sorted({*plan.nodes, *plan.weights, *plan.outputs})
    found = {
        name: (tuple(sorted(plan.nodes.get(name, ()))), tuple(sorted(plan.weights.get(name, {}))), name in plan.outputs)
        for name in names
    }
    return {name: state for name, state in found.items() if any(state)}


def _quantizers(first: QuantPlan, second: QuantPlan, tolerance: float) -> Iterator[Change]:
    ours, theirs = _tensors(first), _tensors(second)
    moved: list[tuple[float, str, str]] = []
    for name in sorted(ours.keys() & theirs.keys()):
        one, other = ours[name], theirs[name]
        if _type(one) != _type(other):
            facts = {"kind": "plan_type", "tensor": name, "before": _type(one), "after": _type(other)}
            yield Change(Level.PRECISION, f"plan: {name}: {_type(one)} -> {_type(other)}", 1, facts)
            continue
        before, after = (np.asarray(item.scale, np.float64).reshape(-1) for item in (one, other))
        if before.size == after.size:
            ratios = after / before - 1
            place = int(np.argmax(np.abs(ratios)))
            if abs(ratios[place]) > tolerance:
                words = f"scale {number(before[place])} -> {number(after[place])} ({percent(ratios[place])})"
                moved.append((float(abs(ratios[place])), name, words))
        zeros = [np.asarray(0 if item.zero_point is None else item.zero_point) for item in (one, other)]
        if np.any(np.not_equal(*zeros)):
            moved.append((np.inf, name, "zero points differ"))
    for drift, name, words in sorted(moved, key=lambda item: (-item[0], item[1])):
        known = None if np.isinf(drift) else float(f"{drift:.6g}")
        yield Change(Level.SCALES, f"plan: {shortened(name)}: {words}", 1,
                     {"kind": "plan_scale", "tensor": name, "drift": known})  # fmt: skip


def _tensors(plan: QuantPlan) -> Mapping[str, TensorQuant]:
    weights = {f"{node}[{place}]": item for node, held in plan.weights.items() for place, item in held.items()}
    outputs = {f"{node} (output)": item for node, item in plan.outputs.items()}
    return {**plan.tensors, **weights, **outputs}


def _type(quant: TensorQuant) -> str:
    scheme = quant.scheme
    bits = "" if scheme.bits == scheme.dtype.bitwidth else f" of {scheme.bits} bits"
    where = "" if isinstance(scheme.granularity, PerTensor) else f"[axis {scheme.granularity.axis}]"
    return f"{scheme.dtype.name.lower()}{bits}{where}"


def _reasons(first: QuantPlan, second: QuantPlan) -> Iterator[Change]:
    names = sorted(name for name in first.floats.keys() & second.floats.keys()
                   if first.floats[name] != second.floats[name])  # fmt: skip
    if names:
        name = names[0]
        what = f"plan: other reason for float: {shortened(name)}: {first.floats[name]} -> {second.floats[name]}"
        facts = {"kind": "plan_reasons", "names": names}
        yield Change(Level.NAMES, what, len(names), facts)
