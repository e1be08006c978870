"""Calibration data of every kind gives the same checked feeds."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from qcompiler.calibration.data import InputSpec, input_specs, open_source
from qcompiler.calibration.feeds import SMALL_BATCH
from qcompiler.errors import CalibrationError

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
TOKENS = (InputSpec("ids", I64, ("batch", "seq")), InputSpec("mask", I64, ("batch", "seq")))
IMAGE = (InputSpec("x", F32, (1, 3, 4, 4)),)
FREE_IMAGE = (InputSpec("x", F32, ("n", 3, 4, 4)),)


def _shapes(source: Any, name: str) -> list[tuple[int, ...]]:
    return [feed[name].shape for feed in source]


def _tokens(rows: int, seq: int = 5) -> dict[str, Any]:
    ids = np.arange(rows * seq).reshape(rows, seq)
    return {"ids": ids, "mask": np.ones_like(ids)}


def test_input_specs_leave_out_initializers_and_keep_names() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 17]>'
        "m (int64[b, 5] k, float16 t, float[2] w) => (int64[b, 5] y) <float[2] w = {1., 2.}> { y = Identity (k) }"
    )
    specs = input_specs(model)
    assert specs == (InputSpec("k", I64, ("b", 5)), InputSpec("t", np.dtype(np.float16), ()))
    assert str(specs[0]) == "k int64[b, 5]"


class Reader:
    def __init__(self, count: int = 3) -> None:
        self.left = count

    def get_next(self) -> dict[str, Any] | None:
        self.left -= 1
        return _tokens(2) if self.left >= 0 else None


class RewindingReader(Reader):
    def rewind(self) -> None:
        self.left = 3


def _generator() -> Iterator[dict[str, Any]]:
    for _ in range(3):
        yield _tokens(2)


@pytest.mark.parametrize(
    ("data", "name", "again"),
    [
        ([_tokens(2)] * 3, "iterable", True),
        ((_tokens(2) for _ in range(3)), "iterable", False),
        (_generator, "iterable", True),
        (Reader(), "ort-reader", False),
        (RewindingReader(), "ort-reader", True),
        (Reader, "ort-reader", True),
    ],
    ids=["list", "generator", "function", "reader", "rewinding", "reader-class"],
)
def test_python_objects(data: Any, name: str, again: bool) -> None:
    source = open_source(data, TOKENS)
    assert source.name == name
    assert (source.count, source.fingerprint) == (0, "")
    assert _shapes(source, "ids") == [(2, 5)] * 3
    assert source.count == 6
    fingerprint = source.fingerprint
    if again:
        assert len(list(source)) == 3
        assert source.fingerprint == fingerprint
    else:
        with pytest.raises(CalibrationError, match="only once"):
            list(source)


def test_the_same_samples_have_the_same_fingerprint_whatever_holds_them(tmp_path: Path) -> None:
    arrays = _tokens(3)
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    spelled = {name: array.astype(np.int32).tolist() for name, array in arrays.items()}
    prints = set()
    for data in (tmp_path / "a.npz", str(tmp_path / "b.npz"), arrays, [arrays], spelled):
        source = open_source(data, TOKENS)
        list(source)
        prints.add(source.fingerprint)
    assert len(prints) == 1
    other = open_source({**arrays, "ids": arrays["ids"] + 1}, TOKENS)
    list(other)
    assert other.fingerprint not in prints


def test_many_samples_go_in_small_batches_and_a_callers_batches_stay(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **_tokens(20))
    source = open_source(tmp_path / "a.npz", TOKENS)
    assert _shapes(source, "ids") == [(SMALL_BATCH, 5), (SMALL_BATCH, 5), (4, 5)]
    assert np.array_equal(np.concatenate([feed["ids"] for feed in source]), _tokens(20)["ids"])
    assert source.count == 20
    assert _shapes(open_source([_tokens(20)], TOKENS), "ids") == [(20, 5)]


@pytest.mark.parametrize("inputs", [IMAGE, FREE_IMAGE])
@pytest.mark.parametrize("shape", [(6, 3, 4, 4), (6, 1, 3, 4, 4), (3, 4, 4)])
def test_samples_are_cut_to_the_models_batch(tmp_path: Path, shape: tuple[int, ...], inputs: Any) -> None:
    array = np.random.default_rng(0).standard_normal(shape)
    np.savez(tmp_path / "a.npz", x=array)
    np.save(tmp_path / "a.npy", array)
    for path in ("a.npz", "a.npy"):
        source = open_source(tmp_path / path, inputs)
        feeds = list(source)
        assert all(feed["x"].shape[1:] == (3, 4, 4) and feed["x"].dtype == np.float32 for feed in feeds)
        assert np.array_equal(np.concatenate([feed["x"] for feed in feeds]).ravel(), array.astype(np.float32).ravel())
        assert source.count == (1 if len(shape) == 3 else 6)
        if inputs is IMAGE or len(shape) == 5:
            assert {feed["x"].shape[0] for feed in feeds} == {1}


def test_batches_of_a_fixed_size() -> None:
    inputs = (InputSpec("x", F32, (4, 2)),)
    assert _shapes(open_source({"x": np.ones((12, 2))}, inputs), "x") == [(4, 2)] * 3


def test_vectors_of_symbolic_length_are_not_split() -> None:
    inputs = (InputSpec("ids", I64, ("T",)),)
    assert _shapes(open_source({"ids": np.arange(100)}, inputs), "ids") == [(100,)]
    assert _shapes(open_source({"ids": np.ones((4, 100), int)}, inputs), "ids") == [(100,)] * 4


def test_ragged_batches_pass() -> None:
    feeds = [_tokens(1 + index % 3, 3 + index) for index in range(6)]
    source = open_source(feeds, TOKENS)
    assert _shapes(source, "ids") == [feed["ids"].shape for feed in feeds]
    assert source.count == 12


def test_empty_caches_and_scalars_pass() -> None:
    inputs = (InputSpec("past", F32, ("batch", 2, "past_len", 4)), InputSpec("scale", F32, ()))
    (feed,) = open_source([{"past": np.zeros((1, 2, 0, 4)), "scale": 2.0}], inputs)
    assert feed["past"].shape == (1, 2, 0, 4)
    assert feed["scale"].shape == ()


def test_fortran_order_in_an_npz(tmp_path: Path) -> None:
    array = np.asfortranarray(np.random.default_rng(0).standard_normal((5, 3, 4, 4)).astype(np.float32))
    np.savez(tmp_path / "a.npz", x=array)
    assert np.array_equal(np.concatenate([feed["x"] for feed in open_source(tmp_path / "a.npz", IMAGE)]), array)


def test_max_samples_stops_early(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **_tokens(100))
    source = open_source(tmp_path / "a.npz", TOKENS, max_samples=11)
    assert _shapes(source, "ids") == [(8, 5), (3, 5)]
    assert source.count == 11


def _folder_npz(folder: Path) -> None:
    for index in (10, 2):
        np.savez(folder / f"s{index}.npz", ids=np.full((1, index), index), mask=np.ones((1, index), int))


def _folder_npy(folder: Path) -> None:
    for index in (10, 2):
        np.save(folder / f"ids_{index}.npy", np.full((1, index), index))
        np.save(folder / f"mask_{index}.npy", np.ones((1, index), int))


def _folder_of_folders(folder: Path) -> None:
    for name, value in (("ids", 0), ("mask", 1)):
        (folder / name).mkdir()
        for index in (10, 2):
            np.save(folder / name / f"{index}.npy", np.full((1, index), value or index))


def _test_data_sets(folder: Path) -> None:
    for number, index in ((0, 2), (1, 10)):
        at = folder / f"test_data_set_{number}"
        at.mkdir()
        for position, value in ((0, index), (1, 1)):
            tensor = numpy_helper.from_array(np.full((1, index), value), "" if number else ("ids", "mask")[position])
            (at / f"input_{position}.pb").write_bytes(tensor.SerializeToString())
        (at / "output_0.pb").write_bytes(onnx.TensorProto().SerializeToString())


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (_folder_npz, "folder"),
        (_folder_npy, "folder"),
        (_folder_of_folders, "folder"),
        (_test_data_sets, "test_data_set"),
    ],
)
def test_folders_are_read_in_natural_order(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    make(tmp_path)
    source = open_source(tmp_path, TOKENS)
    assert source.name == name
    assert [int(feed["ids"][0, 0]) for feed in source] == [2, 10]
    assert all(feed["mask"].all() for feed in source)


def test_a_single_test_data_set_and_a_folder_of_npy_for_one_input(tmp_path: Path) -> None:
    _test_data_sets(tmp_path)
    assert _shapes(open_source(tmp_path / "test_data_set_1", TOKENS), "ids") == [(1, 10)]
    (tmp_path / "npy").mkdir()
    for index in range(3):
        np.save(tmp_path / "npy" / f"{index}.npy", np.zeros((2, 3, 4, 4)))
    assert _shapes(open_source(tmp_path / "npy", FREE_IMAGE), "x") == [(2, 3, 4, 4)] * 3


def test_a_factory_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_calibration_module.py").write_text(
        "import numpy as np\n"
        "def batches():\n    for n in (3, 4):\n        yield dict.fromkeys(('ids', 'mask'), np.ones((1, n), int))\n"
        "ready = [dict.fromkeys(('ids', 'mask'), np.ones((1, 2), int))]\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    source = open_source("my_calibration_module:batches", TOKENS)
    assert _shapes(source, "ids") == _shapes(source, "ids") == [(1, 3), (1, 4)]
    assert _shapes(open_source("my_calibration_module:ready", TOKENS), "ids") == [(1, 2)]
    assert sys.path == before


def test_rows_of_an_npz_are_read_as_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((64, 3, 4, 4), np.float32))
    taken: list[int] = []
    read = zipfile.ZipExtFile.read

    def counting(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        data = read(self, n)
        taken.append(len(data))
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counting)
    feeds = iter(open_source(tmp_path / "a.npz", IMAGE))
    next(feeds)
    assert sum(taken) < 1000 < 64 * 192
    assert len(list(feeds)) == 63
