"""Orthogonal matrices that spread one large channel evenly over all: Hadamard where there is one, else nearly so.

Everything here is integer arithmetic and one division or square root, so that a seed gives the same bytes on every
machine; LAPACK, which a random orthogonal matrix would need, differs in the last bits from one to the next.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.passes.rotate.orders import Order, split_signs

Matrix = npt.NDArray[np.float64]
_Signs = npt.NDArray[np.int8]
_TABLE_BITS = 44
"""Cosines are rounded to so many binary places: mathematical libraries differ behind them, float32 weights do not."""


def rotation(size: int, seed: int = 0, order: Order = ()) -> Matrix:
    """Q [size, size] with Q^T Q = 1, entries of about size^-1/2: diag(signs of the seed) times a Hadamard matrix.

    With an order row k belongs to channel order[k] (P S H, P a permutation with signs).

    Where no Hadamard matrix is known for the size, the Kronecker product of one with a Hartley matrix, whose entries
    are at most sqrt(2) times as large (a random orthogonal matrix has some 4 times as large).
    """
    made = signs(size, seed)[:, None] * _unsigned(size)
    if not order:
        return made
    channels, turned = split_signs(order)
    placed = np.empty_like(made)
    placed[channels] = made * turned[:, None]
    return placed


def rotation_keeping_ones(size: int, seed: int = 0, order: Order = ()) -> Matrix:
    """The same with Q 1 = 1 = Q^T 1: LayerNorm(x Q) = LayerNorm(x) Q, for the mean of x Q is that of x.

    A rotation H, followed by the reflection that brings H^T 1 back to 1.
    """
    made = rotation(size, seed, order)
    ones = np.full(size, size**-0.5)
    moved = np.array([math.fsum(column) for column in made.T]) * size**-0.5
    axis = moved - ones
    square = math.fsum(axis * axis)
    if square < 1e-18:
        return made
    along = np.array([math.fsum(row) for row in made * axis])
    return np.asarray(made - np.outer(along, axis) * (2 / square))


def factors(size: int) -> tuple[int, int]:
    """(m, b), m b = size, b a power of two, m one with a Hadamard matrix if possible, both near the root of the size;
    m = 1 for sizes up to 64 and for odd ones.

    The rotation that is the Kronecker product of one of m and one of b mixes all channels at the price of m + b
    products for each, not m b.
    """
    if size <= 64:
        return 1, size
    wide = min(size & -size, 1 << round(math.log2(size) / 2))
    tried = [wide >> step for step in range(3) if wide >> step]
    block = next((block for block in tried if hadamard(size // block) is not None), wide)
    return (size // block, block) if block > 1 else (1, size)


def signs(size: int, seed: int) -> Matrix:
    """1 and -1 from a seed; of seed 0 as of any other."""
    stream = b""
    while len(stream) * 8 < size:
        stream += hashlib.sha256(f"{seed}/{len(stream)}".encode()).digest()
    return np.asarray(1.0 - 2.0 * np.unpackbits(np.frombuffer(stream, np.uint8))[:size])


def hadamard(size: int) -> _Signs | None:
    """A matrix of 1 and -1 with orthogonal rows; None where none is known here.

    Sylvester's doubling of 1 and of Paley's matrices for primes (12, 20, 24, 28, 36, 44, 48, 60, ...).
    """
    for power in range(size.bit_length()):
        base, rest = divmod(size, 1 << power)
        if rest or base == 0:
            break
        if base == 1:
            return _sylvester(power)
        start = _paley(base)
        if start is not None:
            return np.kron(start, _sylvester(power))
    return None


def _unsigned(size: int) -> Matrix:
    whole = hadamard(size)
    if whole is not None:
        return np.asarray(whole / math.sqrt(size))
    power = size & -size
    return np.asarray(np.kron(_hartley(size // power), _sylvester(power.bit_length() - 1) / math.sqrt(power)))


def _sylvester(power: int) -> _Signs:
    made = np.ones((1, 1), np.int8)
    for _ in range(power):
        made = np.block([[made, made], [made, -made]])
    return made


def _paley(size: int) -> _Signs | None:
    """Of size q + 1 for a prime q = 3 mod 4, or 2 (q + 1) for a prime q = 1 mod 4 (Paley, On orthogonal matrices,
    J. Math. Phys. 12, 1933)."""
    if size % 4 == 0 and (size - 1) % 4 == 3 and _is_prime(size - 1):
        return np.asarray(np.eye(size, dtype=np.int8) + _bordered(size - 1, -1))
    half = size // 2 - 1
    if size % 4 == 0 and half % 4 == 1 and _is_prime(half):
        conference = _bordered(half, 1)
        one = np.eye(half + 1, dtype=np.int8)
        plus, minus = np.array([[1, 1], [1, -1]], np.int8), np.array([[1, -1], [-1, -1]], np.int8)
        return np.asarray(np.kron(conference, plus) + np.kron(one, minus))
    return None


def _bordered(prime: int, left: int) -> _Signs:
    """0 on the diagonal, a border of ones, inside 1 where i - j is a square modulo the prime, else -1."""
    residues = np.full(prime, -1, np.int8)
    residues[[place * place % prime for place in range(1, prime)]] = 1
    residues[0] = 0
    places = np.arange(prime)
    made = np.zeros((prime + 1, prime + 1), np.int8)
    made[0, 1:], made[1:, 0] = 1, left
    made[1:, 1:] = residues[(places[:, None] - places[None, :]) % prime]
    return made


def _hartley(size: int) -> Matrix:
    """(cos + sin)(2 pi i j / size) / sqrt(size): orthogonal for every size."""
    angles = [2 * math.pi * place / size for place in range(size)]
    unit = 2.0**_TABLE_BITS
    table = np.array([round((math.cos(angle) + math.sin(angle)) * unit) / unit for angle in angles])
    places: Any = np.arange(size)
    return np.asarray(table[np.outer(places, places) % size] / math.sqrt(size))


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
