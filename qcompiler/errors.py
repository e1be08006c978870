"""Errors that a user can fix: one line each, with an exit status.

QcompileError                 2
├── UsageError                2  an option, a name or a file that does not exist
├── OutputError               2  the output exists, or cannot be written
├── ModelError                3  the model file is damaged or not valid ONNX
│   └── UnsupportedError      3  valid ONNX that this target or version cannot take
├── CalibrationError          4  calibration data that is missing, misshapen or not finite
├── GateError                 1  a quality gate that the user set was not met
└── VerificationError         5  our own output failed our own check: a bug here, or in a pass

Anything else that reaches the command line is a bug and keeps its traceback (exit status 5).
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit statuses of every verb."""

    OK = 0
    GATE = 1
    USAGE = 2
    MODEL = 3
    CALIBRATION = 4
    INTERNAL = 5
    INTERRUPTED = 130


class QcompileError(Exception):
    """A fault that the user can fix.

    Args:
        message: What is wrong, without a trailing full stop.
        where: The file, node or option at fault; printed first.
        hint: What to do about it; printed last, in brackets.
    """

    exit_code: int = ExitCode.USAGE

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.message = message
        self.where = where
        self.hint = hint
        line = f"{where}: {message}" if where else message
        if hint:
            line = f"{line} ({hint})"
        super().__init__(" ".join(line.split()))


class UsageError(QcompileError):
    """An unknown option or name, or a file that does not exist."""


class OutputError(QcompileError):
    """The output folder exists without --force, or cannot be written."""


class ModelError(QcompileError):
    """The model is damaged, or is not valid ONNX."""

    exit_code = ExitCode.MODEL


class UnsupportedError(ModelError):
    """The model is valid, but the target cannot take it."""


class CalibrationError(QcompileError):
    """Calibration or validation data that does not fit the model."""

    exit_code = ExitCode.CALIBRATION


class GateError(QcompileError):
    """The compiled model misses a bound that the user set."""

    exit_code = ExitCode.GATE


class VerificationError(QcompileError):
    """An emitted artifact failed our own check; never the user's fault."""

    exit_code = ExitCode.INTERNAL
