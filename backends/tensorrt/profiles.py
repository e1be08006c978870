"""Shape profiles: for each input with a dynamic dimension the (min, opt, max) shapes that TensorRT builds for.

They travel inside the model file, as metadata, so that the build check and any later tool read the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from qcompiler.session import Feeds

Profile = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
METADATA_KEY = "qcompile.shapes"

_FIRST_AXIS = (1, 1, 8)  # a batch, where nothing else is known
_IMAGE_SIDE = (32, 224, 640)
_LENGTH = (1, 128, 512)


def shape_profiles(model: ir.Model, given: Mapping[str, Profile], samples: Sequence[Feeds] = ()) -> dict[str, Profile]:
    """Profiles for all inputs with dynamic dimensions.

    What the caller gives wins. Otherwise the sizes seen in `samples` bound the range (the first axis may always shrink
    to 1), and without samples common sizes for a batch, an image side or a length do. Dimensions of the same symbol get
    the same sizes.
    """
    sizes: dict[str, tuple[int, int, int]] = {}
    inputs = [value for value in model.graph.inputs if value.name and value.shape is not None]
    dynamic = [value for value in inputs if any(not isinstance(dim, int) for dim in value.shape or ())]
    for value in dynamic:
        assert value.name and value.shape is not None
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, int):
                continue
            key = _symbol(value.name, axis, dim)
            if value.name in given:
                sizes[key] = tuple(shape[axis] for shape in given[value.name])  # type: ignore[assignment]
            elif key not in sizes:
                seen = [feeds[value.name].shape[axis] for feeds in samples if value.name in feeds]
                sizes[key] = _range(seen, axis, len(value.shape))
    profiles: dict[str, Profile] = {}
    for value in dynamic:
        assert value.name and value.shape is not None
        dims = [
            (dim, dim, dim) if isinstance(dim, int) else sizes[_symbol(value.name, axis, dim)]
            for axis, dim in enumerate(value.shape)
        ]
        low, best, high = (tuple(dim[which] for dim in dims) for which in range(3))
        profiles[value.name] = given.get(value.name, (low, best, high))
    return profiles


def write_profiles(model: ir.Model, profiles: Mapping[str, Profile]) -> None:
    """Keep the profiles in the model's metadata."""
    if profiles:
        model.metadata_props[METADATA_KEY] = json.dumps(profiles, sort_keys=True, separators=(",", ":"))


def read_profiles(model: ir.Model) -> dict[str, Profile]:
    """The profiles that the file carries, completed by defaults."""
    text = model.metadata_props.get(METADATA_KEY, "{}")
    kept = {name: tuple(tuple(shape) for shape in shapes) for name, shapes in json.loads(text).items()}
    return shape_profiles(model, kept)  # type: ignore[arg-type]


def _symbol(name: str, axis: int, dim: int | ir.SymbolicDim) -> str:
    symbol = None if isinstance(dim, int) else dim.value
    return symbol or f"{name}[{axis}]"


def _range(seen: Sequence[int], axis: int, rank: int) -> tuple[int, int, int]:
    if seen:
        ordered = sorted(seen)
        return (1 if axis == 0 else ordered[0], ordered[len(ordered) // 2], ordered[-1])
    if axis == 0 and rank > 1:
        return _FIRST_AXIS
    return _IMAGE_SIDE if rank == 4 else _LENGTH
