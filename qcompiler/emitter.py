"""What a backend does: legalize a Q/DQ graph for its runtime, add files, check the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import onnx_ir as ir

from qcompiler.diagnostics import Diagnostic
from qcompiler.pipeline import PassRun
from qcompiler.session import Feeds
from qcompiler.target import Carrier


@dataclass(frozen=True, slots=True)
class EmitContext:
    """What an emitter may look at besides the graph.

    Attributes:
        source: The normalized float model, before quantization.
        samples: A few real inputs, for guards such as FP16 overflow.
        shapes: Input name to (min, opt, max) shapes for optimization profiles; empty where all are fixed.
        portable: Only standard operators.
        seen: Input name to shape, of each different set of inputs that calibration and validation have.
    """

    source: ir.Model
    samples: Sequence[Feeds] = ()
    carrier: Carrier = "fp32"
    portable: bool = False
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    seen: Sequence[Mapping[str, tuple[int, ...]]] = ()


@dataclass(frozen=True, slots=True)
class Legalized:
    """The graph as the runtime wants it.

    Attributes:
        facts: Numbers for the report, such as {"integer_kernels": 36, "leftovers": []}.
    """

    model: ir.Model
    runs: tuple[PassRun, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Emitter(Protocol):
    """One per target; made by the factory that `Target.emitter` names."""

    def legalize(self, model: ir.Model, context: EmitContext) -> Legalized:
        """Turn a standard Q/DQ graph (int8, zero point 0, float32 carrier) into the runtime's form.

        `model` may be edited. The names of the graph's inputs and outputs, and of inner values whose meaning did not
        change, stay.
        """

    def extra_files(self, model: ir.Model, context: EmitContext) -> Mapping[str, bytes]:
        """Files beside model.onnx by name, such as build_engine.sh."""

    def check(self, path: Path) -> Mapping[str, Any]:
        """What the runtime's own tools say of the file: {"tool", "verdict", "messages", ...}; empty where absent."""

    def lint(self, model: ir.Model) -> Sequence[Diagnostic]:
        """Findings against the runtime's rules on any Q/DQ graph, without the runtime."""
