"""What `compile` returns: the emitted graphs with everything that is written beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from qcompiler.diagnostics import Diagnostic
from qcompiler.options import CompileOptions
from qcompiler.pipeline import PassRun
from qcompiler.plan import QuantPlan
from qcompiler.session import Arrays, Feeds
from qcompiler.target import Target

if TYPE_CHECKING:
    from qcompiler.calibration.layer_ranges import ChannelChange
    from qcompiler.calibration.summaries import HistogramSummary
    from qcompiler.certification.certificate import Certificate
    from qcompiler.evaluation.compare import Comparison


@dataclass(slots=True)
class CompileResult:
    """One compiled model, in memory.

    Attributes:
        source: Path of the model file; empty where the model came as an object.
        model: The graph for the target.
        host: The same plan for onnxruntime on the host; None where `model` is already that.
        reference: The normalized float graph that everything was compared with.
        calibration: {"source", "samples", "method", "fingerprint", ...}.
        facts: What the emitters counted: {"model": {"integer_kernels": 36, "leftovers": []}, "host": {...}}.
        verification: Comparison with the float source per artifact, "model" and "host"; empty without verification.
        golden: Inputs with the float reference's outputs, for the bundle.
        extra_files: Further files of the bundle by name.
        check: Verdict of the runtime's own tools; empty where they are absent.
        seconds: Wall time by phase; never written to hashed files.
        gates: Bounds of the user that were missed, one line each; empty when all are met.
        certificates: Proofs that the float rewrites kept the function, in order.
        histograms: Of the quantized tensors, in few bins; empty where the plan was given.
        rewritten: Channel ranges of layers' inputs that equalization or rotation changed.
    """

    source: str
    target: Target
    options: CompileOptions
    model: ir.Model
    host: ir.Model | None
    reference: ir.Model
    plan: QuantPlan
    calibration: Mapping[str, Any]
    runs: tuple[PassRun, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    verification: Mapping[str, Comparison] = field(default_factory=dict)
    golden: tuple[tuple[Feeds, Arrays], ...] = ()
    extra_files: Mapping[str, bytes] = field(default_factory=dict)
    check: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    gates: tuple[str, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    histograms: Mapping[str, HistogramSummary] = field(default_factory=dict)
    rewritten: tuple[ChannelChange, ...] = ()

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write the bundle; nothing is left behind where that fails.

        Raises:
            OutputError: The folder exists and `force` is False, or it cannot be written.
        """
        from qcompiler.bundle import write_bundle

        return write_bundle(self, Path(folder), force=force)
