"""The TensorRT backend: a Q/DQ graph becomes one that NVIDIA's parser and builder take, strongly typed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx_ir as ir

from qcompiler.backends.tensorrt.build_check import check_file
from qcompiler.backends.tensorrt.center_zero_points import CenterZeroPoints
from qcompiler.backends.tensorrt.clip_before_quantize import ClipBeforeQuantize
from qcompiler.backends.tensorrt.engine_script import engine_script
from qcompiler.backends.tensorrt.fused_attention import attention_blocks, describe
from qcompiler.backends.tensorrt.index_in_float import IndexInFloat
from qcompiler.backends.tensorrt.legal_quantizers import LegalQuantizers
from qcompiler.backends.tensorrt.lint import lint
from qcompiler.backends.tensorrt.lint_rule import WEIGHTED_OPS
from qcompiler.backends.tensorrt.loop_condition import GiveLoopCondition
from qcompiler.backends.tensorrt.operators import refused_nodes
from qcompiler.backends.tensorrt.profiles import shape_profiles, write_profiles
from qcompiler.backends.tensorrt.push_pairs import PushPairsBelowLayout
from qcompiler.backends.tensorrt.scale_queries import ScaleQueries
from qcompiler.backends.tensorrt.widen_bytes import WidenBytes
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.emitter import EmitContext, Legalized
from qcompiler.errors import UnsupportedError, VerificationError
from qcompiler.passes.precision.carry_float16 import CarryFloat16
from qcompiler.pipeline import Pass, PassRun, Pipeline, diagnostics_of
from qcompiler.target import Target

_GUARD_SAMPLES: Final = 2
_OF_THE_SOURCE: Final = frozenset({"QC507", "QC509", "QC513", "QC515", "QC519"})


@dataclass(frozen=True, slots=True)
class TensorRTEmitter:
    """Emitter of the targets in `targets.py`; implements `qcompiler.emitter.Emitter`."""

    target: Target

    def legalize(self, model: ir.Model, context: EmitContext) -> Legalized:
        """See `Emitter.legalize`.

        Raises:
            UnsupportedError: Something in the source model that the parser does not take; names the first such node.
            VerificationError: A pair that our own passes placed breaks a rule.
        """
        for node, message, hint in refused_nodes(model, self.target.opset):
            raise UnsupportedError(message, where=node.name or node.op_type, hint=hint)
        profiles = shape_profiles(model, context.shapes, context.seen)
        write_profiles(model, profiles)
        passes: list[Pass] = [WidenBytes(), ScaleQueries(), ClipBeforeQuantize(), IndexInFloat()]
        passes += [CenterZeroPoints(), PushPairsBelowLayout(), LegalQuantizers(), GiveLoopCondition()]
        if context.carrier == "fp16":
            passes.append(CarryFloat16(samples=context.samples[:_GUARD_SAMPLES]))
        model, runs = Pipeline(passes).run(model)
        _ensure_legal(model, self.target)
        blocks = attention_blocks(model, self.target.placement, profiles, half=context.carrier == "fp16")
        attention, findings = describe(blocks)
        facts = _facts(model, runs) | ({"attention": attention} if attention else {})
        return Legalized(model, runs, (*diagnostics_of(runs), *findings), facts)

    def extra_files(self, model: ir.Model, context: EmitContext) -> Mapping[str, bytes]:
        """build_engine.sh."""
        profiles = shape_profiles(model, context.shapes, context.seen)
        return {"build_engine.sh": engine_script(self.target, profiles)}

    def check(self, path: Path) -> Mapping[str, Any]:
        """See `build_check.check_file`."""
        return check_file(path)

    def lint(self, model: ir.Model) -> Sequence[Diagnostic]:
        """See `lint.lint`."""
        return lint(model, self.target)


def _ensure_legal(model: ir.Model, target: Target) -> None:
    for finding in lint(model, target):
        if finding.severity is Severity.ERROR:
            kind = UnsupportedError if finding.code in _OF_THE_SOURCE else VerificationError
            raise kind(f"{finding.message} [{finding.code}]", where=finding.where, hint=finding.hint)


def _facts(model: ir.Model, runs: Sequence[PassRun]) -> dict[str, Any]:
    """Counts for the report."""
    counts = {"integer_nodes": 0, "casts": 0, "pairs": 0}
    for node in model.graph.all_nodes():
        counts["casts"] += node.op_type == "Cast"
        counts["pairs"] += node.op_type == "QuantizeLinear"
        sources = [value.producer() for value in node.inputs[:2] if value is not None]
        counts["integer_nodes"] += node.op_type in WEIGHTED_OPS and all(
            source is not None and source.op_type == "DequantizeLinear" for source in sources
        )
    carried = next((run.outcome for run in runs if run.name == CarryFloat16.name), None)
    if carried is None:
        return {"carrier": "fp32", **counts}
    kept = Counter(item.reason for item in carried.skipped)
    halves, kept_by_reason = len(carried.matched), dict(kept.most_common())
    return {"carrier": "fp16", **counts, "float16_nodes": halves, "float32_nodes": kept_by_reason}
