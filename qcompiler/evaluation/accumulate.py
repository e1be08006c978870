"""Sums from which the fidelity of one tensor follows; fixed memory however many samples pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qcompiler.evaluation.compare import TensorFidelity

Array = np.ndarray[Any, Any]


class Fidelity:
    """Streaming comparison of one tensor with its reference."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._signal = self._noise = self._cosines = self._max_error = 0.0
        self._samples = self._broken = self._misshapen = self._equal = self._compared = 0
        self._integer = False

    def add(self, reference: Array, candidate: Array, rows: int = 1) -> None:
        """Take in one batch; `rows` samples lie along the leading axis where it has that size."""
        reference, candidate = np.asarray(reference), np.asarray(candidate)
        self._integer = reference.dtype.kind not in "fV" and not _is_small_float(reference.dtype)
        if reference.shape != candidate.shape:
            self._add_misshapen(reference)
        elif self._integer:
            self._add_integer(reference, candidate)
        else:
            self._add_float(reference, candidate, rows)

    def result(self) -> TensorFidelity:
        """The figures so far."""
        agreement = self._equal / self._compared if self._compared else None
        if self._integer:
            exact = not self._misshapen and self._equal == self._compared
            return TensorFidelity(
                self.name, math.inf if exact else math.nan, 1.0 if exact else math.nan, self._max_error,
                1.0 if agreement is None else agreement, True, 0, self._misshapen,
            )  # fmt: skip
        cosine = self._cosines / self._samples if self._samples else 1.0
        return TensorFidelity(
            self.name, self._sqnr(), cosine, self._max_error, agreement, False, self._broken, self._misshapen
        )

    def _sqnr(self) -> float:
        if self._noise == 0:
            return math.inf
        if self._signal == 0 or math.isinf(self._noise):
            return -math.inf
        return 10 * math.log10(self._signal / self._noise)

    def _add_misshapen(self, reference: Array) -> None:
        self._misshapen += 1
        self._samples += 1
        self._max_error = self._noise = math.inf
        self._compared += max(reference.size, 1)

    def _add_integer(self, reference: Array, candidate: Array) -> None:
        same = reference == candidate
        self._samples += 1
        self._equal += int(np.count_nonzero(same))
        self._compared += reference.size
        if reference.dtype.kind in "iu" and candidate.dtype.kind in "iub" and reference.size:
            error = np.abs(reference.astype(np.float64) - candidate.astype(np.float64)).max()
            self._max_error = max(self._max_error, float(error))
        elif not np.all(same):
            self._max_error = math.inf

    def _add_float(self, reference: Array, candidate: Array, rows: int) -> None:
        truth, guess = reference.astype(np.float64), candidate.astype(np.float64)
        if truth.size == 0:
            return
        self._count_agreement(truth, guess)
        rows = rows if truth.ndim and truth.shape[0] == rows else 1
        self._samples += rows
        odd = ~(np.isfinite(truth) & np.isfinite(guess))
        if odd.any():
            alike = odd & ((truth == guess) | (np.isnan(truth) & np.isnan(guess)))
            broken = (odd & ~alike).reshape(rows, -1).any(axis=1)
            truth, guess = np.where(odd, 0.0, truth), np.where(odd, 0.0, guess)
            if broken.any():
                self._broken += int(broken.sum())
                self._noise = self._max_error = math.inf
        else:
            broken = np.zeros(rows, bool)
        truth, guess = truth.reshape(rows, -1), guess.reshape(rows, -1)
        error = truth - guess
        signal = np.einsum("ij,ij->i", truth, truth)
        self._signal += float(signal.sum())
        self._noise += float(np.einsum("ij,ij->", error, error))
        self._max_error = max(self._max_error, float(np.abs(error).max()))
        cosines = _cosines(signal, np.einsum("ij,ij->i", guess, guess), np.einsum("ij,ij->i", truth, guess))
        self._cosines += float(np.where(broken, 0.0, cosines).sum())

    def _count_agreement(self, truth: Array, guess: Array) -> None:
        if truth.ndim and truth.shape[-1] > 1:
            same = np.argmax(truth, axis=-1) == np.argmax(guess, axis=-1)
            self._equal += int(np.count_nonzero(same))
            self._compared += int(same.size)


def _cosines(signal: Array, other: Array, product: Array) -> Array:
    """Cosine per row; 1 where both rows are zero, 0 where one is."""
    scale = np.sqrt(signal) * np.sqrt(other)
    both_zero = (signal == 0) & (other == 0)
    safe = np.where(scale == 0, 1.0, scale)
    return np.where(both_zero, 1.0, np.where(scale == 0, 0.0, np.clip(product / safe, -1.0, 1.0)))


def _is_small_float(dtype: np.dtype[Any]) -> bool:
    return dtype.name.startswith(("bfloat", "float"))
