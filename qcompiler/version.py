"""The version of this distribution and of what it stands on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

DISTRIBUTION = "qcompile-onnx"
_TOOLS = ("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript")


def version() -> str:
    """Our own version; "0+unknown" from a checkout that isn't installed."""
    try:
        return installed(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"


def tool_versions() -> dict[str, str]:
    """Versions of what shapes the output, by distribution."""
    found = {DISTRIBUTION: version()}
    for name in _TOOLS:
        try:
            found[name] = installed(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
