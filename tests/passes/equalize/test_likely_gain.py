"""The default equalizes where channels behind norms are large and the outputs need it, says so, and else looks only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.cli import main
from qcompiler.diagnostics import Diagnostic
from qcompiler.driver import compile_model
from qcompiler.options import CompileOptions
from qcompiler.plan import QuantPlan
from qcompiler.result import CompileResult
from qcompiler.session import Feeds, Session
from tests.architectures import WIDTH, canonical, vit
from tests.building import build
from tests.passes.equalize.test_decide import planted

RANDOM = np.random.default_rng(8)
FEEDS: list[Feeds] = [{"x": RANDOM.standard_normal((1, 6, WIDTH)).astype(np.float32)} for _ in range(6)]
OPTIONS = CompileOptions(target="ort-cpu-arm64", calib=FEEDS, threads=1, build_check="off", verify=False)
SAID = "channels of 3 of 3 norms are up to"


def findings(result: CompileResult) -> list[Diagnostic]:
    return [item for item in result.diagnostics if item.code in ("QC204", "QC207", "QC209")]


def norms(result: CompileResult) -> dict[str, Any] | None:
    found: dict[str, Any] | None = result.facts["plan"].get("recipe", {}).get("norms")
    return found


def as_bytes(result: CompileResult) -> bytes:
    return bytes(ir.to_proto(result.model).SerializeToString())


@pytest.mark.parametrize("method", ["auto", "minmax"])
def test_the_default_equalizes_large_channels_and_says_so(method: str) -> None:
    options = replace(OPTIONS, **dict[str, Any]({"method": method}))
    model = planted(canonical(vit(1)))
    result = compile_model(model, options)
    (said,) = findings(result)
    assert said.code == "QC209" and said.message.startswith(SAID) and "--equalize none" in said.hint
    assert result.facts["plan"]["equalize"]["method"] == "auto" and result.plan.equalize
    assert result.facts["plan"]["recipe"]["equalize"] == result.options.equalize == "auto"
    found = norms(result)
    assert found is not None and (found["looked_at"], found["large"]) == (3, 3)
    assert found["largest_ratio"] > 50 and found["sqnr"] < 25
    named = compile_model(model, replace(options, equalize="auto"))
    assert named.plan.to_json() == result.plan.to_json() and as_bytes(named) == as_bytes(result)
    assert findings(named) == [] and norms(named) is None


def test_none_is_none() -> None:
    result = compile_model(planted(canonical(vit(1))), replace(OPTIONS, equalize="none"))
    assert findings(result) == [] and "recipe" not in result.facts["plan"] and not result.plan.equalize


def test_outputs_at_the_goal_are_left() -> None:
    result = compile_model(planted(canonical(vit(1))), replace(OPTIONS, goal_sqnr=-50.0))
    found = norms(result)
    assert found is not None and found["large"] == 3 and found["sqnr"] > -50.0
    assert findings(result) == [] and "equalize" not in result.facts["plan"] and result.options.equalize == "none"


def test_channels_that_are_alike_are_left() -> None:
    result = compile_model(vit(1), replace(OPTIONS, goal_sqnr=200.0))
    found = norms(result)
    assert found is not None and found["large"] == 0 and 1 < found["largest_ratio"] < 10 and "sqnr" not in found
    assert findings(result) == [] and result.options.equalize == "none"


@pytest.mark.parametrize(
    "words", [{"bits": "w4a16"}, {"exclude_op": ("MatMul", "Gemm")}], ids=["weights only", "all float"]
)
def test_readers_that_are_not_quantized_are_no_reason(words: dict[str, Any]) -> None:
    target = "orin" if "bits" in words else "ort-cpu-arm64"
    result = compile_model(planted(canonical(vit(1))), replace(OPTIONS, target=target, **words))
    assert findings(result) == [] and norms(result) is None


def test_a_model_without_norms_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcompiler.passes.equalize.likely_gain.first_samples", _never)
    model = build("m (float[N, 4] x) => (float[N, 4] y) { y = MatMul(x, w) }", w=np.eye(4, dtype=np.float32))
    feeds = [{"x": RANDOM.standard_normal((1, 4)).astype(np.float32)} for _ in range(4)]
    assert "recipe" not in compile_model(model, replace(OPTIONS, calib=feeds)).facts["plan"]


def _never(*_: object, **__: object) -> None:
    raise AssertionError("samples were read")


def test_data_that_is_read_once_is_said() -> None:
    def stream() -> Iterator[Feeds]:
        yield from FEEDS

    model = planted(canonical(vit(1)))
    result = compile_model(model, replace(OPTIONS, calib=stream()))
    (said,) = findings(result)
    assert said.code == "QC207" and "read only once" in said.message and "a list" in said.hint
    assert not result.plan.equalize and result.options.equalize == "none"


def test_synthetic_inputs_only_give_a_hint() -> None:
    model = planted(canonical(vit(1)))
    result = compile_model(model, replace(OPTIONS, calib=None))
    (said,) = findings(result)
    assert said.code == "QC207" and said.message.startswith(SAID) and "synthetic" in said.message
    assert said.hint == "give --calib"
    plain = compile_model(model, replace(OPTIONS, calib=None, equalize="none"))
    assert as_bytes(result) == as_bytes(plain) and findings(plain) == []
    assert findings(compile_model(model, replace(OPTIONS, calib=None, goal_sqnr=-50.0))) == []


def test_not_a_number_in_a_norm_stops_nothing() -> None:
    """Where a sample makes one norm NaN, the others are looked at; calibration says what it always said."""
    from qcompiler.passes.equalize.likely_gain import _ratios
    from qcompiler.passes.equalize.sample_rows import Rows

    good, bad, unseen = Rows(3), Rows(3), Rows(3)
    good.add(np.array([[1.0, -2.0, 30.0]], np.float32), 4)
    bad.add(np.array([[1.0, np.nan, 30.0]], np.float32), 4)
    assert _ratios([good, bad, unseen]) == [15.0]


def test_the_plan_of_a_default_compile_gives_the_same_graph(tmp_path: Path) -> None:
    model = planted(canonical(vit(1)))
    result = compile_model(model, OPTIONS)
    path = tmp_path / "plan.json"
    path.write_bytes(result.plan.to_json())
    assert QuantPlan.load(path).equalize == result.plan.equalize != {}
    again = compile_model(model, replace(OPTIONS, plan=path))
    assert findings(again) == [] and norms(again) is None
    first, second = (Session(item.model, threads=1).run(FEEDS[0])["y"] for item in (result, again))
    np.testing.assert_array_equal(first, second)


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, data = tmp_path / "m.onnx", tmp_path / "calib.npz"
    ir.save(planted(canonical(vit(1))), path)
    np.savez(data, x=np.concatenate([feed["x"] for feed in FEEDS]))
    words = [str(path), "--target", "ort-cpu", "--calib", str(data), "--threads", "1"]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0
    assert "rewritten where that is measured to pay" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "-o", str(tmp_path / "none"), "--equalize", "none"]) == 0
    assert "equalize" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [{}, {"equalize": "auto"}, {"rotate": "auto"}], ids=["default", "equalize", "rotate"])
def test_the_plan_of_nothing_taken_is_the_plan_of_none(words: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcompiler.passes.equalize.decide.GAIN", 1000.0)
    monkeypatch.setattr("qcompiler.passes.equalize.decide.GAIN_NODES", 1000.0)
    for name in ("GAIN", "GAIN_NODES"):
        monkeypatch.setattr(f"qcompiler.passes.rotate.search.{name}", 1000.0)
    model = planted(canonical(vit(2, embedded=True)))
    feeds = [{"x": RANDOM.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(6)]
    options = replace(OPTIONS, calib=feeds, goal_sqnr=200.0)
    plain = compile_model(model, replace(options, equalize="none"))
    result = compile_model(model, replace(options, **({"equalize": "none"} | words if words else {})))
    tried = "rotate" if "rotate" in words else "equalize"
    assert result.facts["plan"][tried]["taken"] == "none"
    assert len(result.facts["plan"][tried]["sqnr"]) > 1, "something was tried"
    assert result.plan.to_json() == plain.plan.to_json()
    assert as_bytes(result) == as_bytes(plain)
