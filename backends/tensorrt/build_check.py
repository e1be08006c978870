"""NVIDIA's own verdict on a file: its ONNX parser and its builder, where installed.

`tensorrt_rtx` (extra `tensorrt`) parses and builds ahead of time without a GPU. It lists no SM 8.7, so the nearest
relative, SM 8.6, is asked. It isn't TensorRT 10.3: acceptance means "NVIDIA's current parser and builder take it". The
library can crash on bad graphs, so it always runs in a process of its own:

    python -m qcompiler.backends.tensorrt.build_check model.onnx --json
"""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LIBRARIES = ("tensorrt_rtx", "tensorrt")
_ABSENT = "install the extra: pip install 'qcompile-onnx[tensorrt]' (x86-64 Linux)"
_CAPABILITY = "SM86"


def check_file(path: Path, timeout: float = 900.0) -> Mapping[str, Any]:
    """Ask parser and builder in a subprocess; never raises for what they do.

    Returns:
        {"tool", "verdict", "messages", "seconds"}; the verdict is "accepted", "refused", "absent" (no library) or
        "undecided" (no answer within `timeout` seconds).
    """
    if not any(importlib.util.find_spec(name) for name in _LIBRARIES):
        return _verdict("", "absent", [_ABSENT], 0.0)
    command = [sys.executable, "-m", "qcompiler.backends.tensorrt.build_check", str(path), "--json"]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        late = f"no answer within {timeout:.0f} s"
        return _verdict("TensorRT builder", "undecided", [late], time.perf_counter() - start)
    for line in reversed(done.stdout.splitlines()):
        if line.startswith('{"tool"'):
            answer: dict[str, Any] = json.loads(line)
            return answer
    return _verdict("TensorRT builder", "refused", [_death(done)], time.perf_counter() - start)


def _death(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the library crashed with {signal.Signals(-done.returncode).name}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return f"the library ended with status {done.returncode}: {lines[-1] if lines else 'no message'}"


def _verdict(tool: str, verdict: str, messages: list[str], seconds: float) -> dict[str, Any]:
    return {"tool": tool, "verdict": verdict, "messages": messages, "seconds": round(seconds, 3)}


def _import_library() -> Any:
    for name in _LIBRARIES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def build(path: Path) -> dict[str, Any]:
    """Parse and build in this process. Call it through `check_file`."""
    start = time.perf_counter()
    trt = _import_library()
    if trt is None:
        return _verdict("", "absent", [_ABSENT], 0.0)

    class Log(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

    log = Log()
    is_rtx = trt.__name__ == "tensorrt_rtx"
    product = "TensorRT-RTX" if is_rtx else "TensorRT"
    version = ".".join(trt.__version__.split(".")[:3])
    where = "ahead-of-time builder, SM 8.6" if is_rtx else "builder on this GPU"
    tool = f"{product} {version} parser and {where}"
    try:
        builder = trt.Builder(log)
        typed = 0 if is_rtx else 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(typed)
        parser = trt.OnnxParser(network, log)
    except (TypeError, RuntimeError, AttributeError) as error:  # full TensorRT on a machine without a GPU
        return _verdict(tool, "absent", [*log.errors, str(error)], time.perf_counter() - start)
    if not parser.parse_from_file(str(path)):
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        messages = [f"{item.node_operator()} {item.node_name()}: {item.desc()}".strip() for item in found]
        return _verdict(tool, "refused", messages or log.errors, time.perf_counter() - start)
    config = builder.create_builder_config()
    if is_rtx:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, _CAPABILITY), 0)
    _add_profile(builder, config, network, path)
    plan = builder.build_serialized_network(network, config)
    verdict = "refused" if plan is None else "accepted"
    return _verdict(tool, verdict, log.errors[:20], time.perf_counter() - start)


def _add_profile(builder: Any, config: Any, network: Any, path: Path) -> None:
    import onnx_ir as ir

    from qcompiler.backends.tensorrt.profiles import read_profiles

    profiles = read_profiles(ir.load(path))
    if not profiles:
        return
    profile = builder.create_optimization_profile()
    inputs = {network.get_input(index).name for index in range(network.num_inputs)}
    for name, shapes in profiles.items():
        if name in inputs:
            profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)


def main(arguments: list[str]) -> int:
    """Print the verdict; exit status 0 where accepted, 1 where refused, 2 where absent."""
    path, as_json = Path(arguments[0]), "--json" in arguments[1:]
    answer = build(path)
    if as_json:
        print(json.dumps(answer), flush=True)
    else:
        print(f"{answer['verdict']}: {answer['tool']}", *answer["messages"], sep="\n  ")
    return {"accepted": 0, "refused": 1}.get(str(answer["verdict"]), 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
