"""`qcompile lint`: any Q/DQ graph, from any tool, against the rules of TensorRT on Orin, without a GPU.

The rules stand in three tables by family; codes are stable.
"""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.backends.tensorrt.lint_operators import OPERATOR_RULES
from qcompiler.backends.tensorrt.lint_placement import PLACEMENT_RULES
from qcompiler.backends.tensorrt.lint_quantizers import QUANTIZER_RULES
from qcompiler.backends.tensorrt.lint_rule import Rule, Scope
from qcompiler.diagnostics import Diagnostic
from qcompiler.passes.precision.types import value_types
from qcompiler.target import Target

RULES: tuple[Rule, ...] = (*QUANTIZER_RULES, *OPERATOR_RULES, *PLACEMENT_RULES)


def lint(model: ir.Model, target: Target) -> list[Diagnostic]:
    """All findings, by rule and then in graph order. `model` is only read."""
    scope = Scope(model, target, tuple(model.graph.all_nodes()), value_types(model))
    return [
        Diagnostic(
            rule.code, finding.severity or rule.severity, finding.where, finding.message, finding.hint or rule.fix
        )
        for rule in RULES
        for finding in rule.check(scope)
    ]
