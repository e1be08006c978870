"""Shapes as users type them: `x:1x3x224x224`, or min, opt and max as `x:1x128,8x128,32x128`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qcompiler.errors import UsageError

Shape = tuple[int, ...]
Profile = tuple[Shape, Shape, Shape]
"""Smallest, likeliest and largest shape of one input."""


def parse_shapes(value: Any, where: str) -> dict[str, Profile]:
    """Profiles by input from texts, or from a mapping of input to one shape or three.

    A colon ends a name and a comma a shape, as trtexec has it; the last colon counts, so names may have some.

    Raises:
        UsageError: Not of that form, a size below 1, another count than one or three, min above opt or opt above max.
    """
    if isinstance(value, Mapping):
        listed = {str(name): _as_shapes(item, where) for name, item in value.items()}
    else:
        listed = split_shapes([value] if isinstance(value, str) else value, where)
    profiles = {}
    for name, shapes in listed.items():
        if len(shapes) not in (1, 3):
            raise UsageError(f"{name!r} has {len(shapes)} shapes", where=where, hint="give one shape, or min,opt,max")
        profiles[name] = checked_profile(
            name, (shapes[0], shapes[-2] if len(shapes) == 3 else shapes[0], shapes[-1]), where
        )
    return profiles


def split_shapes(texts: Iterable[str], where: str) -> dict[str, list[Shape]]:
    """All shapes of each input, as typed."""
    listed: dict[str, list[Shape]] = {}
    for text in texts:
        shapes: list[Shape] | None = None
        for piece in str(text).split(","):
            name, colon, sizes = piece.rpartition(":")
            if colon:
                shapes = listed.setdefault(name, [])
            if shapes is None or (colon and not name):
                raise UsageError(f"{text!r} is not a shape", where=where, hint="write INPUT:1x3x224x224")
            shapes.append(_shape(sizes, where))
    return listed


def join_profiles(
    least: Mapping[str, Shape], likely: Mapping[str, Shape], most: Mapping[str, Shape], where: str
) -> dict[str, Profile]:
    """Profiles from trtexec's three flags; what is missing takes the nearest of the others."""
    profiles = {}
    for name in {**least, **likely, **most}:
        opt = likely.get(name) or most.get(name) or least[name]
        profiles[name] = checked_profile(name, (least.get(name, opt), opt, most.get(name, opt)), where)
    return profiles


def checked_profile(name: str, profile: Profile, where: str) -> Profile:
    """`profile`, with equal ranks and min <= opt <= max."""
    low, middle, high = profile
    if not len(low) == len(middle) == len(high):
        raise UsageError(f"the shapes of {name!r} differ in rank", where=where)
    if any(not a <= b <= c for a, b, c in zip(low, middle, high, strict=True)):
        raise UsageError(
            f"the shapes of {name!r} are not ordered", where=where, hint="each size needs min <= opt <= max"
        )
    return profile


def _shape(text: str, where: str) -> Shape:
    try:
        sizes = tuple(int(size) for size in text.lower().split("x"))
    except ValueError:
        raise UsageError(f"{text!r} is not a shape", where=where, hint="write sizes as 1x3x224x224") from None
    return _positive(sizes, where)


def _positive(sizes: Shape, where: str) -> Shape:
    if any(size < 1 for size in sizes):
        raise UsageError(f"a size in {'x'.join(map(str, sizes))} is below 1", where=where)
    return sizes


def _as_shapes(item: Any, where: str) -> list[Shape]:
    if isinstance(item, str):
        return [_shape(text, where) for text in item.split(",")]
    if not isinstance(item, (list, tuple)):
        raise UsageError(f"expected a shape, got {item!r}", where=where)
    if all(isinstance(size, int) for size in item):
        return [_positive(tuple(item), where)]
    return [shape for part in item for shape in _as_shapes(part, where)]
