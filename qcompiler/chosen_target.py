"""The target of a compile: the row of the table, with what the options change in it."""

from __future__ import annotations

from dataclasses import replace

from qcompiler import registry
from qcompiler.errors import UsageError
from qcompiler.options import CompileOptions
from qcompiler.target import Target
from qcompiler.weight_only import with_block_opset


def target_for(options: CompileOptions) -> Target:
    """The target that the options name, with the opset that int4 blocks need, and where what is float is FP32 with no
    attention left to kernels for FP16.

    Raises:
        UsageError: There is no such target, it has no such carrier, or not the precision that is asked for.
    """
    target = with_block_opset(registry.find_target(options.target), options)
    carrier = options.carrier or target.carrier
    if carrier not in target.carriers:
        raise UsageError(f"{target.name} has no {carrier} carrier", where="--carrier",
                         hint=f"it has {', '.join(target.carriers)}")  # fmt: skip
    if carrier != "fp16" and target.placement.fused_half:
        return replace(target, placement=replace(target.placement, fused_half=False))
    return target
