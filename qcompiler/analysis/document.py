"""The analysis as JSON; schema in docs/analysis.md."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qcompiler.analysis.result import Analysis, RuleResult
from qcompiler.analysis.tensor_statistics import TensorSummary
from qcompiler.analysis.verdicts import enough_samples

SCHEMA = "qcompile-analysis/1"


def analysis_document(found: Analysis) -> dict[str, Any]:
    """Plain types; free of times and paths, figures rounded to six digits."""
    return {
        "schema": SCHEMA,
        "model": found.model,
        "target": found.target,
        "verdicts": [
            {"topic": item.topic, "answer": item.answer, "because": item.because} for item in found.verdicts
        ],
        "sets": {
            item.name: {
                **found.sources[item.name],
                "max_inf_norm": _number(max(tensor.inf_norm for tensor in item.tensors.values())),
                "avg_kurtosis": _number(float(np.mean([tensor.kurtosis for tensor in item.tensors.values()]))),
                "max_kurtosis": _number(max(tensor.kurtosis for tensor in item.tensors.values())),
                "tensors": {name: _tensor(tensor) for name, tensor in item.tensors.items()},
            }
            for item in found.sets
        },
        "fidelity": {
            "evaluated": {"samples": found.evaluated[0], "of": found.evaluated[1]},
            "sizes": list(found.sizes),
            "seeds": found.seeds,
            "goal_sqnr": found.goal,
            "weights_only_sqnr": _number(found.weights_only),
            "rules": {rule.method: _rule(rule, found) for rule in found.rules},
            "kendall_tau": {name: _number(value) for name, value in found.tau.items()},
            "outlier_channels": None if found.outliers is None else {
                "tensors": list(found.outliers.tensors),
                "sqnr": _number(found.outliers.before),
                "sqnr_with_channel_ranges": _number(found.outliers.after),
                "lost_db": _number(found.outliers.lost),
            },
        },
        "diagnostics": [item.to_json() for item in found.diagnostics],
    }  # fmt: skip


def _tensor(item: TensorSummary) -> dict[str, Any]:
    channels = item.channels
    return {
        "channel_axis": item.layout.channel,
        "token_axis": item.layout.token,
        "elements": item.elements,
        "min": _number(item.low),
        "max": _number(item.high),
        "absmax": _number(item.absmax),
        "p99.99": _number(item.p9999),
        "kurtosis": _number(item.kurtosis),
        "inf_norm": _number(item.inf_norm),
        "absmax_to_median_channel": _number(item.ratio),
        "outlier_channels": None if channels is None else channels.outliers,
        "outlier_token_share": _number(item.token_share),
        "absmax_first_token": _number(item.absmax_first),
        "absmax_later_tokens": _number(item.absmax_rest),
        "lost_db": _number(item.lost_db),
        "channels": None if channels is None else {
            "min": _numbers(channels.low), "max": _numbers(channels.high), "absmax": _numbers(channels.absmax),
            "kurtosis": _numbers(channels.kurtosis),
        },
    }  # fmt: skip


def _rule(rule: RuleResult, found: Analysis) -> dict[str, Any]:
    value = rule.spread_of_sets
    enough, tolerance, _ = enough_samples(rule)
    several = len(found.sets) > 1
    return {
        "sqnr": {
            item.name: _numbers(rule.decibels[index].mean(axis=1)) for index, item in enumerate(found.sets)
        },
        "sqnr_by_size": {str(size): _numbers(values.mean(axis=1)) for size, values in rule.sweep.items()},
        "between": _number(value.between) if several else None,
        "within": _number(value.within),
        "floor": _number(value.floor),
        "S": _number(value.ratio) if several else None,
        "total": _number(value.total),
        "enough_samples": enough,
        "tolerance": _number(tolerance),
        "range_spread": {
            "within": {str(size): _numbers(np.array(pair)) for size, pair in rule.ranges.within.items()},
            "between": None if rule.ranges.between is None else _numbers(np.array(rule.ranges.between)),
            "worst_tensor": rule.ranges.worst_tensor or None,
        },
        "range_by_size": {str(size): _numbers(np.array(row)) for size, row in rule.ranges.growth.items()},
    }  # fmt: skip


def _number(value: float | None) -> float | str | None:
    if value is None:
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(float(value))


def _numbers(values: np.ndarray[Any, Any]) -> list[float | str | None]:
    return [_number(float(value)) for value in values]
