"""torch, where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from qcompiler.errors import UsageError


def require_torch() -> Any:
    """The module torch.

    Raises:
        UsageError: It is not installed, or cannot be imported.
    """
    if find_spec("torch") is None:
        raise UsageError("exporting a module needs PyTorch", hint="pip install 'qcompile-onnx[torch]'")
    try:
        import torch
    except (ImportError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"PyTorch cannot be imported: {first}", hint="reinstall torch") from error
    return torch
