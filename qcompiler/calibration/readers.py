"""Files of calibration samples as records: .npz and .npy, folders of them, onnxruntime's test_data_set folders."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from qcompiler.calibration.feeds import ArrayRows, Record, Rows
from qcompiler.calibration.inputs import InputSpec
from qcompiler.errors import CalibrationError

_PICKLE_HINT = "save plain numeric arrays; pickled objects are never loaded"


class ZipRows:
    """A member of an .npz, read a few rows at a time: np.load would hold the whole array."""

    def __init__(self, archive: zipfile.ZipFile, member: str, where: str) -> None:
        self._where = f"{where}: {member.removesuffix('.npy')}"
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        try:
            self._stream: IO[bytes] = archive.open(member)
            version = np.lib.format.read_magic(self._stream)
            self.shape, fortran, self.dtype = read_header[version](self._stream)
        except (ValueError, KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise _unreadable(self._where, error) from error
        if self.dtype.hasobject:
            raise CalibrationError("holds Python objects", where=self._where, hint=_PICKLE_HINT)
        self._next = 0
        self._whole: np.ndarray[Any, Any] | None = None
        if fortran or not self.shape:  # not stored row by row
            flat = self._read(int(np.prod(self.shape)))
            self._whole = flat.reshape(self.shape, order="F" if fortran else "C")

    def take(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """See Rows."""
        if self._whole is not None:
            return self._whole[start:stop] if self.shape else self._whole
        row = int(np.prod(self.shape[1:]))
        stop = min(stop, self.shape[0])
        self._read((start - self._next) * row)
        self._next = stop
        return self._read((stop - start) * row).reshape(stop - start, *self.shape[1:])

    def _read(self, elements: int) -> np.ndarray[Any, Any]:
        wanted = elements * self.dtype.itemsize
        try:
            data = self._stream.read(wanted)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, zlib.error) as error:
            raise _unreadable(self._where, error) from error
        if len(data) != wanted:
            raise CalibrationError("the file ends too early", where=self._where, hint="write it again")
        return np.frombuffer(data, self.dtype)


def read_npz(path: Path, *, many: bool = True) -> Iterator[Record]:
    """One record of all arrays; rows are read as they are asked for."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _unreadable(str(path), error) from error
    with archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        arrays: dict[str, Rows] = {name.removesuffix(".npy"): ZipRows(archive, name, str(path)) for name in members}
        if not arrays:
            raise CalibrationError(
                "holds no arrays", where=str(path), hint="write it with numpy.savez(path, **{input: array})"
            )
        yield Record(str(path), arrays, many)


def read_npy(path: Path) -> ArrayRows:
    """The array, mapped and not loaded."""
    try:
        return ArrayRows(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise CalibrationError("holds Python objects", where=str(path), hint=_PICKLE_HINT) from error
        raise _unreadable(str(path), error) from error


def read_single_npy(path: Path, inputs: Sequence[InputSpec], *, many: bool = True) -> Iterator[Record]:
    """One record of the only input."""
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise CalibrationError(
            f"one .npy for {len(inputs)} inputs ({names})", where=str(path), hint="use an .npz with these keys"
        )
    yield Record(str(path), {inputs[0].name: read_npy(path)}, many)


def read_folder(folder: Path, inputs: Sequence[InputSpec]) -> Iterator[Record]:
    """Each .npz is a batch; .npy are batches of the only input, or `<input>/x.npy` or `<input>_x.npy` for several."""
    npz = sorted(folder.glob("*.npz"), key=_natural)
    npy = sorted(folder.glob("*.npy"), key=_natural)
    if npz:
        for path in npz:
            yield from read_npz(path, many=False)
    elif npy and len(inputs) == 1:
        for path in npy:
            yield from read_single_npy(path, inputs, many=False)
    else:
        yield from _grouped(folder, npy, inputs)


def _grouped(folder: Path, files: Sequence[Path], inputs: Sequence[InputSpec]) -> Iterator[Record]:
    parts: dict[str, dict[str, Path]] = {}
    for spec in inputs:
        directory = folder / _file_name(spec.name)
        if directory.is_dir():
            parts[spec.name] = {path.stem: path for path in directory.glob("*.npy")}
        else:
            match = re.compile(rf"{re.escape(_file_name(spec.name))}[_.-]?(\d*)$").match
            parts[spec.name] = {found[1]: path for path in files if (found := match(path.stem))}
        if not parts[spec.name]:
            raise CalibrationError(
                f"no file for input {spec.name!r}",
                where=str(folder),
                hint=f"name them {_file_name(spec.name)}_0.npy, ... or use .npz files",
            )
    keys = {name: set(files_of) for name, files_of in parts.items()}
    if len({len(found) for found in keys.values()}) > 1 or len(set(map(frozenset, keys.values()))) > 1:
        listed = ", ".join(f"{name} has {len(found)}" for name, found in keys.items())
        raise CalibrationError(
            f"the files don't pair up: {listed}", where=str(folder), hint="give each input the same numbers"
        )
    for key in sorted(next(iter(keys.values())), key=_natural):
        arrays: dict[str, Rows] = {name: read_npy(files_of[key]) for name, files_of in parts.items()}
        yield Record(f"{folder}: sample {key}", arrays, False)


def read_test_data_sets(folders: Sequence[Path], inputs: Sequence[InputSpec]) -> Iterator[Record]:
    """onnxruntime's and ONNX's test folders: input_N.pb is the N-th input, or the one whose name the tensor bears."""
    import onnx
    from onnx import numpy_helper

    known = {spec.name for spec in inputs}
    for folder in folders:
        arrays: dict[str, Rows] = {}
        for path in sorted(folder.glob("input_*.pb"), key=_natural):
            position = int(re.sub(r"\D", "", path.stem) or 0)
            try:
                tensor = onnx.TensorProto.FromString(path.read_bytes())
                array = numpy_helper.to_array(tensor)
            except Exception as error:  # protobuf's own error types differ between its implementations
                raise _unreadable(str(path), error) from error
            if tensor.name not in known and position >= len(inputs):
                raise CalibrationError(
                    f"the model has no input {position}", where=str(path), hint=f"it has {len(inputs)} inputs"
                )
            arrays[tensor.name if tensor.name in known else inputs[position].name] = ArrayRows(array)
        yield Record(str(folder), arrays, False)


def _natural(item: Path | str) -> list[tuple[int, str]]:
    text = item if isinstance(item, str) else item.name
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _unreadable(where: str, error: BaseException) -> CalibrationError:
    return CalibrationError(
        f"cannot be read: {error or type(error).__name__}", where=where, hint="is the file complete?"
    )
