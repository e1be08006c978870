"""Seeded inputs for a model without calibration data: plausible enough to run, never as good as real samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.calibration.feeds import ArrayRows, Record
from qcompiler.calibration.index_bounds import index_bound
from qcompiler.calibration.inputs import InputSpec, input_specs
from qcompiler.errors import CalibrationError, ModelError
from qcompiler.session import Arrays, Session

Shapes = Mapping[str, tuple[int, ...]]

_LENGTHS = (32, 48, 64, 96, 128, 40, 80, 112)  # sequence lengths by sample
_IMAGE_SIDE = 224
_INTEGER_BOUND = 2  # for integers that index nothing we can see
_LENGTH_WORDS = ("seq", "len", "time", "token", "frames")
_HINT = "give real samples with --calib, or sizes with --shape"


def synthetic_batches(model: ir.Model, *, samples: int = 8, seed: int = 0, shapes: Shapes | None = None) -> Source:
    """A source called "synthetic" of `samples` feeds with a batch of 1, the same for the same seed.

    Integers that index a table stay below its rows, masks are ones, token types zeros, positions count up, images are
    smooth fields with about the mean and deviation of ImageNet-normalized photographs, other floats standard normal.
    Symbolic sizes of one name agree between inputs.

    Args:
        shapes: Input name to its sizes, where the user gave them.

    Raises:
        CalibrationError: A name in `shapes` that is no input or does not fit it, or onnxruntime cannot run such a feed.
    """
    make = _maker(model, seed, shapes, batch=1)

    def records() -> Iterator[Record]:
        for index in range(samples):
            yield Record(
                f"synthetic sample {index}", {name: ArrayRows(array) for name, array in make(index).items()}, False
            )

    _try(model, make(0))
    return Source("synthetic", "synthetic inputs", records, input_specs(model))


def random_feeds(
    model: ir.Model, *, samples: int = 1, seed: int = 0, batch: int = 2, shapes: Shapes | None = None
) -> list[Arrays]:
    """Feeds like those of `synthetic_batches` with another batch size where that is free; nobody tried to run them.

    Raises:
        CalibrationError: A name in `shapes` that is no input or does not fit it.
    """
    make = _maker(model, seed, shapes, batch=batch)
    return [make(index) for index in range(samples)]


def _maker(model: ir.Model, seed: int, shapes: Shapes | None, *, batch: int) -> Callable[[int], Arrays]:
    """Index of a sample to its feed."""
    inputs = input_specs(model)
    fixed = _check_shapes(inputs, shapes or {})
    bounds = {value.name: index_bound(value) for value in model.graph.inputs if value.name}

    def make(index: int) -> Arrays:
        random = np.random.default_rng([seed, index])
        sizes = _sizes(inputs, fixed, index, batch)
        return {spec.name: _array(spec, sizes[spec.name], bounds.get(spec.name), random) for spec in inputs}

    return make


def _try(model: ir.Model, feed: Arrays) -> None:
    try:
        Session(model).run(feed)
    except ModelError:
        raise
    except Exception as error:  # onnxruntime raises many unrelated types
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())
        first = str(error).strip().splitlines()[0][:300]
        raise CalibrationError(
            f"the model cannot run {shapes}: {first}", where="synthetic inputs", hint=_HINT
        ) from error


def _check_shapes(inputs: Sequence[InputSpec], shapes: Shapes) -> Shapes:
    known = {spec.name: spec for spec in inputs}
    for name, shape in shapes.items():
        if name not in known:
            raise CalibrationError(
                f"the model has no input {name!r}", where="--shape", hint=f"its inputs are {', '.join(known)}"
            )
        want = known[name].shape
        if known[name].ranked and (
            len(want) != len(shape)
            or any(isinstance(dim, int) and dim != size for dim, size in zip(want, shape, strict=True))
        ):
            raise CalibrationError(
                f"{list(shape)} does not fit input {known[name]}", where="--shape", hint="fixed sizes stay"
            )
    return shapes


def _sizes(inputs: Sequence[InputSpec], fixed: Shapes, index: int, batch: int) -> dict[str, tuple[int, ...]]:
    named: dict[str, int] = {}
    for spec in inputs:
        for dim, size in zip(spec.shape, fixed.get(spec.name, ()), strict=False):
            if isinstance(dim, str):
                named[dim] = size
    result = {}
    for spec in inputs:
        sizes = []
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, int):
                size = dim
            elif spec.name in fixed:
                size = fixed[spec.name][axis]
            elif isinstance(dim, str) and dim in named:
                size = named[dim]
            else:
                size = _size(spec, axis, index, batch)
                if isinstance(dim, str):
                    named[dim] = size
            sizes.append(size)
        result[spec.name] = tuple(sizes)
    return result


def _size(spec: InputSpec, axis: int, index: int, batch: int) -> int:
    rank, name = len(spec.shape), str(spec.shape[axis] or "").lower()
    if "past" in spec.name.lower() or "cache" in spec.name.lower():
        return batch if axis == 0 else 0
    if "past" in name and "+" not in name and "total" not in name:
        return 0
    if axis == 0 and (rank > 1 or "batch" in name):
        return batch
    if rank == 4 and spec.dtype.kind == "f":
        channels_last = spec.shape[-1] in (1, 3, 4)
        if axis == (3 if channels_last else 1):
            return 3
        height, width = (1, 2) if channels_last else (2, 3)
        if axis == width and isinstance(spec.shape[height], int) and spec.shape[height] != _IMAGE_SIDE:
            return 32 * (3 + index % 8)  # lines of text and the like: fixed height, any width
        return _IMAGE_SIDE
    return _LENGTHS[index % len(_LENGTHS)]


def _array(
    spec: InputSpec, shape: tuple[int, ...], bound: int | None, random: np.random.Generator
) -> np.ndarray[Any, Any]:
    name = spec.name.lower()
    if spec.dtype.kind == "b":
        return np.ones(shape, np.bool_)
    if spec.dtype.kind in "iu":
        return _integers(name, shape, bound, random).astype(spec.dtype)
    if "mask" in name:
        return np.ones(shape).astype(spec.dtype)
    if len(shape) == 4 and min(shape[1], shape[3]) in (1, 3, 4) and "past" not in name:
        return _image(shape, random).astype(spec.dtype)
    return random.standard_normal(shape, np.float32).astype(spec.dtype)


def _integers(
    name: str, shape: tuple[int, ...], bound: int | None, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    if "mask" in name:
        return np.ones(shape, np.int64)
    if "token_type" in name or "segment" in name:
        return np.zeros(shape, np.int64)
    if "position" in name and shape:
        return np.broadcast_to(np.arange(shape[-1]) % (bound or shape[-1] or 1), shape).copy()
    if bound is None and any(word in name for word in _LENGTH_WORDS) and len(shape) <= 1:
        return np.ones(shape, np.int64)
    return random.integers(0, max(1, bound if bound is not None else _INTEGER_BOUND), shape)


def _image(shape: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Fields that fall off with frequency like photographs: noise at four scales, the coarse ones strongest."""
    channels_last = shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)
    channels = shape[3] if channels_last else shape[1]
    height, width = (shape[1], shape[2]) if channels_last else (shape[2], shape[3])
    field = np.zeros((shape[0], channels, height, width), np.float32)
    for cells, strength in ((3, 0.8), (8, 0.6), (24, 0.35)):
        common = random.standard_normal((shape[0], 1, cells, cells))
        own = random.standard_normal((shape[0], channels, cells, cells))
        field += strength * _enlarge((common + 0.3 * own).astype(np.float32), height, width)
    field += 0.05 * random.standard_normal(field.shape, np.float32)
    field = np.clip(field, -2.1, 2.6)
    return np.ascontiguousarray(np.moveaxis(field, 1, -1)) if channels_last else field


def _enlarge(grid: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Bilinear resize of the last two axes."""

    def along(values: npt.NDArray[np.float32], size: int, axis: int) -> npt.NDArray[np.float32]:
        at = np.linspace(0, values.shape[axis] - 1, size)
        low = np.minimum(at.astype(int), values.shape[axis] - 2)
        shape = [1] * values.ndim
        shape[axis] = size
        part = (at - low).astype(np.float32).reshape(shape)
        return np.asarray(values.take(low, axis) * (1 - part) + values.take(low + 1, axis) * part)

    return along(along(grid, height, -2), width, -1)
