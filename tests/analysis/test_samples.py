"""What is held back, and that it is nowhere else."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.samples import CalibrationSet, hold_back, samples_of, survey
from qcompiler.calibration.data import Source, input_specs, open_source
from qcompiler.calibration.masks import without_padding
from qcompiler.diagnostics import DiagnosticLog
from qcompiler.session import Feeds

MODEL = ir.from_onnx_text("""<ir_version: 8, opset_import: ["" : 17]>
m (int64[batch, seq] input_ids, int64[batch, seq] attention_mask) => (int64[batch, seq] y) {
  y = Add(input_ids, attention_mask) }""")


def source(rows: list[Feeds]) -> Source:
    return open_source(rows, input_specs(MODEL))


def row(value: int, real: int = 4, batch: int = 1) -> Feeds:
    mask = np.repeat((np.arange(4) < real).astype(np.int64)[None], batch, axis=0)
    return {"input_ids": np.full((batch, 4), value, np.int64), "attention_mask": mask}


def surveyed(name: str, values: range) -> CalibrationSet:
    return survey(name, source([row(value) for value in values]))


def test_batches_are_cut_to_samples() -> None:
    found = survey("a", source([row(1, batch=3), row(2)]))
    assert len(found.digests) == 4
    assert found.digests[0] == found.digests[1] != found.digests[3]


def test_held_back_samples_are_spread_and_in_no_set() -> None:
    log = DiagnosticLog()
    first, second = surveyed("a", range(40)), surveyed("b", range(20, 70))
    sets, held = hold_back([first, second], 8, log)
    assert len(held) == 8
    assert max(held) - min(held) > 20
    forbidden = {first.digests[index] for index in held}
    for item in sets:
        assert not forbidden & {item.digests[index] for index in item.used}
    assert len(sets[0].used) == len(sets[1].used) == 32
    assert [item.code for item in log] == ["QC211"]  # b holds some of them
    assert len(list(sets[1].pool())) == 32


def test_at_most_a_quarter_is_held_back() -> None:
    sets, held = hold_back([surveyed("a", range(8))], 8, DiagnosticLog())
    assert len(held) == 2
    assert len(sets[0].used) == 6


def test_a_lone_sample_serves_both_and_says_so() -> None:
    log = DiagnosticLog()
    sets, held = hold_back([surveyed("a", range(1))], 8, log)
    assert (held, sets[0].used) == ([0], (0,))
    assert [item.code for item in log][-1] == "QC201"


def test_samples_that_are_judged_elsewhere_are_left_out() -> None:
    first = surveyed("a", range(10))
    sets, held = hold_back([first], 8, DiagnosticLog(), validation=[first.digests[3]])
    assert held == []
    assert 3 not in sets[0].used
    assert len(sets[0].used) == 9


def test_padding_is_cut_off_behind_and_only_there() -> None:
    inputs = input_specs(MODEL)
    cut = without_padding(dict(row(7, real=2)), inputs)
    assert {name: array.shape for name, array in cut.items()} == {"input_ids": (1, 2), "attention_mask": (1, 2)}
    left = dict(row(7, real=2))
    left["attention_mask"] = left["attention_mask"][:, ::-1].copy()
    assert without_padding(left, inputs)["input_ids"].shape == (1, 4)
    assert next(samples_of(source([row(1)])))["input_ids"].shape == (1, 4)
