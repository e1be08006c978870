"""Scores and distances, in plain numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.zoo import Array


def cosine(a: Array, b: Array) -> float:
    """Mean cosine of the rows of `a` and `b`."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(axis=-1) / np.maximum(norms, 1e-12)).mean())


def pearson(a: Array, b: Array) -> float:
    """Correlation of two vectors."""
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


def spearman(a: Array, b: Array) -> float:
    """Rank correlation of two vectors; ties share their mean rank."""
    return pearson(_ranks(a), _ranks(b))


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]


def pairwise_pearson(a: Array, b: Array) -> float:
    """Correlation of the cosines of all pairs of rows within `a` with those within `b`."""
    upper = np.triu_indices(len(a), k=1)
    return pearson(_similarities(a)[upper], _similarities(b)[upper])


def _similarities(rows: Array) -> Array:
    unit = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return np.asarray(unit @ unit.T)


def sqnr(value: Array, reference: Array) -> float:
    """Signal to quantization noise of `value` in dB; infinite where they are equal."""
    reference = reference.astype(np.float64)
    noise = float(((value - reference) ** 2).sum())
    return float("inf") if noise == 0 else 10.0 * float(np.log10(max(float((reference**2).sum()), 1e-30) / noise))


def log_softmax(logits: Array) -> Array:
    """Logarithms of the probabilities along the last axis, in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def kl_divergence(logits: Array, reference: Array) -> float:
    """Mean over rows of KL(reference || logits) in nats."""
    p, q = log_softmax(reference), log_softmax(logits)
    return float((np.exp(p) * (p - q)).sum(axis=-1).mean())


def edit_distance(a: Sequence[object], b: Sequence[object]) -> int:
    """Fewest insertions, deletions and substitutions from `a` to `b`."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        previous, row[0] = row[0], i
        for j, right in enumerate(b, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (left != right))
    return row[-1]
