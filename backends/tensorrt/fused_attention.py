"""Which attention blocks meet the conditions of TensorRT's fused kernels, and what the others miss.

One kernel for both products and the softmax keeps the scores out of memory. TensorRT may decline even so.

Conditions (NVIDIA's guide, section on fused attention, quoted in NVIDIA/TensorRT#2981; the scale: its page "Fused
Attention"): compute capability 7.5; operands of both products INT8, or both FP16 or BF16. INT8: head size 16, 32 or
64, at most 512 queries and keys, pairs in front of the first product, behind the softmax and behind the second
product. FP16: head size from 16 to 256, a multiple of 8. Queries or keys scaled in front of the first product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tensorrt.profiles import Profile
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.graph import LAYOUT_OPS
from qcompiler.passes.canonical.forms import Form, Role, form_of, role_of, site_of
from qcompiler.target import Placement

_BETWEEN = LAYOUT_OPS | {"Cast", "QuantizeLinear", "DequantizeLinear", "Clip"}


@dataclass(frozen=True, slots=True)
class Block:
    """One attention.

    Attributes:
        kernel: Type that both products read: "int8", "float", or "mixed".
        head_size: Of queries and keys; None where it is not fixed.
        queries: Most positions of a profile; None where unknown.
        misses: Conditions that it does not meet.
    """

    site: str
    kernel: str
    head_size: int | None
    queries: int | None
    keys: int | None
    misses: tuple[str, ...]


def attention_blocks(
    model: ir.Model, placement: Placement, profiles: Mapping[str, Profile], *, half: bool
) -> list[Block]:
    """Every recognised attention of an emitted graph, in graph order.

    Args:
        profiles: Shapes of inputs with dynamic dimensions, for the largest lengths.
        half: Whether what is float is float16.
    """
    parts: dict[str, dict[Role, list[ir.Node]]] = {}
    for node in model.graph:
        role, site = role_of(node), site_of(node)
        if form_of(node) is Form.ATTENTION and role is not None and site is not None:
            parts.setdefault(site, {}).setdefault(role, []).append(node)
    sizes = _largest_sizes(model, profiles)
    return [
        _block(site, found, placement, sizes, half)
        for site, found in parts.items()
        if all(len(found.get(role, ())) == 1 for role in (Role.QK, Role.SOFTMAX, Role.PV))
    ]


def describe(blocks: list[Block]) -> tuple[dict[str, Any], list[Diagnostic]]:
    """For the report: counts with each block, and one finding for each condition that is missed."""
    if not blocks:
        return {}, []
    fit = [block for block in blocks if not block.misses]
    counts = Counter(block.kernel for block in fit)
    facts = {"blocks": len(blocks), "fit": dict(sorted(counts.items())), "each": [asdict(block) for block in blocks]}
    findings = []
    for reason in dict.fromkeys(reason for block in blocks for reason in block.misses):
        missing = [block for block in blocks if reason in block.misses]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        findings.append(
            Diagnostic("QC529", Severity.INFO, missing[0].site, f"no fused attention kernel here{more}: {reason}")
        )
    return facts, findings


def _block(
    site: str, parts: Mapping[Role, list[ir.Node]], placement: Placement, sizes: Mapping[str, int], half: bool
) -> Block:
    first, last = parts[Role.QK][0], parts[Role.PV][0]
    head = _size(first.inputs[0], -1, sizes)
    queries, keys = _size(first.inputs[0], -2, sizes), _size(last.inputs[1], -2, sizes)
    pairs = [_dequantized(value) for node in (first, last) for value in node.inputs[:2]]
    kernel = "int8" if all(pairs) else "mixed" if any(pairs) else "float"
    misses = []
    if kernel == "mixed":
        misses.append("one product is INT8 and the other is not")
    elif kernel == "int8":
        heads, tokens = placement.fused_int8_heads, placement.fused_int8_tokens
        if head not in heads:
            misses.append(f"INT8 takes head sizes {', '.join(map(str, heads))}, this is {head or 'dynamic'}")
        if queries is None or keys is None or max(queries, keys) > tokens:
            misses.append(f"INT8 takes at most {tokens} positions, these are {queries or '?'} by {keys or '?'}")
        if not _ends_in_pairs(last.outputs[0]):
            misses.append("what the second product gives is not quantized")
    elif not half:
        misses.append("it computes in float32")
    elif head is None or not fused_in_half(head):
        misses.append(f"FP16 takes head sizes of 16 to 256 in steps of 8, this is {head or 'dynamic'}")
    if _scaled_behind(first, parts):
        misses.append("the scale stands behind the first product")
    if not _leads_to(parts[Role.SOFTMAX][0], last):
        misses.append("something stands between the softmax and the second product")
    return Block(site, kernel, head, queries, keys, tuple(misses))


def fused_in_half(head: int) -> bool:
    """Whether the FP16 kernels take this head size."""
    return 16 <= head <= 256 and head % 8 == 0


def _dequantized(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    return node is not None and node.op_type == "DequantizeLinear"


def _scaled_behind(product: ir.Node, parts: Mapping[Role, list[ir.Node]]) -> bool:
    """Whether a recognised scale reads the scores, past layout operators and casts."""
    scales = set(parts.get(Role.SCALE, ()))
    queue = [product.outputs[0]]
    while queue:
        for node in queue.pop().consumers():
            if node in scales:
                return True
            if node.op_type in LAYOUT_OPS or node.op_type == "Cast":
                queue.append(node.outputs[0])
    return False


def _leads_to(softmax: ir.Node, product: ir.Node) -> bool:
    """Whether nothing but pairs, casts and layout operators stands between the probabilities and their product."""
    value = product.inputs[0]
    while value is not None and (node := value.producer()) is not None and node is not softmax:
        if node.op_type not in _BETWEEN and not (node.op_type == "Add" and _shifts_for_pair(node)):
            return False
        value = node.inputs[0]
    return value is not None and value.producer() is softmax


def _shifts_for_pair(node: ir.Node) -> bool:
    """The Add that stands for a zero point (`center-zero-points`)."""
    readers = node.outputs[0].consumers()
    return bool(readers) and all(reader.op_type in ("QuantizeLinear", "Clip") for reader in readers)


def _ends_in_pairs(value: ir.Value) -> bool:
    """Whether only QuantizeLinears read the value, past layout operators and casts."""
    readers = value.consumers()
    return bool(readers) and all(
        node.op_type == "QuantizeLinear"
        or (node.op_type in LAYOUT_OPS | {"Cast", "Clip"} and _ends_in_pairs(node.outputs[0]))
        for node in readers
    )


def _size(value: ir.Value | None, axis: int, sizes: Mapping[str, int]) -> int | None:
    if value is None or value.shape is None or len(value.shape) < -axis:
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else sizes.get(size.value or "")


def _largest_sizes(model: ir.Model, profiles: Mapping[str, Profile]) -> dict[str, int]:
    """Symbol to its size in the largest shapes."""
    found: dict[str, int] = {}
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int) and size.value and value.name and value.name in profiles:
                found[size.value] = profiles[value.name][2][axis]
    return found
