"""A model file as a function, and whether it has the interface that an entry's data needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.zoo import Array, Feeds, Run
from qcompiler.errors import ModelError, UsageError


def graph_file(path: Path) -> Path:
    """The ONNX file that onnxruntime should run: `path`, or of a bundle host.onnx where there is one.

    Raises:
        UsageError: There is no such file, or the folder is no bundle.
    """
    if not path.exists():
        raise UsageError("no such file", where=str(path))
    if path.is_file():
        return path
    manifest = path / "manifest.json"
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        raise UsageError("a folder without a readable manifest.json is no bundle", where=str(path)) from None
    for name in ("host.onnx", "model.onnx"):
        if name in files and (path / name).is_file():
            return path / name
    raise UsageError("the bundle has neither host.onnx nor model.onnx", where=str(path))


def open_session(path: Path, threads: int = 0) -> Any:
    """An onnxruntime CPU session; ModelError where onnxruntime refuses the file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # onnxruntime's own quantization of FP16 biases overflows (qcompiler/session.py); other graphs run as by default.
    unsafe = ["QDQS8ToU8Transformer", "WeightBiasQuantization"] if _quantizes_float16(path) else []
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=unsafe)
    except Exception as error:  # onnxruntime raises many unrelated types
        raise ModelError(f"onnxruntime refuses the model: {str(error).strip().splitlines()[0][:300]}",
                         where=str(path)) from error  # fmt: skip


def runner(path: Path) -> Run:
    """The file as a function of its inputs to all its outputs by name."""
    return as_run(open_session(path))


def as_run(session: Any) -> Run:
    """A session as a function; ModelError where an input does not fit."""
    names = [value.name for value in session.get_outputs()]

    def run(feeds: Feeds) -> Mapping[str, Array]:
        try:
            return dict(zip(names, session.run(names, dict(feeds)), strict=True))
        except Exception as error:
            first = str(error).strip().splitlines()[0][:300]
            raise ModelError(f"the model cannot run its entry's data: {first}") from error

    return run


def check_interface(found: Any, expected: Any, where: str) -> None:
    """Compare two sessions' inputs (names, types, ranks) and the names of outputs.

    Raises:
        ModelError: An input or an output is missing, new, of another type or rank.
    """
    ours, theirs = ({value.name: value for value in session.get_inputs()} for session in (found, expected))
    for name in {**theirs, **ours}:
        if name not in ours or name not in theirs:
            word = "lacks the input" if name not in ours else "has a foreign input"
            raise ModelError(f"{word} {name!r}; the entry's model takes {', '.join(theirs)}", where=where)
        if ours[name].type != theirs[name].type or len(ours[name].shape) != len(theirs[name].shape):
            raise ModelError(
                f"the input {name!r} is {ours[name].type} {ours[name].shape}, "
                f"the entry's model takes {theirs[name].type} {theirs[name].shape}",
                where=where,
            )
    outputs = {value.name for value in found.get_outputs()}
    missing = [value.name for value in expected.get_outputs() if value.name not in outputs]
    if missing:
        raise ModelError(f"lacks the output {missing[0]!r} of the entry's model", where=where)


def _quantizes_float16(path: Path) -> bool:
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:
        raise ModelError(f"not an ONNX model: {str(error).splitlines()[0][:200]}", where=str(path)) from error
    half = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    return any(node.op_type == "DequantizeLinear" and node.input[1] in half for node in graph.node)
