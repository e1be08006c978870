"""The order of recognition."""

from __future__ import annotations

from qcompiler.passes.canonical.recognise_activations import RecogniseActivations
from qcompiler.passes.canonical.recognise_attention import RecogniseAttention
from qcompiler.passes.canonical.recognise_norms import RecogniseNorms
from qcompiler.passes.canonical.recognise_rotary import RecogniseRotary
from qcompiler.passes.canonical.sum_to_add import SumToAdd
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.normalize.opset_steps import find_schema
from qcompiler.passes.normalize.pipeline import COMMON_OPS
from qcompiler.pipeline import Pass


def canonical_passes(opset: int, native_ops: frozenset[str] = COMMON_OPS) -> tuple[Pass, ...]:
    """Norms, activations, attention and rotary embedding of a normalized model, as operators or annotated."""
    taken = frozenset(op for op in native_ops if find_schema(op, opset) is not None)
    return (
        SumToAdd(),
        RecogniseNorms(taken),
        RecogniseActivations(taken),
        RecogniseAttention(),
        RecogniseRotary(),
        DropUnused(),
    )
