"""The TensorRT backend: a Q/DQ graph becomes one that NVIDIA's parser and builder take, strongly typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tensorrt.build_check import check_file
from qcompiler.backends.tensorrt.engine_script import engine_script
from qcompiler.backends.tensorrt.lint import lint
from qcompiler.backends.tensorrt.operators import refused_nodes
from qcompiler.backends.tensorrt.profiles import shape_profiles, write_profiles
from qcompiler.diagnostics import Diagnostic
from qcompiler.emitter import EmitContext, Legalized
from qcompiler.errors import UnsupportedError
from qcompiler.passes.precision.carry_float16 import CarryFloat16
from qcompiler.pipeline import PassRun, Pipeline, diagnostics_of
from qcompiler.target import Target


@dataclass(frozen=True, slots=True)
class TensorRTEmitter:
    """Emitter of the targets in `targets.py`; implements `qcompiler.emitter.Emitter`."""

    target: Target

    def legalize(self, model: ir.Model, context: EmitContext) -> Legalized:
        """See `Emitter.legalize`.

        Raises:
            UnsupportedError: An operator that the parser does not take; names the first such node.
        """
        for node, message, hint in refused_nodes(model, self.target.opset):
            raise UnsupportedError(message, where=node.name or node.op_type, hint=hint)
        write_profiles(model, shape_profiles(model, context.shapes, context.samples))
        runs: tuple[PassRun, ...] = ()
        if context.carrier == "fp16":
            model, runs = Pipeline((CarryFloat16(samples=context.samples[:2]),)).run(model)
        return Legalized(model, runs, tuple(diagnostics_of(runs)), _facts(model))

    def extra_files(self, model: ir.Model, context: EmitContext) -> Mapping[str, bytes]:
        """build_engine.sh."""
        profiles = shape_profiles(model, context.shapes, context.samples)
        return {"build_engine.sh": engine_script(self.target, profiles)}

    def check(self, path: Path) -> Mapping[str, Any]:
        """See `build_check.check_file`."""
        return check_file(path)

    def lint(self, model: ir.Model) -> Sequence[Diagnostic]:
        """See `lint.lint`."""
        return lint(model, self.target)


def _facts(model: ir.Model) -> dict[str, Any]:
    """Counts for the report."""
    counts = {"quantized_nodes": 0, "casts": 0, "pairs": 0}
    for node in model.graph.all_nodes():
        counts["casts"] += node.op_type == "Cast"
        counts["pairs"] += node.op_type == "QuantizeLinear"
        sources = [value.producer() for value in node.inputs if value is not None]
        counts["quantized_nodes"] += len(sources) > 1 and all(
            source is not None and source.op_type == "DequantizeLinear" for source in sources[:2]
        )
    return counts
