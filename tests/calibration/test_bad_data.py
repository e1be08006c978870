"""Bad calibration data: one line that names the place, the input and the fix."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.calibration.data import InputSpec, open_source
from qcompiler.errors import CalibrationError, ExitCode

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
TOKENS = (InputSpec("ids", I64, ("batch", "seq")), InputSpec("mask", I64, ("batch", "seq")))
IMAGE = (InputSpec("x", F32, (1, 3, 4, 4)),)
BATCH_OF_4 = (InputSpec("x", F32, (4, 2)),)
ONES = np.ones((2, 3), np.int64)
GOOD = {"ids": ONES, "mask": ONES}


def _npz(**arrays: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.savez(folder / "d.npz", **arrays)
        return folder / "d.npz"

    return make


def _bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _cut_npz(folder: Path) -> Path:
    path = _npz(ids=np.ones((500, 30), int), mask=np.ones((500, 30), int))(folder)
    path.write_bytes(path.read_bytes()[:9000])
    return path


def _damaged_npz(folder: Path) -> Path:
    path = _npz(ids=np.ones((5, 30), int), mask=np.ones((5, 30), int))(folder)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(bytes(content))
    return path


def _cut_npy(folder: Path) -> Path:
    np.save(folder / "d.npy", np.ones((9, 3, 4, 4), np.float32))
    (folder / "d.npy").write_bytes((folder / "d.npy").read_bytes()[:400])
    return folder / "d.npy"


def _pickled_npy(folder: Path) -> Path:
    np.save(folder / "d.npy", np.array([{"a": 1}], object), allow_pickle=True)
    return folder / "d.npy"


def _npy(array: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.save(folder / "d.npy", array)
        return folder / "d.npy"

    return make


def _empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def _unpaired(folder: Path) -> Path:
    for name, count in (("ids", 3), ("mask", 2)):
        for index in range(count):
            np.save(folder / f"{name}_{index}.npy", ONES)
    return folder


def _one_input_only(folder: Path) -> Path:
    np.save(folder / "ids_0.npy", ONES)
    return folder


def _bad_pb(folder: Path) -> Path:
    (folder / "input_0.pb").write_bytes(b"\xff\xff\xff")
    return folder


def _stop_with_error() -> Any:
    yield GOOD
    raise RuntimeError("the disk\nis gone")


class _BrokenReader:
    def get_next(self) -> Any:
        raise OSError("no dataset")


def _broken_factory() -> Any:
    raise KeyError("root")


def _data(value: Any) -> Callable[[Path], Any]:
    return lambda folder: value


CASES: dict[str, tuple[Callable[[Path], Any], Any, str]] = {
    "missing-input": (_npz(ids=ONES), TOKENS, r"d\.npz: input 'mask' of the model is missing"),
    "misspelled-input": (_npz(ids=ONES, maks=ONES), TOKENS, r"input 'mask' .* missing \(rename 'maks'\)"),
    "unknown-key": (_npz(**GOOD, idss=ONES), TOKENS, r"'idss' is no input .*\(did you mean ids"),
    "labels": (_npz(**GOOD, labels=ONES), TOKENS, r"'labels' is no input .*no labels"),
    "y": (_data({**GOOD, "y": [1, 2]}), TOKENS, r"'y' is no input .*no labels"),
    "wrong-rank": (_npz(ids=np.ones((2, 3, 4, 5), int), mask=ONES), TOKENS, r"'ids' has 4 dimensions .* takes 2"),
    "wrong-size": (
        _npz(x=np.ones((2, 1, 4, 4))),
        IMAGE,
        r"'x' has size 1 on axis 1, the model takes 3 \(the input is x",
    ),
    "partial-batch": (_data({"x": np.ones((6, 2))}), BATCH_OF_4, r"holds 6 samples, the model takes batches of 4"),
    "float-for-int": (
        _npz(ids=ONES * 1.5, mask=ONES),
        TOKENS,
        r"'ids' is float64, the model takes int64 \(store it with",
    ),
    "text": (_data({"ids": [["a"]], "mask": [[1]]}), TOKENS, r"'ids' has type <U1, the model takes int64"),
    "complex": (_data({"x": np.ones((1, 3, 4, 4), complex)}), IMAGE, r"'x' has type complex128"),
    "int-overflow": (
        _data([{"x": np.full((1, 2), 300)}]),
        (InputSpec("x", np.dtype(np.uint8), ("n", 2)),),
        r"holds 300\.\.300, which uint8 can't",
    ),
    "nan": (_npz(x=np.full((1, 3, 4, 4), np.nan)), IMAGE, r"d\.npz: input 'x' holds NaN or infinite"),
    "infinity": (_npz(x=np.full((1, 3, 4, 4), np.inf)), IMAGE, r"'x' holds NaN or infinite"),
    "double-too-large": (_npz(x=np.full((1, 3, 4, 4), 1e300)), IMAGE, r"'x' holds NaN or infinite"),
    "no-rows": (_npz(ids=np.ones((0, 3), int), mask=np.ones((0, 3), int)), TOKENS, r"'ids' is empty: shape \[0, 3\]"),
    "object-npz": (
        _npz(ids=np.array([[1], [1, 2]], object), mask=ONES),
        TOKENS,
        r"ids: holds Python objects .*pickled",
    ),
    "object-dict": (_data({"ids": np.array([None]), "mask": ONES}), TOKENS, r"'ids' holds Python objects"),
    "ragged-list": (_data([{"ids": [[1], [1, 2]], "mask": ONES}]), TOKENS, r"batch 0: input 'ids' is no array"),
    "pickled-npy": (_pickled_npy, IMAGE, r"d\.npy: holds Python objects"),
    "cut-npz": (_cut_npz, TOKENS, r"d\.npz: cannot be read"),
    "damaged-npz": (_damaged_npz, TOKENS, r"d\.npz: .*cannot be read"),
    "cut-npy": (_cut_npy, IMAGE, r"d\.npy: cannot be read"),
    "text-as-npz": (_bytes("d.npz", b"hello"), TOKENS, r"d\.npz: cannot be read"),
    "empty-npz": (_npz(), TOKENS, r"d\.npz: holds no arrays"),
    "zero-byte-npy": (_bytes("d.npy", b""), IMAGE, r"d\.npy: cannot be read"),
    "ragged-counts": (
        _npz(ids=ONES, mask=np.ones((5, 3), int)),
        TOKENS,
        r"disagree on the number of samples: ids has 2, mask has 5",
    ),
    "npy-for-two-inputs": (_npy(ONES), TOKENS, r"one \.npy for 2 inputs \(ids, mask\)"),
    "csv": (_bytes("d.csv", b"1,2"), TOKENS, r"a \.csv file is no calibration data"),
    "no-such-file": (
        lambda folder: _npz(ids=ONES)(folder).with_name("e.npz"),
        TOKENS,
        r"no such file .*near it: d\.npz",
    ),
    "no-such-folder": (lambda folder: folder / "a" / "b", TOKENS, r"no such file or folder"),
    "empty-folder": (_empty_folder, TOKENS, r"the folder holds no samples"),
    "unpaired-files": (_unpaired, TOKENS, r"don't pair up: ids has 3, mask has 2"),
    "files-of-one-input": (_one_input_only, TOKENS, r"no file for input 'mask' \(name them mask_0\.npy"),
    "bad-pb": (_bad_pb, TOKENS, r"input_0\.pb: cannot be read"),
    "no-module": (
        _data("no_such_module_here:make"),
        TOKENS,
        r"no_such_module_here:make: no module 'no_such_module_here'",
    ),
    "no-attribute": (_data("math:batches"), TOKENS, r"'math' has no attribute 'batches'"),
    "factory-needs-arguments": (_data("math:sqrt"), TOKENS, r"the factory raised TypeError"),
    "factory-raises": (_data(_broken_factory), TOKENS, r"the factory raised KeyError: 'root'"),
    "iterable-raises": (_data(_stop_with_error()), TOKENS, r"the iterable raised RuntimeError: the disk \("),
    "reader-raises": (_data(_BrokenReader()), TOKENS, r"get_next\(\) raised OSError: no dataset"),
    "no-batches": (_data([]), TOKENS, r"no samples \(give feeds of ids int64\[batch, seq\], mask"),
    "not-dicts": (_data([ONES]), TOKENS, r"batch 0: expected a dict .*, got ndarray"),
    "a-number": (_data(3), TOKENS, r"int gives no calibration data"),
    "empty-dicts": (_data([{}]), TOKENS, r"batch 0: holds no arrays \(store ids int64"),
}


@pytest.mark.parametrize(("make", "inputs", "message"), CASES.values(), ids=CASES.keys())
def test_bad_data_is_one_line_that_says_what_where_and_the_fix(
    tmp_path: Path, make: Callable[[Path], Any], inputs: Any, message: str
) -> None:
    with pytest.raises(CalibrationError) as caught:
        list(open_source(make(tmp_path), inputs))
    text = str(caught.value)
    assert re.search(message, text), text
    assert "\n" not in text
    assert caught.value.hint, text
    assert caught.value.exit_code == ExitCode.CALIBRATION


def test_options_that_make_no_sense() -> None:
    with pytest.raises(CalibrationError, match="max_samples is 0"):
        open_source(GOOD, TOKENS, max_samples=0)
    with pytest.raises(CalibrationError, match="preprocess is for image folders"):
        open_source(GOOD, TOKENS, preprocess="imagenet")
