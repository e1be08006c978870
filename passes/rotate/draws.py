"""What defines the matrix of one site: the seed of its signs and the order of its channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qcompiler.passes.rotate.orders import Order, shuffled


@dataclass(frozen=True, slots=True)
class Draw:
    """P S H: an order P of the channels, signs S, a Hadamard matrix H.

    Attributes:
        seed: Of the signs.
        shuffle: Seed of a random order; 0 for channels as they are.
        order: Channel by place, chosen on data (`orders.py`); empty for none. One of the two at most is given.
    """

    seed: int = 0
    shuffle: int = 0
    order: Order = ()

    def places(self, size: int) -> Order:
        """The order of so many channels; empty for channels as they are.

        Raises:
            ValueError: An order of another number of channels.
        """
        if self.order and len(self.order) != size:
            raise ValueError(f"an order of {len(self.order)} channels for {size}")
        return shuffled(size, self.shuffle) if self.shuffle else self.order


Draws = tuple[tuple[str, Draw], ...]
"""Sites that have a draw of their own."""


def draw_of(draws: Draws, name: str, seed: int) -> Draw:
    """That of a site; of those without one the seed alone."""
    return next((draw for site, draw in draws if site == name), Draw(seed))


def misfit(draw: Draw, size: int) -> str:
    """Why a draw cannot be made for so many channels; empty where it can."""
    return f"its order has {len(draw.order)} channels, not {size}" if draw.order and len(draw.order) != size else ""


def draw_to_json(draw: Draw) -> dict[str, Any]:
    """Seeds, and the order where it comes from data."""
    entry: dict[str, Any] = {"seed": draw.seed}
    if draw.shuffle:
        entry["shuffle"] = draw.shuffle
    if draw.order:
        entry["order"] = list(draw.order)
    return entry


def draw_from_json(entry: Mapping[str, Any]) -> Draw:
    """What `draw_to_json` made, as the plan has checked it."""
    return Draw(entry["seed"], entry.get("shuffle", 0), tuple(entry.get("order", ())))
