"""The engine's file: built on first use and kept.

An engine fits one graph, one TensorRT version and one kind of GPU, so its file is named for all three:
`<digest of model.onnx, its weights and shape profiles>-trt<version>-sm<capability>.plan`. What `build_engine.sh` left
beside the model as `model.plan` is taken first, if it is newer than the model and this TensorRT reads it.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from qcompiler.errors import ModelError
from qcompiler.runtime.bundle_folder import BundleFolder

_WORKSPACE = 2 << 30


def open_plan(trt: Any, logger: Any, bundle: BundleFolder, cache: Path, capability: str) -> tuple[Path, Any]:
    """The engine and its file.

    Args:
        trt: The module `tensorrt`.
        capability: Compute capability as "87".

    Raises:
        ModelError: TensorRT refuses the graph or can't build it.
    """
    runtime = trt.Runtime(logger)
    beside = bundle.model.with_suffix(".plan")
    kept = cache / f"{_digest(bundle)}-trt{trt.__version__}-sm{capability}.plan"
    fresh = beside.is_file() and beside.stat().st_mtime >= bundle.model.stat().st_mtime
    for path in (*([beside] if fresh else []), kept):
        engine = runtime.deserialize_cuda_engine(path.read_bytes()) if path.is_file() else None
        if engine is not None:
            return path, engine
    content = _build(trt, logger, bundle)
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise ModelError("TensorRT can't read the engine that it built", where=str(bundle.model))
    _write(kept, content)
    return kept, engine


def _digest(bundle: BundleFolder) -> str:
    files = bundle.files
    texts = [files["model.onnx"], files.get("model.onnx.data", ""), repr(sorted(bundle.profiles.items()))]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _build(trt: Any, logger: Any, bundle: BundleFolder) -> bytes:
    model = bundle.model
    builder = trt.Builder(logger)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        said = errors[0].desc() if errors else "no message"
        raise ModelError(f"TensorRT {trt.__version__} refuses it: {said}", where=str(model))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE)
    if bundle.profiles:
        profile = builder.create_optimization_profile()
        for name, (low, best, high) in bundle.profiles.items():
            profile.set_shape(name, low, best, high)
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        why = "./build_engine.sh says why"
        raise ModelError(f"TensorRT {trt.__version__} can't build it", where=str(model), hint=why)
    return bytes(plan)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: another process may be reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
