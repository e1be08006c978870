"""The measuring tools: processes, tables, settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import models
from benchmarks import demo, machine, process, settings, table
from benchmarks.bench import ModelBench


@pytest.mark.skipif(sys.platform == "win32", reason="wait4 is POSIX")
def test_a_process_is_measured(tmp_path: Path) -> None:
    ended = process.run(["-c", "import time; x = bytearray(200 << 20); time.sleep(0.2); print('done')"], tmp_path)
    assert (ended.status, ended.out.strip()) == (0, "done")
    assert ended.seconds >= 0.2
    assert ended.peak_mib >= 200


@pytest.mark.skipif(sys.platform == "win32", reason="wait4 is POSIX")
def test_a_process_that_fails_or_hangs_is_reported(tmp_path: Path) -> None:
    ended = process.run(["-c", "raise SystemExit('no such thing')"], tmp_path)
    assert ended.status == 1 and ended.error == "no such thing"
    ended = process.run(["-c", "import time; time.sleep(60)"], tmp_path, timeout=1.0)
    assert ended.status < 0 and ended.error.startswith("killed after 1 s")


def test_results_name_failures_and_hide_paths(tmp_path: Path) -> None:
    ours = {"model": "pp-ocr", "variant": "qcompile ort-cpu", "group": "ours", "file": "/secret/a.onnx", "mib": 1.0}
    rows = [
        {
            **ours,
            "variant": "float32",
            "group": "float",
            "scores": {"cer": 0.03},
            "latency_1": {"ms": 10.0, "ratio": 1.0},
        },
        {**ours, "scores": {"cer": 0.031}, "latency_1": {"ms": 5.0, "ratio": 2.0}, "nvidia": {"verdict": "accepted"}},
        {**ours, "variant": "a", "group": "dynamic", "scores": {"cer": 0.5}},
        {**ours, "variant": "b", "group": "dynamic", "scores": {"cer": 0.04}},
        {**ours, "variant": "static u8s8", "group": "static uint8", "error": "refuses to load"},
    ]
    table.write(tmp_path, {"date": "today"}, rows, (1,), quick=False)
    text = (tmp_path / "RESULTS.md").read_text()
    summary = text.partition("## pp-ocr")[0]
    assert "- static u8s8: refuses to load" in text
    assert "5.00 ms (2.00x)" in summary and "accepted" in summary
    assert "| b |" in summary and "| a |" not in summary, "lower CER is better"
    assert "secret" not in text + (tmp_path / "results.json").read_text()
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == len(rows)


def test_settings_are_unique_and_every_group_is_in_the_short_form() -> None:
    names = [item.name for item in settings.SETTINGS]
    assert len(set(names)) == len(names)
    assert {item.group for item in settings.SETTINGS if item.quick} == {item.group for item in settings.SETTINGS}
    assert settings.setting(names[0]) is settings.SETTINGS[0]


def test_machine_names_processor_and_versions() -> None:
    facts = machine.describe()
    assert facts["processor"] and facts["onnxruntime"] != "not installed"


def test_the_demo_points_to_folders_that_the_benchmark_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written: list[str] = []
    monkeypatch.setattr(ModelBench, "_run", lambda self, words: written.append(words[words.index("-o") + 1]))
    monkeypatch.setattr(ModelBench, "_add", lambda *_, **__: None)
    host = tmp_path / "model.onnx"
    ModelBench(demo.MODELS[0], tmp_path / demo.MODELS[0], quick=True)._ours(host)
    loaded: Any = SimpleNamespace(path=lambda: host)
    monkeypatch.setattr(models, "load", lambda _: loaded)
    text = demo.what_next(tmp_path.resolve())
    assert any(f"In {folder}:" in text for folder in written)
