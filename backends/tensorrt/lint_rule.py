"""What a lint rule is, and the questions that rules share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from qcompiler.diagnostics import Severity
from qcompiler.graph import is_constant
from qcompiler.passes.precision.types import Types
from qcompiler.target import Target

WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
PAIR_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class Scope:
    """What a rule looks at: the graph with the nodes of subgraphs, and the types of all values."""

    model: ir.Model
    target: Target
    nodes: tuple[ir.Node, ...]
    types: Types

    @property
    def opset(self) -> int:
        """The opset of ai.onnx that the model states."""
        return self.model.opset_imports.get("", 0)

    @cached_property
    def pairs(self) -> tuple[ir.Node, ...]:
        """QuantizeLinear and DequantizeLinear nodes."""
        return tuple(node for node in self.nodes if node.op_type in PAIR_OPS)

    def type_of(self, value: ir.Value | None) -> ir.DataType | None:
        """The element type where known."""
        return None if value is None else self.types.get(value)

    def code_type(self, pair: ir.Node) -> ir.DataType | None:
        """The integer (or float8) type on the quantized side of a Q or DQ node."""
        return self.type_of(pair.inputs[0] if pair.op_type == "DequantizeLinear" else pair.outputs[0])


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation; `severity` and `hint` override those of the rule."""

    where: str
    message: str
    hint: str = ""
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table.

    Attributes:
        code: Stable; never reused.
        title: The rule as a sentence.
        fix: What to do about a finding.
    """

    code: str
    title: str
    check: Callable[[Scope], Iterator[Finding]]
    fix: str
    severity: Severity = Severity.ERROR


def label(node: ir.Node) -> str:
    """The node's name, or its operator and output where it has none."""
    return node.name or f"{node.op_type}({node.outputs[0].name if node.outputs else ''})"


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The producer of a value, if it is one of these operators."""
    found = None if value is None else value.producer()
    return found if found is not None and found.op_type in op_types else None


def operand(node: ir.Node, index: int) -> ir.Value | None:
    """An input, None where omitted."""
    return node.inputs[index] if index < len(node.inputs) else None


def is_weight(pair: ir.Node) -> bool:
    """Whether a DequantizeLinear gives a constant: from codes, or from a constant that is quantized before it."""
    source = pair.inputs[0]
    quantizer = producer(source, "QuantizeLinear")
    return is_constant(source) or (quantizer is not None and is_constant(quantizer.inputs[0]))
