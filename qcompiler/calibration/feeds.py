"""From raw arrays to feeds: names, types, shapes and content checked against the model's inputs, samples batched."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np

from qcompiler.calibration.inputs import InputSpec
from qcompiler.errors import CalibrationError
from qcompiler.session import Arrays, Feeds

SMALL_BATCH = 8
"""Samples per feed where a file holds many and the model's batch is free."""

_LABELS = frozenset({"label", "labels", "y", "target", "targets", "class", "classes", "gt"})


class Rows(Protocol):
    """An array that is read from its first row to its last."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the whole array."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its element type."""
        ...

    def take(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Rows start to stop - 1; `start` never goes back."""
        ...


@dataclass(frozen=True, slots=True)
class ArrayRows:
    """An array in memory, or mapped."""

    array: np.ndarray[Any, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """See Rows."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """See Rows."""
        dtype: np.dtype[Any] = self.array.dtype
        return dtype

    def take(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """See Rows."""
        return self.array[start:stop] if self.array.ndim else self.array


@dataclass(frozen=True, slots=True)
class Record:
    """Arrays by input name, as a file or a caller gave them.

    Attributes:
        where: The file, or the position in a stream, for messages.
        many: The leading axis may hold many samples, to be split; False where this is one batch.
    """

    where: str
    arrays: Mapping[str, Rows]
    many: bool


def record_of(where: str, feed: Any, *, many: bool = False) -> Record:
    """A record of a dict of array-likes.

    Raises:
        CalibrationError: `feed` is not a dict, or holds something that is no array.
    """
    if not isinstance(feed, Mapping):
        message = f"expected a dict of input name to array, got {type(feed).__name__}"
        raise CalibrationError(message, where=where, hint="give {input: array}")
    arrays: dict[str, Rows] = {}
    for name, item in feed.items():
        try:
            array = np.asarray(item)
        except (ValueError, TypeError, RuntimeError) as error:
            hint = "pad the rows to one length"
            raise CalibrationError(f"input {name!r} is no array: {error}", where=where, hint=hint) from error
        arrays[str(name)] = ArrayRows(array)
    return Record(where, arrays, many)


def to_feeds(record: Record, inputs: Sequence[InputSpec]) -> Iterator[Arrays]:
    """Checked feeds of one record, in order.

    An array that fits its input is fed as it is. Where the input's batch is fixed at b, an array with more rows is cut
    into batches of b; an array with one axis more holds one feed per row; one axis less gets a batch of 1. Where the
    batch is free and the record holds many samples, they go in small batches. Scalars and vectors that fit repeat.

    Raises:
        CalibrationError: A missing or unknown name, a wrong rank, size or type, NaN, nothing at all, ragged counts.
    """
    _check_names(record, inputs)
    layouts = {spec.name: _layout(record, spec) for spec in inputs}
    step = {spec.name: int(spec.batch or 1) for spec in inputs if layouts[spec.name] is _Layout.ROWS}
    step |= {name: 1 for name, layout in layouts.items() if layout is _Layout.EACH}
    free = [spec.name for spec in inputs if layouts[spec.name] is _Layout.WHOLE and spec.batch_is_free]
    lengths = {name: record.arrays[name].shape[0] for name in (*step, *free)}
    once = [spec.name for spec in inputs if _is_one_feed(spec, layouts[spec.name])]
    if not step:
        batches = {(str(spec.batch), lengths[spec.name]) for spec in inputs if spec.name in free}
        if len(batches) == len({name for name, _ in batches}) > 1:
            step = lengths  # leading sizes of different names may differ: one feed
        else:
            total = max(lengths.values(), default=1)
            step = dict.fromkeys(free, min(SMALL_BATCH, total) if record.many else total)
    else:
        step |= dict.fromkeys(free, max(step.values()))  # a free batch beside a fixed one follows it
    counts = {-(-length // step[name]) for name, length in lengths.items()} | {1 for _ in once}
    if len(counts) > 1 or (step is not lengths and len({lengths[name] for name in free}) > 1):
        listed = ", ".join(f"{name} has {lengths.get(name, 1)}" for name in (*lengths, *once))
        raise CalibrationError(
            f"inputs disagree on the number of samples: {listed}",
            where=record.where,
            hint="give each input the same samples",
        )
    for index in range(max(counts, default=1)):
        feed: Arrays = {}
        for spec in inputs:
            rows, size, layout = record.arrays[spec.name], step.get(spec.name), layouts[spec.name]
            array = (
                rows.take(0, rows.shape[0] if rows.shape else 1)
                if size is None
                else rows.take(index * size, (index + 1) * size)
            )
            if layout is _Layout.EACH:
                array = array[0]
            elif layout is _Layout.SINGLE:
                array = array[None]
            feed[spec.name] = cast(array, spec, record.where)
        yield feed


def rows_in(feed: Feeds, inputs: Sequence[InputSpec]) -> int:
    """Number of samples in a feed: the leading size of its first input that has a batch."""
    return next((int(feed[spec.name].shape[0]) for spec in inputs if spec.batch is not None), 1)


def can_slice(feed: Feeds, inputs: Sequence[InputSpec]) -> bool:
    """Whether the feed can be cut between samples: each batch is free and has the same size."""
    rows = rows_in(feed, inputs)
    batched = [spec for spec in inputs if spec.batch is not None]
    return bool(batched) and all(spec.batch_is_free and feed[spec.name].shape[0] == rows for spec in batched)


def slice_rows(feed: Feeds, inputs: Sequence[InputSpec], start: int, stop: int) -> Arrays:
    """The samples start to stop - 1 of a feed; inputs without a free batch stay whole."""
    return {spec.name: feed[spec.name][start:stop] if spec.batch_is_free else feed[spec.name] for spec in inputs}


def cast(array: np.ndarray[Any, Any], spec: InputSpec, where: str) -> np.ndarray[Any, Any]:
    """The array in the input's type, its content checked.

    Raises:
        CalibrationError: A cast that can lose information, NaN or infinity.
    """
    have, want = array.dtype, spec.dtype
    if have.kind == "O":
        raise _bad(where, spec, "holds Python objects, not numbers", "save plain numeric arrays of equal shapes")
    if have != want:
        numeric = _is_float(have) or have.kind in "iub"
        if not numeric and have.kind != want.kind:
            raise _bad(where, spec, f"has type {have}, the model takes {want}", f"store it as {want}")
        if _is_float(have) and not _is_float(want):
            raise _bad(where, spec, f"is {have}, the model takes {want}", f"store it with .astype({str(want)!r})")
        if want.kind in "iub" and array.size:
            low, high = int(array.min()), int(array.max())
            bounds = (0, 1) if want.kind == "b" else (int(np.iinfo(want).min), int(np.iinfo(want).max))
            if low < bounds[0] or high > bounds[1]:
                raise _bad(where, spec, f"holds {low}..{high}, which {want} can't", f"store it as {want}")
        with np.errstate(over="ignore"):
            array = array.astype(want)
    if _is_float(want) and not np.isfinite(array if want.kind == "f" else array.astype(np.float32)).all():
        raise _bad(where, spec, "holds NaN or infinite values", "remove such samples")
    return np.ascontiguousarray(array).reshape(array.shape)


class FeedHasher:
    """Fingerprint of feeds: sha256 over names, types, shapes, bytes, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, feed: Feeds) -> None:
        """Add one feed."""
        for name in sorted(feed):
            array = feed[name]
            self._hash.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
            self._hash.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def hexdigest(self) -> str:
        """The fingerprint so far."""
        return self._hash.hexdigest()


