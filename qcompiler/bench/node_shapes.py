"""The real shapes of every node's inputs and outputs, and its time: one profiled session of onnxruntime.

Asking the runtime gives shapes that inference can't (dynamic ones, operators of onnxruntime's own) and counts how often
the nodes of a Scan's or Loop's body run.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from qcompiler.errors import ModelError
from qcompiler.session import Feeds, serialize_with_weights

Shape = tuple[int, ...]

_MOST_EVENTS = 100_000  # in memory some 3 KB each; onnxruntime stops writing at a million


@dataclass(frozen=True, slots=True)
class NodeRun:
    """What a node did in one run of the model.

    Attributes:
        inputs: Shapes of the inputs that are there, in order; element types are ONNX's words ("float").
        calls: How often it ran.
        seconds: Of all its calls together, the median over the timed runs.
    """

    inputs: tuple[tuple[str, Shape], ...]
    outputs: tuple[tuple[str, Shape], ...]
    calls: int
    seconds: float


def profile_nodes(model: ir.Model, feeds: Feeds, *, runs: int = 0, warm_up: int = 3) -> dict[int, NodeRun]:
    """Run `model` as it is, without onnxruntime's rewrites, at one thread.

    Args:
        runs: Timed runs, after `warm_up` others; 0 asks for shapes alone and leaves `seconds` NaN. Fewer where the
            profile would be large: each step of a Scan writes a line for each node of its body.

    Returns:
        By the node's place in `model.graph.all_nodes()`; nodes that didn't run, in a branch not taken, are missing.

    Raises:
        ModelError: onnxruntime refuses the model or fails on the inputs.
    """
    copy = model.clone()
    for place, node in enumerate(copy.graph.all_nodes()):
        node.name = f"n{place}"
    shapes = _events(copy.clone() if runs else copy, feeds, 1, prepack=False)  # of packed weights it tells no shape
    per_run = sum(len(calls) for calls in shapes.values())
    rounds = max(2, min(warm_up + runs, _MOST_EVENTS // max(per_run, 1)))
    warm_up = min(warm_up, rounds - 1)
    times = _events(copy, feeds, rounds, prepack=True) if runs else {}
    found: dict[int, NodeRun] = {}
    for name, calls in shapes.items():
        if not (name[0] == "n" and name[1:].isdigit()):
            continue  # casts that onnxruntime put in
        taken, said, count = times.get(name, []), calls[-1]["args"], len(calls)
        each = [sum(call["dur"] for call in taken[start : start + count]) for start in range(0, len(taken), count)]
        seconds = statistics.median(each[warm_up:]) / 1e6 if each[warm_up:] else math.nan
        inputs, outputs = _shapes(said.get("input_type_shape", [])), _shapes(said.get("output_type_shape", []))
        found[int(name[1:])] = NodeRun(inputs, outputs, count, seconds)
    return found


def _events(model: ir.Model, feeds: Feeds, runs: int, *, prepack: bool) -> dict[str, list[dict[str, Any]]]:
    """Node name to what the profile says of each call, in order. `model` is changed."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
        proto, kept = serialize_with_weights(model, options)
        try:
            session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
            for _ in range(runs):
                session.run(None, {item.name: feeds[item.name] for item in session.get_inputs()})
        except Exception as error:  # onnxruntime raises many unrelated types
            raise ModelError(f"onnxruntime can't run the model: {str(error).strip().splitlines()[0][:300]}") from error
        events = json.loads(Path(session.end_profiling()).read_bytes())
        del kept
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event)
    return found


def _shapes(items: list[dict[str, list[int]]]) -> tuple[tuple[str, Shape], ...]:
    return tuple((word, tuple(shape)) for item in items for word, shape in item.items())
