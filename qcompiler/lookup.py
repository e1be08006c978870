"""A lookup in the plan: non-negative values go to few levels, unevenly spaced, before they are quantized to a grid.

The values are rounded to a fine uniform grid of 256 steps over [0, top]; a table of as many entries holds the levels.
What the levels are follows from kind and parameters (`qcompiler.passes.softmax.level_quantizers`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

KINDS = ("uniform", "log2", "log_sqrt2", "tan")
FORMS = ("integer", "float")
FEWEST_BITS, MOST_BITS = 3, 8
STEPS = 255
"""Steps of the fine grid above its zero."""
NODE_KEY = "qcompile.lookup"
"""In `metadata_props` of the Gather: the tensor that it looks up."""
Form = Literal["integer", "float"]


@dataclass(frozen=True, slots=True)
class Levels:
    """2^bits levels from 0 to `top`.

    Attributes:
        kind: One of `KINDS`.
        bits: 3 to 8.
        top: The largest level, in the tensor's own units; larger values are clipped.
        alpha: Curvature of "tan"; alpha max(centre, 1 - centre) lies in (0, pi / 2). 0 for the others.
        centre: Where the levels of "tan" are least dense, as a share of `top`; 0 for the others.
    """

    kind: str
    bits: int
    top: float
    alpha: float = 0.0
    centre: float = 0.0


@dataclass(frozen=True, slots=True)
class Lookup:
    """The levels of one tensor.

    Attributes:
        heads: Levels of the whole tensor, or of each item along axis 1, the heads of [batch, heads, queries, keys].
        top: The fine grid spans [0, top].
        form: "integer": levels lie on the tensor's 8-bit grid, so that an integer kernel takes them. "float": the exact
            levels, whose product is computed in float; for simulations.
    """

    heads: tuple[Levels, ...]
    top: float
    form: Form = "integer"

    def to_json(self) -> dict[str, Any]:
        """The entry in plan.json."""
        levels = [
            {"kind": item.kind, "bits": item.bits, "top": item.top}
            | ({"alpha": item.alpha, "centre": item.centre} if item.kind == "tan" else {})
            for item in self.heads
        ]
        return {"form": self.form, "top": self.top, "levels": levels}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Lookup:
        """Read an entry; ValueError, TypeError or KeyError for anything that no lookup has."""
        heads = tuple(
            Levels(
                str(item["kind"]), int(item["bits"]), float(item["top"]), float(item.get("alpha", 0)),
                float(item.get("centre", 0)),
            )
            for item in entry["levels"]
        )  # fmt: skip
        top, form = float(entry["top"]), entry["form"]
        if not heads or form not in FORMS or not 0 < top < math.inf:
            raise ValueError("a lookup has levels, a top and the form integer or float")
        for item in heads:
            if item.kind not in KINDS or not FEWEST_BITS <= item.bits <= MOST_BITS or not 0 < item.top <= top:
                raise ValueError(f"levels are one of {', '.join(KINDS)} with 3 to 8 bits and a top within the lookup's")
            reach = item.alpha * max(item.centre, 1 - item.centre)
            if item.kind == "tan" and not (0 <= item.centre <= 1 and 0 < reach < math.pi / 2):
                raise ValueError("the centre of tan lies between 0 and 1, its alpha where the tangent is finite")
            if item.kind != "tan" and (item.alpha or item.centre):
                raise ValueError("alpha and centre belong to tan")
        return cls(heads, top, cast(Form, form))
