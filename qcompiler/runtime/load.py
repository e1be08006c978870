"""`load`: a bundle's folder to a model that runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from qcompiler.errors import UsageError
from qcompiler.runtime.bundle_folder import BundleFolder, read_bundle
from qcompiler.runtime.model import Engine, RuntimeModel


def load(
    folder: str | os.PathLike[str], *, runtime: Literal["auto", "onnxruntime", "tensorrt"] = "auto",
    threads: int = 0, verify: bool = True, cache: str | os.PathLike[str] | None = None,
) -> RuntimeModel:  # fmt: skip
    """Load a bundle that `qcompile` wrote.

    Args:
        folder: The bundle.
        runtime: "auto" takes TensorRT for a bundle of an `orin` target where `tensorrt` imports and a GPU answers,
            else onnxruntime.
        threads: onnxruntime's threads; 0 lets it choose.
        verify: Compare the model files with the manifest's sha256 first.
        cache: Where engines are kept; default QCOMPILE_ENGINES, else `~/.cache/qcompile/engines`.

    Raises:
        UsageError: No bundle there, or a runtime that isn't to be had.
        ModelError: A file is missing, changed or not the one that the manifest describes; the runtime refuses it.
    """
    bundle = read_bundle(Path(folder), verify=verify)
    if runtime not in ("auto", "onnxruntime", "tensorrt"):
        raise UsageError(f"unknown runtime {runtime!r}", hint="auto, onnxruntime or tensorrt")
    return RuntimeModel(bundle, _engine(bundle, runtime, threads, cache))


def _engine(bundle: BundleFolder, runtime: str, threads: int, cache: str | os.PathLike[str] | None) -> Engine:
    from qcompiler.runtime import tensorrt_engine
    from qcompiler.runtime.onnxruntime_session import OnnxruntimeSession

    if runtime == "tensorrt" or (runtime == "auto" and bundle.for_tensorrt):
        reason = "" if bundle.for_tensorrt else f"the bundle is for {bundle.target}"
        reason = reason or tensorrt_engine.unavailable()
        if not reason:
            place = cache or os.environ.get("QCOMPILE_ENGINES") or Path.home() / ".cache" / "qcompile" / "engines"
            return tensorrt_engine.TensorRTEngine(bundle, Path(place))
        if runtime == "tensorrt":
            raise UsageError(f"TensorRT can't be used: {reason}", where=str(bundle.path), hint="runtime='onnxruntime'")
    return OnnxruntimeSession(bundle, threads)
