"""Where attention probabilities are: the tensor that the product with the values reads, and who made it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph import is_float
from qcompiler.passes.canonical.forms import ATTENTION_FORMS, Role, form_of, role_of, site_of
from qcompiler.pipeline import Skip

_BETWEEN = frozenset({Role.CAST, Role.MASK_ADD, Role.STRETCH, Role.CLIP})
_LAYOUT = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Dropout"})
_MAX_STEPS = 8


@dataclass(frozen=True, slots=True)
class Probability:
    """One product P V.

    Attributes:
        node: Name of the product.
        tensor: Name of P as the product reads it.
        values: Name of V.
        layer: Name of the softmax's site.
        heads: Size of axis 1 of P where that is [batch, heads, queries, keys] with a fixed number; else 0.
    """

    node: str
    tensor: str
    values: str
    layer: str
    heads: int


def probabilities(model: ir.Model) -> tuple[list[Probability], list[Skip]]:
    """Every recognised attention product of the main graph; others with the reason."""
    found, skipped = [], []
    for node in model.graph.all_nodes():
        if form_of(node) not in ATTENTION_FORMS or role_of(node) is not Role.PV:
            continue
        name = str(node.name)
        weights, values = node.inputs[0], node.inputs[1]
        if node.graph is not model.graph:
            skipped.append(Skip(name, "inside a subgraph, where calibration sees no values"))
        elif weights is None or values is None or not _from_softmax(weights, site_of(node)):
            skipped.append(Skip(name, "the probabilities are not the product's first operand"))
        elif not is_float(weights):
            skipped.append(Skip(name, "the probabilities are no floats"))
        else:
            found.append(Probability(name, str(weights.name), str(values.name), site_of(node) or name, _heads(weights)))
    return found, skipped


def _from_softmax(value: ir.Value, site: str | None) -> bool:
    """Whether the way back from `value` leads to the softmax of this site."""
    ends = [value]
    for _ in range(_MAX_STEPS):
        before: list[ir.Value] = []
        for end in ends:
            node = end.producer()
            if node is None:
                continue
            if role_of(node) is Role.SOFTMAX and site_of(node) == site:
                return True
            if role_of(node) in _BETWEEN:
                before += [item for item in node.inputs if item is not None]
            elif node.op_type in _LAYOUT and node.inputs[0] is not None:
                before.append(node.inputs[0])
        ends = before
    return False


def _heads(value: ir.Value) -> int:
    if value.shape is None or len(value.shape) != 4:
        return 0
    size = value.shape[1]
    return size if isinstance(size, int) else 0
