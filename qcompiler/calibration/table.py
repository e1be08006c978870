"""The calibration table: statistics by tensor name, mergeable and savable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from qcompiler.calibration.observers import ChannelRanges, Histogram
from qcompiler.errors import CalibrationError

SCHEMA = "qcompile-calibration/1"


@dataclass(frozen=True, slots=True)
class CalibrationTable:
    """What calibration found.

    Attributes:
        model: Fingerprint of the model that was run; tables of different models don't merge.
        samples: Number of samples.
        tensors: Histograms by tensor name.
        channels: Ranges by channel, of tensors that are quantized per channel.
        unobserved: Tensors that were asked for and can't be observed, with the reason.
        notes: How the run went, where that is worth saying.
    """

    model: str = ""
    samples: int = 0
    tensors: Mapping[str, Histogram] = field(default_factory=dict)
    unobserved: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    channels: Mapping[str, ChannelRanges] = field(default_factory=dict)

    def merge(self, other: CalibrationTable) -> CalibrationTable:
        """The table of both runs; associative and commutative.

        Raises:
            CalibrationError: The tables are of different models.
        """
        if self.model and other.model and self.model != other.model:
            raise CalibrationError("the tables are of different models", hint="calibrate both on the same model")
        tensors = dict(self.tensors)
        for name, histogram in other.tensors.items():
            tensors[name] = tensors[name].merge(histogram) if name in tensors else histogram
        channels = dict(self.channels)
        for name, peaks in other.channels.items():
            channels[name] = channels[name].merge(peaks) if name in channels else peaks
        return CalibrationTable(
            self.model or other.model,
            self.samples + other.samples,
            {name: tensors[name] for name in sorted(tensors)},
            dict(sorted({**self.unobserved, **other.unobserved}.items())),
            tuple(sorted({*self.notes, *other.notes})),
            {name: channels[name] for name in sorted(channels)},
        )

    def to_json(self) -> bytes:
        """JSON with sorted keys: for each tensor its exact bounds and the bins in use with their counts."""
        document = {
            "schema": SCHEMA,
            "model": self.model,
            "samples": self.samples,
            "tensors": {name: _histogram_to_json(item) for name, item in self.tensors.items()},
            "unobserved": dict(self.unobserved),
            "notes": list(self.notes),
            "channels": {
                name: {"axis": item.axis, "low": item.low.tolist(), "high": item.high.tolist()}
                for name, item in self.channels.items()
            },
        }
        return msgspec.json.encode(document, order="sorted") + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str = "calibration table") -> CalibrationTable:
        """Read a table.

        Raises:
            CalibrationError: Not a table, or of another schema.
        """
        try:
            document = msgspec.json.decode(data)
            if document["schema"] != SCHEMA:
                raise ValueError(f"its schema is {document['schema']!r}, expected {SCHEMA!r}")
            return cls(
                document["model"],
                int(document["samples"]),
                {name: _histogram_from_json(item) for name, item in document["tensors"].items()},
                document["unobserved"],
                tuple(document["notes"]),
                {
                    name: ChannelRanges(
                        int(item["axis"]), np.asarray(item["low"], np.float32), np.asarray(item["high"], np.float32)
                    )
                    for name, item in document.get("channels", {}).items()
                },
            )
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise CalibrationError(f"not a calibration table: {error}", where=where) from error

    def save(self, path: Path) -> None:
        """Write the table; same content, same bytes."""
        try:
            path.write_bytes(self.to_json())
        except OSError as error:
            raise CalibrationError(f"cannot be written: {error.strerror}", where=str(path)) from error

    @classmethod
    def load(cls, path: Path) -> CalibrationTable:
        """Read a table file; errors as `from_json`, and where the file can't be read."""
        try:
            return cls.from_json(path.read_bytes(), str(path))
        except OSError as error:
            raise CalibrationError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _histogram_to_json(histogram: Histogram) -> dict[str, object]:
    used = np.flatnonzero(histogram.counts)
    low, high = histogram.range()
    return {"low": low, "high": high, "bins": used.tolist(), "counts": histogram.counts[used].tolist()}


def _histogram_from_json(entry: dict[str, list[int]]) -> Histogram:
    used = entry["bins"]
    if not used:
        return Histogram()
    if min(used) < 0 or max(used) > 0x7FFF or len(used) != len(entry["counts"]):
        raise ValueError("a bin that does not exist")
    counts = np.zeros(max(used) + 1, np.int64)
    counts[used] = entry["counts"]
    return Histogram(counts, float(entry["low"]), float(entry["high"]))  # type: ignore[arg-type]
