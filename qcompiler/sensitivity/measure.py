"""Layers by what their quantization costs at the outputs: alone, then cumulative from the least sensitive on."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.passes.quant.switched_model import NO_NOISE, SwitchedModel, decibels, output_noise
from qcompiler.sensitivity.result import Fidelity, Layer, Metric
from qcompiler.session import Arrays


def measure_layers(
    switched: SwitchedModel,
    layers: Sequence[Sequence[str]],
    op_types: Mapping[str, str],
    metric: Metric,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Layer, ...]:
    """Two runs a layer and sample: alone, and with all that lose less. The most sensitive layer comes first.

    Args:
        layers: Names of the nodes of each; none empty.
        op_types: Of every node.
        metric: What layers are ordered by.
        advance: Called after each of the 2 * len(layers) measurements.
    """
    units = [tuple(layer) for layer in layers]
    alone: list[Fidelity] = []
    for unit in units:
        alone.append(fidelity(switched, unit))
        advance()
    order = sorted(range(len(units)), key=lambda index: alone[index].loss(metric))
    quantized: set[str] = set()
    total = sum(switched.costs[name] for unit in units for name in unit) or 1
    found = []
    for index in order:
        unit = units[index]
        quantized.update(unit)
        cost = sum(switched.costs[name] for name in unit)
        cumulative = fidelity(switched, quantized)
        found.append(Layer(unit[0], unit, op_types[unit[0]], cost, cost / total, alone[index], cumulative))
        advance()
    return tuple(reversed(found))


def fidelity(switched: SwitchedModel, quantized: Collection[str]) -> Fidelity:
    """With these nodes quantized, over all samples; only numbers are kept from sample to sample."""
    levels, cosines, divergences = [], [], []
    for index in range(switched.samples):
        wanted, found = switched.outputs(index, quantized)
        levels.append(decibels(max(output_noise(wanted, found, switched.states), NO_NOISE)))
        for name in _float_outputs(wanted):
            if wanted[name].shape == found[name].shape:
                cosines.append(_cosine(wanted[name], found[name]))
                divergences += _divergence(wanted[name], found[name])
            else:  # a shape that depends on values has changed
                cosines.append(0.0)
    return Fidelity(
        sqnr=fmean(levels),
        error=stdev(levels) / math.sqrt(len(levels)) if len(levels) > 1 else None,
        cosine=fmean(cosines),
        kl=fmean(divergences) if divergences else None,
    )


def _float_outputs(outputs: Arrays) -> list[str]:
    return [name for name, array in outputs.items() if array.dtype.kind == "f" and array.size]


def _cosine(wanted: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    a, b = wanted.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else float(np.array_equal(a, b))


def _divergence(wanted: npt.NDArray[Any], found: npt.NDArray[Any]) -> list[float]:
    """One number, or none where the last axis is no distribution over several classes."""
    if not wanted.ndim or wanted.shape[-1] < 2:
        return []
    p, q = _log_softmax(wanted), _log_softmax(found)
    return [float((np.exp(p) * (p - q)).sum(axis=-1).mean())]


def _log_softmax(scores: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    wide = scores.astype(np.float64)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
