"""A compile says where equalization would help, and is silent where it would not; taking nothing changes nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.cli import main
from qcompiler.driver import compile_model
from qcompiler.options import CompileOptions
from qcompiler.session import Feeds
from tests.architectures import WIDTH, canonical, vit
from tests.passes.equalize.test_decide import planted

RANDOM = np.random.default_rng(8)
FEEDS: list[Feeds] = [{"x": RANDOM.standard_normal((1, 6, WIDTH)).astype(np.float32)} for _ in range(6)]
OPTIONS = CompileOptions(target="ort-cpu-arm64", calib=FEEDS, threads=1, build_check="off", goal_sqnr=200.0)


def hints(model: ir.Model, options: CompileOptions) -> list[str]:
    return [item.message for item in compile_model(model, options).diagnostics if item.code == "QC207"]


def test_large_channels_behind_norms_are_named() -> None:
    (line,) = hints(planted(canonical(vit(1))), OPTIONS)
    assert re.match(r"channels of 2 of 2 norms are up to \d+ times the median one, and the outputs stay at", line)
    assert not hints(planted(canonical(vit(1))), replace(OPTIONS, calib=iter(FEEDS))), "data that is read once"


@pytest.mark.parametrize(
    "options",
    [replace(OPTIONS, goal_sqnr=-50.0), replace(OPTIONS, equalize="smooth"), replace(OPTIONS, method="minmax")],
    ids=["goal reached", "asked for", "not measured"],
)
def test_no_hint_without_need(options: CompileOptions) -> None:
    assert not hints(planted(canonical(vit(1))), options)


def test_no_hint_where_channels_are_alike() -> None:
    assert not hints(vit(1), OPTIONS)


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, data = tmp_path / "m.onnx", tmp_path / "calib.npz"
    ir.save(planted(canonical(vit(1))), path)
    np.savez(data, x=np.concatenate([feed["x"] for feed in FEEDS]))
    words = [str(path), "--target", "ort-cpu", "--calib", str(data), "--goal-sqnr", "200", "--threads", "1"]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0
    assert "--equalize auto would likely help" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("word", ["equalize", "rotate"])
def test_the_plan_of_nothing_taken_is_the_plan_of_none(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcompiler.passes.equalize.decide.GAIN", 1000.0)
    monkeypatch.setattr("qcompiler.passes.equalize.decide.GAIN_NODES", 1000.0)
    for name in ("GAIN", "GAIN_NODES"):
        monkeypatch.setattr(f"qcompiler.passes.rotate.search.{name}", 1000.0)
    model = planted(canonical(vit(2, embedded=True)))
    feeds = [{"x": RANDOM.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(6)]
    plain = compile_model(model, replace(OPTIONS, calib=feeds))
    options = replace(OPTIONS, calib=feeds)
    result = compile_model(model, replace(options, **dict[str, Any]({word: "auto"})))
    assert result.facts["plan"][word]["taken"] == "none"
    assert len(result.facts["plan"][word]["sqnr"]) > 1, "something was tried"
    assert result.plan.to_json() == plain.plan.to_json()
    assert ir.to_proto(result.model).SerializeToString() == ir.to_proto(plain.model).SerializeToString()
