"""Shape profiles: for each input with a dynamic dimension the (min, opt, max) shapes that TensorRT builds for.

They travel inside the model file, as metadata, so that the build check and any later tool read the same ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import onnx_ir as ir

Range = tuple[int, int, int]
Profile = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
METADATA_KEY = "qcompile.shapes"

_FIRST_AXIS = (1, 1, 8)  # a batch, where nothing else is known
_IMAGE_SIDE = (32, 224, 640)
_LENGTH = (1, 128, 512)


def shape_profiles(
    model: ir.Model, given: Mapping[str, Profile], seen: Sequence[Mapping[str, tuple[int, ...]]] = ()
) -> dict[str, Profile]:
    """Profiles for all inputs with dynamic dimensions.

    What the caller gives wins. Otherwise the sizes in `seen` bound the range (the first axis may always shrink to 1)
    and the best shapes are those of one of them, the middle one by size; without any, common sizes for a batch, an
    image side or a length do. Dimensions of the same symbol get the same sizes, and a size that was always the sum of
    two others (a total length of past and new tokens) stays their sum at every corner.

    Args:
        seen: Input name to shape, of each different set of inputs, in any order.
    """
    inputs = [value for value in model.graph.inputs if value.name and value.shape is not None]
    dynamic = [value for value in inputs if any(not isinstance(dim, int) for dim in value.shape or ())]
    sizes = _sizes_seen(dynamic, seen)
    for value in dynamic:
        assert value.name and value.shape is not None
        for axis, dim in enumerate(value.shape):
            key = _symbol(value.name, axis, dim)
            if isinstance(dim, int):
                continue
            if value.name in given:
                sizes[key] = tuple(shape[axis] for shape in given[value.name])  # type: ignore[assignment]
            elif key not in sizes:
                sizes[key] = _usual(axis, len(value.shape))
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


def _sizes_seen(inputs: Sequence[ir.Value], seen: Sequence[Mapping[str, tuple[int, ...]]]) -> dict[str, Range]:
    """Smallest, best and largest size by symbol."""
    batch = set()
    rows: list[dict[str, int]] = []
    for shapes in seen:
        row = {}
        for value in inputs:
            assert value.name and value.shape is not None
            for axis, dim in enumerate(value.shape):
                if not isinstance(dim, int) and value.name in shapes:
                    key = _symbol(value.name, axis, dim)
                    row[key] = shapes[value.name][axis]
                    batch |= {key} if axis == 0 else set()
        rows.append(row)
    rows = [row for row in rows if row and row.keys() == rows[0].keys()]
    if not rows:
        return {}
    middle = sorted(rows, key=lambda row: (math.prod(row.values()), sorted(row.items())))[len(rows) // 2]
    found = {
        key: (1 if key in batch else min(row[key] for row in rows), middle[key], max(row[key] for row in rows))
        for key in rows[0]
    }
    different = {tuple(sorted(row.items())) for row in rows}
    if len(different) > 1:  # in one set of sizes any sum is chance
        for key in found:
            pairs = combinations(sorted(found.keys() - {key}), 2)
            parts = next((pair for pair in pairs if _is_sum(key, pair, rows)), None)
            if parts is not None:
                one, other = (found[part] for part in parts)
                found[key] = (one[0] + other[0], middle[key], one[2] + other[2])
    return found


def _is_sum(key: str, parts: tuple[str, str], rows: Sequence[Mapping[str, int]]) -> bool:
    return all(row[key] == row[parts[0]] + row[parts[1]] for row in rows)


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


def _usual(axis: int, rank: int) -> Range:
    if axis == 0 and rank > 1:
        return _FIRST_AXIS
    return _IMAGE_SIDE if rank == 4 else _LENGTH
