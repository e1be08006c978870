"""Make float16 the carrier of a float32 graph: strongly typed, every Cast explicit, subgraphs included.

Weights and arithmetic become float16. What needs float32 keeps it, with Casts around: the nodes of `sensitive.py`,
operands beyond the range on samples, scales that float16 can't hold. Graph inputs and outputs stay float32 unless
`half_io`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

import onnx_ir as ir

from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.graph import constant_array, is_constant
from qcompiler.passes.precision.casting import Caster
from qcompiler.passes.precision.limits import HALF_MAX, HALF_MIN_NORMAL, scale_is_unfit
from qcompiler.passes.precision.ranges import largest_magnitudes, origin
from qcompiler.passes.precision.retype import Retyper
from qcompiler.passes.precision.sensitive import WEIGHTED_OPS, sensitive_nodes
from qcompiler.passes.precision.sentinels import clamp_sentinels
from qcompiler.passes.precision.slots import is_carried, takes_half
from qcompiler.passes.precision.types import fill_types
from qcompiler.pipeline import Outcome, Pass, Skip
from qcompiler.session import Feeds

_LIMIT: Final = 16384.0  # a quarter of the range: other inputs may be larger than the samples
_TINY: Final = 16 * HALF_MIN_NORMAL  # a tensor whose largest element is below has few bits left in float16


@dataclass(frozen=True)
class CarryFloat16(Pass):
    """See the module.

    Attributes:
        samples: Inputs that show which tensors leave float16's range; none trusts the structure alone.
        half_io: Graph inputs and outputs become float16 too.
        keep: Names of further nodes that stay float32.
    """

    name: ClassVar[str] = "carry-float16"
    keeps_float: ClassVar[bool] = False

    samples: Sequence[Feeds] = field(default=(), repr=False, compare=False)
    half_io: bool = False
    keep: frozenset[str] = frozenset()

    def run(self, model: ir.Model) -> Outcome:
        """Retype the model; matched are nodes that became float16, skipped those that stay float32 and why.

        A model without float32 left is not modified. ModelError where onnxruntime refuses to run `samples`.
        """
        fill_types(model)
        if not any(_has_float32(node) for node in model.graph.all_nodes() if node.op_type != "Cast"):
            return Outcome(False)
        clamp_sentinels(model)
        reasons = self._reasons(model)
        before = {node: _has_float32(node) for node in model.graph.all_nodes()}
        Retyper(model, reasons, Caster(model), half_io=self.half_io).run()
        halves = tuple(node.name or "" for node, touched in before.items() if touched and node not in reasons)
        skipped = tuple(Skip(node.name or "", reason) for node, reason in reasons.items() if before.get(node))
        counts = Counter(item.reason for item in skipped)
        listed = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
        message = f"{len(halves)} nodes carry float16, {len(skipped)} stay float32 ({listed or 'none'})"
        finding = Diagnostic("QC450", Severity.INFO, "", message)
        return Outcome(bool(halves), halves, skipped, (finding,))

    def _reasons(self, model: ir.Model) -> dict[ir.Node, str]:
        opset = model.opset_imports.get("", 19)
        reasons = sensitive_nodes(model)
        sizes = largest_magnitudes(model, self.samples) if self.samples else {}
        for node in model.graph.all_nodes():
            if node in reasons:
                continue
            if node.name in self.keep:
                reasons[node] = "named by the caller"
            elif any(_unfit_scale(value) for value in node.inputs):
                reasons[node] = "scale outside float16"
            elif not takes_half(node, opset):
                reasons[node] = "operator without float16"
            elif node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                reason = _range_reason(node, sizes)
                if reason:
                    reasons[node] = reason
        _keep_siblings(model, reasons)
        return reasons


def _keep_siblings(model: ir.Model, reasons: dict[ir.Node, str]) -> None:
    """Weighted operators that read one quantized tensor stay float32 together.

    Builders merge such siblings (query, key and value) into one product, and NVIDIA's fails inside where they differ.
    """
    groups: dict[ir.Node, list[ir.Node]] = {}  # QuantizeLinear to its weighted readers
    of_node: dict[ir.Node, list[ir.Node]] = {}
    for node in model.graph.all_nodes():
        if node.op_type not in WEIGHTED_OPS:
            continue
        for value in node.inputs[:2]:
            pair = None if value is None else value.producer()
            codes = pair.inputs[0] if pair is not None and pair.op_type == "DequantizeLinear" else None
            source = None if codes is None else codes.producer()
            if source is not None:
                groups.setdefault(source, []).append(node)
                of_node.setdefault(node, []).append(source)
    front = [node for node in of_node if node in reasons]
    while front:
        for source in of_node[front.pop()]:
            for sibling in groups[source]:
                if sibling not in reasons:
                    reasons[sibling] = "type of a sibling"
                    front.append(sibling)


def _has_float32(node: ir.Node) -> bool:
    return any(value.dtype == ir.DataType.FLOAT for value in (*node.inputs, *node.outputs) if value is not None)


def _range_reason(node: ir.Node, sizes: Mapping[str, float]) -> str:
    for value in (*node.inputs, *node.outputs):
        if not is_carried(value) or value is None:
            continue
        size = sizes.get(origin(value).name or "")
        if size is None and is_constant(value) and value.const_value is not None and value.const_value.size == 1:
            size = abs(float(value.const_value.numpy().reshape(-1)[0]))
            size = 0.0 if size < _TINY or size >= HALF_MAX else size  # sensitive.py sees epsilons; clamped bounds fit
        if size is not None and size > _LIMIT:
            return "beyond float16's range"
        if size is not None and 0 < size < _TINY:
            return "below float16's accuracy"
    return ""


def _unfit_scale(value: ir.Value | None) -> bool:
    """Whether the value is dequantized by a scale that float16 can't hold, so that its reader stays float32."""
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        return False
    scale = constant_array(producer.inputs[1])
    return scale is not None and scale_is_unfit(scale)
