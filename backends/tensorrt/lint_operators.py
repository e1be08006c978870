"""Rules on operators, element types and control flow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import onnx_ir as ir

from qcompiler.backends.tensorrt.lint_rule import PAIR_OPS, Finding, Rule, Scope, label, operand
from qcompiler.backends.tensorrt.operators import refused_nodes
from qcompiler.diagnostics import Severity
from qcompiler.graph import scalar_constant
from qcompiler.passes.precision.slots import slots_of

_FLOATS: Final = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def _unsupported(scope: Scope) -> Iterator[Finding]:
    for node, message, hint in refused_nodes(scope.model, scope.target.opset):
        if node.domain in ("", "ai.onnx"):
            yield Finding(label(node), message, hint)


def _domains(scope: Scope) -> Iterator[Finding]:
    for node, message, hint in refused_nodes(scope.model, scope.target.opset):
        if node.domain not in ("", "ai.onnx"):
            yield Finding(label(node), message, hint)


def _bytes(scope: Scope) -> Iterator[Finding]:
    for node in scope.nodes:
        if node.op_type in PAIR_OPS or node.op_type == "Cast":
            continue
        for value in (*node.inputs, *node.outputs):
            if scope.type_of(value) == ir.DataType.UINT8:
                yield Finding(label(node), f"{node.op_type} on uint8")
                break


def _mixed(scope: Scope) -> Iterator[Finding]:
    for node in scope.nodes:
        slots = slots_of(node.op_type, node.domain, scope.opset)
        if slots is None or node.op_type in ("Scan", "Loop", "If"):
            continue
        seen: dict[str, ir.DataType] = {}
        for index, value in enumerate(node.inputs):
            dtype = scope.type_of(value)
            if dtype not in _FLOATS or dtype is None:
                continue
            first = seen.setdefault(slots.input(index), dtype)
            if first != dtype:
                yield Finding(label(node), f"{node.op_type} reads {first.name.lower()} and {dtype.name.lower()}")
                break


def _profiles(scope: Scope) -> Iterator[Finding]:
    for value in scope.model.graph.inputs:
        if value.shape is not None and value.shape.is_dynamic():
            yield Finding(value.name or "", f"the shape {value.shape} needs an optimization profile")


def _loops(scope: Scope) -> Iterator[Finding]:
    for node in scope.nodes:
        if node.op_type != "Loop":
            continue
        if operand(node, 1) is None:
            yield Finding(label(node), "the Loop has no condition input", "give a constant true")
        elif operand(node, 0) is not None and scalar_constant(node.inputs[1]) is None:
            yield Finding(label(node), "trip count and run-time condition together", severity=Severity.WARNING)
        states = len(node.inputs) - 2
        if len(node.outputs) > states and operand(node, 0) is None:
            text = "a Loop without trip count collects outputs of unknown length"
            yield Finding(label(node), text, "give a trip count")


def _scans(scope: Scope) -> Iterator[Finding]:
    for node in scope.nodes:
        if node.op_type != "Scan":
            continue
        for value in node.inputs:
            dtype = scope.type_of(value)
            if dtype is not None and dtype not in _FLOATS:
                name = value.name if value else ""
                yield Finding(label(node), f"the Scan reads {name}, which is {dtype.name.lower()}")


def _opsets(scope: Scope) -> Iterator[Finding]:
    if scope.opset > scope.target.opset:
        text = f"opset {scope.opset} is above what {scope.target.runtime or scope.target.name} documents"
        yield Finding("", text, f"convert to opset {scope.target.opset}")


OPERATOR_RULES: tuple[Rule, ...] = (
    Rule("QC507", "Only operators that the parser takes", _unsupported, "replace the operator"),
    Rule("QC509", "uint8 only at the border, behind a Cast", _bytes, "Cast to int32, or use int8"),
    Rule("QC511", "Operands of one float type", _mixed, "insert a Cast: networks are strongly typed"),
    Rule("QC513", "Only ai.onnx operators", _domains, "export with standard operators"),
    Rule(
        "QC514", "Dynamic inputs have a profile", _profiles, "give --minShapes, --optShapes and --maxShapes",
        Severity.INFO,
    ),
    Rule("QC515", "Loops have a condition and static outputs", _loops, "keep the trip count alone"),
    Rule("QC519", "Scans are float", _scans, "Cast before and after the Scan"),
    Rule("QC528", "The opset is one the version documents", _opsets, "convert the opset", Severity.WARNING),
)
