"""The sites of a rotation, one after the other, and what is reported of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from qcompiler.pipeline import Outcome, Skip


class Named(Protocol):
    """A site, or a candidate that is none."""

    @property
    def name(self) -> str:
        """By which plans and reports go."""
        ...


Found = TypeVar("Found", bound=Named)


def rotate_sites(found: Iterable[Found], wanted: Sequence[str] | None, act: Callable[[Found], str]) -> Outcome:
    """Rotate what is found, or only what is wanted; a line for each wanted site that the model does not have.

    Args:
        act: Rotates one; why it does not, or "".
    """
    matched, skipped = [], []
    for item in found:
        if wanted is not None and item.name not in wanted:
            continue
        reason = act(item)
        if reason:
            skipped.append(Skip(item.name, reason))
        else:
            matched.append(item.name)
    known = {*matched, *(item.where for item in skipped)}
    absent = [Skip(name, "no such site") for name in wanted or () if name not in known]
    return Outcome(bool(matched), tuple(matched), (*skipped, *absent))
