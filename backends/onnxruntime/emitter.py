"""Q/DQ graphs to graphs whose quantized operators run in onnxruntime's integer kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from qcompiler.backends.onnxruntime.fold_product_scales import FoldProductScales
from qcompiler.backends.onnxruntime.fold_quantizer_scales import FoldQuantizerScales
from qcompiler.backends.onnxruntime.kernels import count_kernels
from qcompiler.backends.onnxruntime.lower_blocks import LowerBlocks
from qcompiler.backends.onnxruntime.lower_convs import LowerConvs
from qcompiler.backends.onnxruntime.lower_lookups import LowerLookups
from qcompiler.backends.onnxruntime.lower_products import LowerProducts
from qcompiler.backends.onnxruntime.part_adds_from_norms import PartAddsFromNorms
from qcompiler.backends.onnxruntime.part_channel_scales import PartChannelScales
from qcompiler.backends.onnxruntime.unsigned_activations import UnsignedActivations
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.emitter import EmitContext, Legalized
from qcompiler.pipeline import Pass, Pipeline, diagnostics_of
from qcompiler.target import Target


class OnnxruntimeEmitter:
    """Emitter for onnxruntime CPU targets; `activation_container` of the target picks the kernels."""

    def __init__(self, target: Target) -> None:
        self._unsigned = target.options.get("activation_container", "uint8") == "uint8"

    def legalize(self, model: ir.Model, context: EmitContext) -> Legalized:
        """Lower, tidy up, and count what runs in integer kernels."""
        from qcompiler.passes.cleanup.pipeline import cleanup_passes

        passes: list[Pass] = [FoldQuantizerScales(), *([UnsignedActivations()] if self._unsigned else [])]
        passes += [
            LowerLookups(),
            LowerBlocks(),
            LowerProducts(saturating=self._unsigned, portable=context.portable),
            FoldProductScales(),
            LowerConvs(saturating=self._unsigned),
            PartChannelScales(),
            PartAddsFromNorms(),
            *cleanup_passes(),
        ]
        model, runs = Pipeline(passes).run(model)
        facts = count_kernels(model)
        findings = [
            Diagnostic(
                "QC601", Severity.WARNING, name, "a float operator between dequantized inputs: slower than float32"
            )
            for name in facts["leftovers"]
        ]
        return Legalized(model, runs, (*diagnostics_of(runs), *findings), facts)

    def extra_files(self, model: ir.Model, context: EmitContext) -> Mapping[str, bytes]:
        """None."""
        return {}

    def check(self, path: Path) -> Mapping[str, Any]:
        """Nothing beyond verification, which runs the file on onnxruntime anyway."""
        return {}

    def lint(self, model: ir.Model) -> Sequence[Diagnostic]:
        """Float operators fed by DequantizeLinear."""
        return [
            Diagnostic(
                "QC601",
                Severity.WARNING,
                name,
                "a float operator between dequantized inputs: slower than float32",
                "compile the float model with --target ort-cpu",
            )
            for name in count_kernels(model)["leftovers"]
        ]
