"""Calibration data of any kind as one stream of checked feeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from qcompiler.calibration.feeds import FeedHasher, Record, can_slice, nearest, rows_in, slice_rows, to_feeds
from qcompiler.calibration.inputs import InputSpec, input_specs
from qcompiler.calibration.objects import load_factory, open_object
from qcompiler.calibration.readers import read_folder, read_npz, read_single_npy, read_test_data_sets
from qcompiler.errors import CalibrationError
from qcompiler.options import CalibrationInput
from qcompiler.session import Arrays

__all__ = ["InputSpec", "Source", "input_specs", "open_source"]

_IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"})


class Source:
    """A stream of feeds.

    Attributes:
        name: Kind of data, for the report: "npz", "npy", "folder", "test_data_set", "images", "arrays", "iterable",
            "ort-reader", "synthetic".
        where: The path or reference that the user gave.
        count: Samples of the last complete pass; 0 before.
        fingerprint: sha256 of the last complete pass over names, types, shapes, bytes and order; empty before.
        shapes: The different shapes of feeds so far: input name to shape.
    """

    def __init__(
        self,
        name: str,
        where: str,
        opener: Callable[[], Iterator[Record]],
        inputs: Sequence[InputSpec],
        *,
        repeatable: bool = True,
        max_samples: int | None = None,
    ) -> None:
        self.name, self.where, self.inputs, self.repeatable = name, where, tuple(inputs), repeatable
        self.count, self.fingerprint = 0, ""
        self._opener, self._max_samples, self._started = opener, max_samples, False
        self._resumed: Iterator[Arrays] | None = None
        self._shapes: set[tuple[tuple[str, tuple[int, ...]], ...]] = set()

    @property
    def shapes(self) -> list[dict[str, tuple[int, ...]]]:
        return [dict(item) for item in sorted(self._shapes)]

    def __iter__(self) -> Iterator[Arrays]:
        """One pass over the feeds.

        Raises:
            CalibrationError: Data that does not fit the model, no samples, or a second pass over a one-shot stream.
        """
        if self._resumed is not None:
            resumed, self._resumed = self._resumed, None
            return resumed
        if self._started and not self.repeatable:
            hint = "give a list, a function that makes the iterator, or a reader with rewind()"
            raise CalibrationError("the data can be read only once", where=self.where, hint=hint)
        self._started = True
        return self._feeds()

    def peek(self) -> Arrays:
        """The first feed; a stream that can be read once gives it again in its pass.

        Raises:
            CalibrationError: As iterating.
        """
        feeds = iter(self)
        first = next(feeds)
        if not self.repeatable:
            self._resumed = chain((first,), feeds)
        return first

    def _feeds(self) -> Iterator[Arrays]:
        count, hasher = 0, FeedHasher()
        left = self._max_samples
        for record in self._opener():
            for feed in to_feeds(record, self.inputs):
                rows = rows_in(feed, self.inputs)
                if left is not None and count + rows > left and can_slice(feed, self.inputs):
                    feed, rows = slice_rows(feed, self.inputs, 0, left - count), left - count
                count += rows
                hasher.update(feed)
                self._shapes.add(tuple((name, array.shape) for name, array in sorted(feed.items())))
                yield feed
                if left is not None and count >= left:
                    break
            if left is not None and count >= left:
                break
        if not count:
            raise CalibrationError(
                "no samples", where=self.where, hint=f"give feeds of {', '.join(map(str, self.inputs))}"
            )
        self.count, self.fingerprint = count, hasher.hexdigest()


def open_source(
    spec: CalibrationInput,
    inputs: Sequence[InputSpec],
    *,
    preprocess: str | None = None,
    max_samples: int | None = None,
) -> Source:
    """The stream that `spec` names: see the module docstrings of readers, images and objects for what is accepted.

    Args:
        preprocess: For image folders: "imagenet", "0..1", "-1..1" or "mean=..;std=..".
        max_samples: Samples to read at most.

    Raises:
        CalibrationError: A path or factory that does not exist, or nothing that gives feeds.
    """
    if max_samples is not None and max_samples < 1:
        raise CalibrationError(f"max_samples is {max_samples}", hint="read at least 1 sample")
    if isinstance(spec, Source):
        return spec
    repeatable = True
    where = str(spec) if isinstance(spec, (str, Path)) else "calibration data"
    if not isinstance(spec, (str, Path)):
        name, opener, repeatable = open_object(spec, where, inputs)
    elif Path(spec).exists():
        name, opener = _open_path(Path(spec), inputs, preprocess)
    elif (isinstance(spec, str) and ":" in spec and not Path(spec).suffix and "/" not in spec and "\\" not in spec) or (
        isinstance(spec, str) and ":" in spec and "/" not in spec and "\\" not in spec
    ):
        name, opener, repeatable = open_object(load_factory(spec), where, inputs)
    else:
        raise _not_found(Path(spec))
    if preprocess is not None and name != "images":
        raise CalibrationError("preprocess is for image folders", where=where, hint="leave out --preprocess")
    return Source(name, where, opener, inputs, repeatable=repeatable, max_samples=max_samples)


def _open_path(
    path: Path, inputs: Sequence[InputSpec], preprocess: str | None
) -> tuple[str, Callable[[], Iterator[Record]]]:
    if path.is_file():
        if path.suffix == ".npz":
            return "npz", lambda: read_npz(path)
        if path.suffix == ".npy":
            return "npy", lambda: read_single_npy(path, inputs)
        raise CalibrationError(
            f"a {path.suffix or 'plain'} file is no calibration data",
            where=str(path),
            hint="use .npz, .npy, a folder or module:factory",
        )
    sets = sorted(path.glob("test_data_set_*")) or ([path] if any(path.glob("input_*.pb")) else [])
    if sets:
        return "test_data_set", lambda: read_test_data_sets(sets, inputs)
    if any(path.glob("*.np[yz]")) or any(path.glob("*/*.npy")):
        return "folder", lambda: read_folder(path, inputs)
    images = sorted(item for item in path.rglob("*") if item.suffix.lower() in _IMAGES)
    if images:
        from qcompiler.calibration.images import image_records

        return "images", image_records(images, inputs, preprocess, str(path))
    raise CalibrationError(
        "the folder holds no samples", where=str(path), hint="put .npz, .npy, test_data_set_* or images there"
    )


def _not_found(path: Path) -> CalibrationError:
    parent = path.parent if str(path.parent) else Path()
    near = nearest(path.name, sorted(item.name for item in parent.iterdir())) if parent.is_dir() else ""
    return CalibrationError(
        "no such file or folder", where=str(path), hint=f"near it: {near}" if near else "check the path"
    )
