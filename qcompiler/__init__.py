"""qcompile: ONNX models to INT8 graphs for onnxruntime and TensorRT.

    import qcompiler
    result = qcompiler.compile("model.onnx", target="orin", calibration="calib.npz")
    result.save("model.orin")

Names load when they are first used, so importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcompiler.api import certify, compile, diff, lint, verify
    from qcompiler.calibration.table import CalibrationTable
    from qcompiler.driver import compile_model
    from qcompiler.errors import (
        CalibrationError,
        ExitCode,
        GateError,
        ModelError,
        OutputError,
        QcompileError,
        UnsupportedError,
        UsageError,
        VerificationError,
    )
    from qcompiler.options import CompileOptions
    from qcompiler.plan import QuantPlan
    from qcompiler.reading import load_model
    from qcompiler.result import CompileResult
    from qcompiler.saving import save_model
    from qcompiler.scheme import QuantScheme
    from qcompiler.target import Target
    from qcompiler.torch_export import export

    __version__: str

__all__ = [
    "CalibrationError",
    "CalibrationTable",
    "CompileOptions",
    "CompileResult",
    "ExitCode",
    "GateError",
    "ModelError",
    "OutputError",
    "QcompileError",
    "QuantPlan",
    "QuantScheme",
    "Target",
    "UnsupportedError",
    "UsageError",
    "VerificationError",
    "__version__",
    "certify",
    "compile",
    "compile_model",
    "diff",
    "export",
    "lint",
    "load_model",
    "save_model",
    "verify",
]

_HOMES = {
    "certify": "api", "compile": "api", "diff": "api", "lint": "api", "verify": "api", "compile_model": "driver",
    "CompileOptions": "options",
    "CompileResult": "result", "Target": "target", "QuantScheme": "scheme", "QuantPlan": "plan",
    "CalibrationTable": "calibration.table", "export": "torch_export", "load_model": "reading", "save_model": "saving",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from qcompiler.version import version

        return version()
    if name in __all__:
        return getattr(import_module(f"qcompiler.{_HOMES.get(name, 'errors')}"), name)
    raise AttributeError(f"module 'qcompiler' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
