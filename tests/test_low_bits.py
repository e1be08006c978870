"""The table of methods by bits: what is compiled, what is kept, what a reader sees."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import low_bits, process
from benchmarks.low_bits import Case, Study, compile_command, draw, methods
from benchmarks.low_bits_table import low_bits_table

CASE = Case("minilm", "w6a6", "none", ("--equalize", "none"), 0, "ort-cpu", True)


def row(bits: str, method: str, seed: int, **more: Any) -> dict[str, Any]:
    case = Case("minilm", bits, method, (), seed, "ort-cpu", False)
    return case.key | {"float": {"spearman": 0.8}} | more


def test_methods_are_words_and_sets() -> None:
    found = methods(["none", "smooth"], ["both=--equalize auto --passes '+a,-b'"])
    assert found == {
        "none": ("--equalize", "none"), "smooth": ("--equalize", "smooth"),
        "both": ("--equalize", "auto", "--passes", "+a,-b"),
    }  # fmt: skip
    with pytest.raises(ValueError, match="NAME=ARGUMENTS"):
        methods([], ["--equalize"])


def test_what_a_set_says_of_float_shares_comes_last(tmp_path: Path) -> None:
    case = Case("minilm", "w6a6", "mixed", ("--float-share", "0.1"), 2, "orin", False)
    command = compile_command(case, tmp_path / "m.onnx", tmp_path / "c", tmp_path / "b")
    shares = [command[index + 1] for index, word in enumerate(command) if word == "--float-share"]
    assert shares == ["0", "0.1"]
    assert command[command.index("--bits") + 1] == "w6a6"
    assert command[command.index("--seed") + 1] == "2"


def test_draws_are_three_quarters_and_repeat(tmp_path: Path) -> None:
    source = tmp_path / "calibration"
    source.mkdir()
    for index in range(8):
        (source / f"{index:04d}.npz").write_bytes(bytes([index]))
    assert draw(source, 0, tmp_path / "none") == source
    one, again, other = (
        sorted(path.name for path in draw(source, seed, tmp_path / name).iterdir())
        for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert len(one) == 6
    assert one == again != other
    assert (tmp_path / "a" / one[0]).read_bytes() == (source / one[0]).read_bytes()


def test_finished_rows_are_kept_and_failed_ones_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Case] = []

    def measured(self: Study, cases: list[Case]) -> list[dict[str, Any]]:
        runs.extend(cases)
        return [cases[0].key | ({"error": "broken"} if len(runs) == 1 else {"scores": {"cosine": 0.9}, "float": {}})]

    monkeypatch.setattr(Study, "_measured", measured)
    for expected in (1, 2, 2):
        study = Study(tmp_path)
        study.measure([CASE])
        assert len(runs) == expected
        assert len(study.rows) == 1
    assert json.loads((tmp_path / "rows.json").read_text())["rows"][0]["scores"] == {"cosine": 0.9}


def test_bundles_of_a_draw_are_scored_together_and_a_failed_compile_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "calibration").mkdir()
    monkeypatch.setattr(low_bits, "get", lambda model, with_score: tmp_path)
    scores = [{"measures": {"top1": {"value": value}}, "fidelity": {"kl": value}} for value in (0.9, 0.8)]
    answers = [
        process.Finished(2, 1.0, 10.0, "", "qcompile: error: no"),
        process.Finished(0, 2.0, 20.0, "", ""),
        process.Finished(0, 3.0, 30.0, json.dumps({"scores": scores}), ""),
    ]
    commands: list[list[str]] = []

    def ended(command: list[str], *_: object) -> process.Finished:
        commands.append(command)
        return answers[len(commands) - 1]

    monkeypatch.setattr(process, "run", ended)
    study = Study(tmp_path / "out")
    study.measure([CASE, replace(CASE, bits="w4a4")])
    broken, good = study.rows
    assert (broken["error"], broken["bits"]) == ("qcompile: error: no", "w6a6")
    assert (good["scores"], good["float"], good["seconds"]) == ({"top1": 0.8, "kl": 0.8}, {"top1": 0.9}, 2.0)
    assert commands[2].count("--onnx") == 1 and commands[1][-2] in commands[2]


def test_a_scoring_that_fails_is_an_error_of_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "calibration").mkdir()
    monkeypatch.setattr(low_bits, "get", lambda model, with_score: tmp_path)
    answers = iter([process.Finished(0, 1.0, 1.0, "", ""), process.Finished(3, 1.0, 1.0, "", "models: error: bad")])
    monkeypatch.setattr(process, "run", lambda *_: next(answers))
    assert Study(tmp_path / "out")._measured([CASE])[0]["error"] == "models: error: bad"


def test_the_table_has_mean_and_range() -> None:
    rows = [
        row("w4a4", "none", 0, scores={"spearman": 0.1, "cosine": 0.5}),
        row("w8a8", "none", 0, scores={"spearman": 0.7, "cosine": 0.9}),
        row("w8a8", "none", 1, scores={"spearman": 0.5, "cosine": 0.9}),
        row("w8a8", "smooth", 0, error="a | b"),
    ]
    lines = low_bits_table(rows).splitlines()
    assert lines[0] == "## minilm, ort-cpu"
    assert lines[4] == "| bits | method | spearman | cosine |"
    assert lines[6] == "| float | | 0.8000 |  |"
    assert lines[7] == "| w8a8 | none | 0.6000 [0.5000, 0.7000] | 0.9000 [0.9000, 0.9000] |"
    assert lines[8] == "| w8a8 | smooth |  |  | failed: a / b"
    assert lines[9] == "| w4a4 | none | 0.1000 | 0.5000 |"


def test_unknown_models_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        low_bits.main(["--models", "nothing"])
    assert "unknown model 'nothing'" in capsys.readouterr().err