def nearest(name: str, known: Sequence[str]) -> str:
    """The most similar known names, for a hint."""
    return ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[:8])


def _check_names(record: Record, inputs: Sequence[InputSpec]) -> None:
    if not record.arrays:
        raise CalibrationError("holds no arrays", where=record.where, hint=f"store {_wanted(inputs)}")
    known = [spec.name for spec in inputs]
    extra = [name for name in record.arrays if name not in known]
    for name in known:
        if name not in record.arrays:
            hint = f"rename {nearest(name, extra)!r}" if extra else f"it has only {', '.join(record.arrays)}"
            raise CalibrationError(f"input {name!r} of the model is missing", where=record.where, hint=hint)
    for name in extra:
        hint = (
            "calibration needs no labels: remove them"
            if name.lower() in _LABELS
            else f"did you mean {nearest(name, known)}?"
        )
        raise CalibrationError(f"{name!r} is no input of the model", where=record.where, hint=hint)


class _Layout(Enum):
    WHOLE = "fits as it is"
    ROWS = "batches of the input's fixed size lie one after the other on axis 0"
    EACH = "one axis more than the input: each row is a feed"
    SINGLE = "one axis less than the input: a sample without its batch axis"


def _layout(record: Record, spec: InputSpec) -> _Layout:
    rows, want = record.arrays[spec.name], spec.shape
    shape = rows.shape
    if rows.dtype.kind == "O":
        raise _bad(record.where, spec, "holds Python objects, not numbers", "save plain numeric arrays of equal shapes")
    if shape and shape[0] == 0 and (spec.batch is not None or len(want) == 1):
        raise _bad(record.where, spec, f"is empty: shape {list(shape)}", "give at least one sample")
    if not spec.ranked or _fits(shape, want):
        return _Layout.WHOLE
    if want and _fits(shape[1:], want[1:]) and len(shape) == len(want) and isinstance(spec.batch, int):
        if shape[0] % spec.batch:
            rest = f"holds {shape[0]} samples, the model takes batches of {spec.batch}"
            raise _bad(record.where, spec, rest, f"give a multiple of {spec.batch}")
        return _Layout.ROWS
    if shape and _fits(shape[1:], want):
        return _Layout.EACH
    if want and (want[0] == 1 or spec.batch_is_free) and _fits(shape, want[1:]):
        return _Layout.SINGLE
    raise _misfit(record.where, spec, shape)


def _is_one_feed(spec: InputSpec, layout: _Layout) -> bool:
    fixed = isinstance(spec.batch, int) and len(spec.shape) > 1
    return layout is _Layout.SINGLE or (layout is _Layout.WHOLE and fixed)


def _misfit(where: str, spec: InputSpec, shape: tuple[int, ...]) -> CalibrationError:
    want = spec.shape
    if len(shape) != len(want):
        message = f"has {len(shape)} dimensions {list(shape)}, the model takes {len(want)}"
    else:
        pairs = zip(shape, want, strict=True)
        wrong = [axis for axis, (have, dim) in enumerate(pairs) if isinstance(dim, int) and have != dim]
        axis = wrong[-1]  # the leading size can be cut to batches; an inner one is the likelier fault
        message = f"has size {shape[axis]} on axis {axis}, the model takes {want[axis]}"
    return _bad(where, spec, message, f"the input is {spec}")


def _fits(shape: tuple[int, ...], want: tuple[int | str | None, ...]) -> bool:
    return len(shape) == len(want) and all(
        not isinstance(dim, int) or have == dim for have, dim in zip(shape, want, strict=True)
    )


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def _wanted(inputs: Sequence[InputSpec]) -> str:
    return ", ".join(str(spec) for spec in inputs)


def _bad(where: str, spec: InputSpec, message: str, hint: str) -> CalibrationError:
    return CalibrationError(f"input {spec.name!r} {message}", where=where, hint=hint)
