"""The table of all entries: what is run, kept, chosen and shown, with quantizers that only pretend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import process
from benchmarks.process import Finished
from benchmarks.settings import SETTINGS
from models import command, scores
from models.zoo import RealModel

NAME = "typeseg-unet"
BROKEN = "static u8s8, percentile"
NEAREST = {"qcompile ort-cpu": 0.99, "static u8u8": 0.98, "dynamic u8": 0.97}


class Pretended:
    """In place of `process.run`: writes the files that a quantizer would, scores by NEAREST, counts the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.scoring_fails = False

    def __call__(self, arguments: Sequence[str], folder: Path, timeout: float = 0.0) -> Finished:
        words = list(arguments)
        if words[1] == "models":
            self.calls.append("score")
            if self.scoring_fails:
                return Finished(-9, 1.0, 1.0, "", "killed after 14400 s; ")
            files = [words[i + 1] for i, word in enumerate(words) if word == "--onnx"]
            rows = [self._row("float32", 1.0)] + [self._row(file, self._agreement(file)) for file in files]
            return Finished(0, 1.0, 1.0, json.dumps({"scores": rows}), "")
        if words[1] == "qcompiler":
            self.calls.append("qcompile ort-cpu")
            Path(words[words.index("-o") + 1]).mkdir()
            return Finished(0, 2.0, 100.0, "", "")
        if words[2] == "prepare":
            Path(words[4]).write_bytes(b"prepared")
            return Finished(0, 1.0, 1.0, "", "")
        setting = words[words.index("--setting") + 1]
        self.calls.append(setting)
        if setting == BROKEN:
            return Finished(1, 1.0, 1.0, "", "ValueError: no range")
        Path(words[4]).write_bytes(b"quantized")
        return Finished(0, 3.0, 200.0, "", "")

    def _agreement(self, file: str) -> float:
        names = {name.replace(" ", "-").replace(",", ""): value for name, value in NEAREST.items()}
        return names.get(Path(file).stem, 0.99 if Path(file).name == "bundle" else 0.5)

    def _row(self, file: str, agreement: float) -> dict[str, object]:
        accuracy = {"value": 0.9, "low": 0.8, "high": 0.95, "items": 48}
        fidelity = {} if file == "float32" else {"agreement": agreement, "kl": 0.01}
        return {"file": file, "measures": {"byte_accuracy": accuracy}, "fidelity": fidelity}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretended:
    def got(model: RealModel, *, with_score: bool) -> Path:
        folder: Path = tmp_path / "cache" / model.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(b"model")
        return folder

    pretended = Pretended()
    monkeypatch.setenv("QCOMPILE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("QCOMPILE_DATA", raising=False)
    monkeypatch.setattr(process, "run", pretended)
    monkeypatch.setattr(scores, "get", got)
    return pretended


def table(tmp_path: Path, *words: str) -> tuple[int, str]:
    out = tmp_path / "SCORES.md"
    status = command.main(["scores", "--models", NAME, "--out", str(out), "--date", "today", *words])
    return status, out.read_text()


def test_the_table_has_the_nearest_of_each_group(run: Pretended, tmp_path: Path) -> None:
    status, text = table(tmp_path)
    assert status == 0
    rows = [line.split(" | ")[1] for line in text.splitlines() if line.startswith(f"| {NAME}")]
    assert rows == ["float32", "qcompile ort-cpu", "static u8u8", "dynamic u8"]
    assert "0.9000 [0.8000, 0.9500] of 48" in text and "agreement 0.9800; KL 0.0100" in text
    assert f"- {NAME}, {BROKEN}: ValueError: no range" in text, "a failure is shown as one"
    assert "not measured: paraphrase-minilm" in text and "Data: registry" in text and "today" in text
    tried = {item.name for item in SETTINGS if item.group in scores.GROUPS}
    assert set(run.calls) == {"score", "qcompile ort-cpu", *tried}
    kept = {file.name for file in (tmp_path / "cache" / NAME / "scores").iterdir()}
    assert kept == {"prepared.onnx", "rows-registry.json"}, "quantized files would fill the disk"


def test_a_second_call_does_only_what_failed(run: Pretended, tmp_path: Path) -> None:
    table(tmp_path)
    run.calls.clear()
    _, text = table(tmp_path)
    assert run.calls == [BROKEN] and "ValueError: no range" in text
    run.calls.clear()
    table(tmp_path, "--again")
    assert "qcompile ort-cpu" in run.calls


def test_scoring_that_dies_is_a_failure_of_ours(run: Pretended, tmp_path: Path) -> None:
    run.scoring_fails = True
    status, text = table(tmp_path)
    assert status == 1
    assert f"| {NAME} | qcompile ort-cpu | failed: killed after 14400 s;" in text
    run.scoring_fails = False
    assert table(tmp_path)[0] == 0


def test_the_short_form_is_kept_apart(run: Pretended, tmp_path: Path) -> None:
    status, text = table(tmp_path, "--quick")
    assert status == 0 and "Not for quoting" in text
    quick = {item.name for item in SETTINGS if item.group in scores.GROUPS and item.quick}
    assert set(run.calls) == {"score", "qcompile ort-cpu", *quick}
    assert (tmp_path / "cache" / NAME / "scores" / "rows-registry-quick.json").exists()
