"""Diagnostics: their line, their JSON, their order."""

from __future__ import annotations

import pytest

from qcompiler.diagnostics import Diagnostic, DiagnosticLog, Severity


@pytest.mark.parametrize(
    ("diagnostic", "line"),
    [
        (
            Diagnostic("QC504", Severity.ERROR, "/enc/q", "the zero point is not 0", "make it symmetric"),
            "QC504 error /enc/q: the zero point is not 0 (make it symmetric)",
        ),
        (Diagnostic("QC301", Severity.WARNING, "", "nothing is quantized"), "QC301 warning nothing is quantized"),
    ],
)
def test_line(diagnostic: Diagnostic, line: str) -> None:
    assert str(diagnostic) == line


def test_json_holds_plain_strings() -> None:
    found = Diagnostic("QC402", Severity.INFO, "pass", "matched nothing").to_json()
    assert found == {"code": "QC402", "severity": "info", "where": "pass", "message": "matched nothing", "hint": ""}
    assert type(found["severity"]) is str


def test_log_keeps_order_and_filters_by_severity() -> None:
    log = DiagnosticLog()
    log.add("QC101", Severity.ERROR, "a", "first")
    log.extend([Diagnostic("QC102", Severity.INFO, "b", "second"), Diagnostic("QC103", Severity.WARNING, "c", "third")])
    assert [item.code for item in log] == ["QC101", "QC102", "QC103"]
    assert len(log) == 3
    assert [item.code for item in log.at_least(Severity.INFO)] == ["QC101", "QC102", "QC103"]
    assert [item.code for item in log.at_least(Severity.WARNING)] == ["QC101", "QC103"]
    assert [item.code for item in log.at_least(Severity.ERROR)] == ["QC101"]
