"""Rotary position embedding: x * cos + rotate(x) * sin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import all_nodes, sole_consumer
from qcompiler.passes.canonical.forms import Form, Role, annotate, annotate_all
from qcompiler.passes.canonical.matching import other_operand, producer
from qcompiler.pipeline import Outcome, Pass, Skip

_PARTS = ("Slice", "Split", "Gather")


@dataclass(frozen=True)
class RecogniseRotary(Pass):
    """Two spellings are annotated, with (a, b) the halves or the even and odd elements of x:

    x * cos + Concat(-b, a) * sin, and Concat(a * cos - b * sin, b * cos + a * sin), where the two may stand behind
    Unsqueeze (interleaved pairs). RotaryEmbedding, the operator, is annotated as a whole.
    """

    name: ClassVar[str] = "recognise-rotary"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        skipped: list[Skip] = []
        modified = False
        for node in all_nodes(model):
            if node.domain != "" or node.op_type not in ("Concat", "RotaryEmbedding"):
                continue
            site = node.name or node.op_type
            if node.op_type == "RotaryEmbedding":
                modified |= annotate(node, Form.ROTARY, Role.WHOLE, site)
                matched.append(site)
                continue
            roles = _match(node)
            if isinstance(roles, str):
                if roles:
                    skipped.append(Skip(site, roles))
                continue
            modified |= annotate_all(roles, Form.ROTARY, site)
            matched.append(site)
        return Outcome(modified, tuple(matched), tuple(skipped))


def _match(concat: ir.Node) -> list[tuple[ir.Node, Role]] | str:
    if len(concat.inputs) != 2:
        return ""
    first, second = (_behind_unsqueeze(value) for value in concat.inputs)
    negated = producer(first, "Neg")
    if negated is not None:
        return _rotated_half(concat, negated, second)
    minus, plus = producer(first, "Sub"), producer(second, "Add")
    if minus is not None and plus is not None:
        return _rotated_pairs(concat, minus, plus)
    return ""


def _rotated_half(concat: ir.Node, negated: ir.Node, second: ir.Value | None) -> list[tuple[ir.Node, Role]] | str:
    b, a = producer(negated.inputs[0], *_PARTS), producer(second, *_PARTS)
    if a is None or b is None or a.inputs[0] is not b.inputs[0]:
        return "the halves are not parts of one value"
    source, rotated = a.inputs[0], concat.outputs[0]
    by_sin = sole_consumer(rotated)
    total = sole_consumer(by_sin.outputs[0]) if by_sin is not None and by_sin.op_type == "Mul" else None
    if by_sin is None or total is None or total.op_type != "Add":
        return "the rotated halves are not multiplied and added"
    by_cos = producer(other_operand(total, by_sin.outputs[0]), "Mul")
    if by_cos is None or not any(value is source for value in by_cos.inputs):
        return "the other summand is not the same value times a table"
    inner = {id(node): node for node in (a, b, negated, concat, by_sin, by_cos)}
    return [*((node, Role.INNER) for node in inner.values()), (total, Role.RESULT)]


def _rotated_pairs(concat: ir.Node, minus: ir.Node, plus: ir.Node) -> list[tuple[ir.Node, Role]] | str:
    products = [producer(value, "Mul") for value in (*minus.inputs, *plus.inputs)]
    nodes = [node for node in products if node is not None]
    if len(nodes) < 4:
        return ""
    a_cos, b_sin, left, right = nodes
    for b_cos, a_sin in ((left, right), (right, left)):
        for a, cos in (a_cos.inputs, a_cos.inputs[::-1]):
            for b, sin in (b_sin.inputs, b_sin.inputs[::-1]):
                if _is_product(b_cos, b, cos) and _is_product(a_sin, a, sin):
                    inner = [a_cos, b_sin, b_cos, a_sin, minus, plus]
                    return [*((node, Role.INNER) for node in inner), (concat, Role.RESULT)]
    return "the four products are not those of a rotation"


def _is_product(node: ir.Node, left: ir.Value | None, right: ir.Value | None) -> bool:
    return tuple(node.inputs) in ((left, right), (right, left))


def _behind_unsqueeze(value: ir.Value | None) -> ir.Value | None:
    node = producer(value, "Unsqueeze")
    return node.inputs[0] if node is not None else value
