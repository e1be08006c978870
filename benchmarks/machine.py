"""What a measurement was taken on."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_INTEGER_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
_PACKAGES = ("qcompile-onnx", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy", "torch", "tensorrt-rtx-cu12")


def describe() -> dict[str, str]:
    """Processor, the integer instructions it has and lacks, and versions."""
    model, flags = _processor()
    have = [flag for flag in _INTEGER_FLAGS if flag in flags]
    facts = {
        "processor": f"{model}, {os.cpu_count()} logical processors",
        "integer instructions": ", ".join(have) or "unknown",
        "python": f"{sys.version.split()[0]} on {platform.system()} {platform.machine()}",
    }
    if flags and not any("vnni" in flag or flag in ("amx_int8", "asimddp", "i8mm") for flag in have):
        facts["note"] = (
            "no dot-product instructions (VNNI): onnxruntime's u8 x s8 kernels add pairs of products in 16 bits, "
            "saturate, and gain about 1.9x over float32 at most; ratios on processors with VNNI are higher"
        )
    for name in _PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    return facts


def _processor() -> tuple[str, frozenset[str]]:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine(), frozenset()
    fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    known = {key.strip().lower(): value.strip() for key, value in fields.items()}
    flags = known.get("flags") or known.get("features") or ""
    return known.get("model name") or platform.machine(), frozenset(flags.split())
