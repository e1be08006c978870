"""PyTorch modules to ONNX files that were compared with torch; extra `torch`.

`qcompiler.export` is `qcompiler.torch_export.export`; `scan` is for the forward of a user's own recurrent module. Names
load when they are first used, so importing the package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcompiler.torch_export.entry import export
    from qcompiler.torch_export.mid_text_inputs import cached_inputs
    from qcompiler.torch_export.recurrence import scan
    from qcompiler.torch_export.result import ExportResult

__all__ = ["ExportResult", "cached_inputs", "export", "scan"]

_HOMES = {
    "ExportResult": "result", "cached_inputs": "mid_text_inputs", "export": "entry", "scan": "recurrence",
}  # fmt: skip
"""Files bear other names than functions: an imported submodule would hide the function."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        if name not in ("export", "ExportResult"):
            from qcompiler.torch_export.requirement import require_torch

            require_torch()
        return getattr(import_module(f"qcompiler.torch_export.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'qcompiler.torch_export' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
