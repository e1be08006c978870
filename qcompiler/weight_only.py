"""int4 weights in blocks: whether a compile asks for them, and what its target has to have for them."""

from __future__ import annotations

from dataclasses import replace

from qcompiler import registry
from qcompiler.errors import UsageError
from qcompiler.options import CompileOptions
from qcompiler.plan import QuantPlan
from qcompiler.precision import parse_precision, read_bits_file
from qcompiler.scheme import PerBlock
from qcompiler.target import Target


def with_block_opset(target: Target, options: CompileOptions) -> Target:
    """`target`, with the opset that int4 blocks need where the options or the plan ask for them.

    Raises:
        UsageError: The target has none, or not with standard operators only; bits beside a plan, which has its own.
    """
    if options.plan is not None and (options.bits != "w8a8" or options.bits_file is not None):
        raise UsageError("a plan says itself how many bits there are", where="--plan",
                         hint="edit bits and scales in the plan, or leave out --bits and --bits-file")  # fmt: skip
    asked = _asked_for(options)
    if not asked:
        return target
    sizes = target.placement.int4_blocks
    if not sizes:
        takes = "w8a8, w6a6, ... of 4, 6, 8 bits in int8 containers"
        raise UsageError(f"{target.name} has no int4 weights in blocks", where=asked, hint=f"it takes {takes}")
    host = registry.find_target(target.host) if target.host else target
    if options.portable and (target.int4_domain or host.int4_domain):
        raise UsageError(f"int4 blocks need {target.int4_domain or host.int4_domain}", where="--portable",
                         hint=f"leave out --portable or {asked}")  # fmt: skip
    return replace(target, opset=max(target.opset, target.int4_opset))


def _asked_for(options: CompileOptions) -> str:
    """What asks for blocks; empty where nothing does."""
    if parse_precision(options.bits, "--bits").weight_only:
        return "--bits"
    file, plan = options.bits_file, options.plan
    if file is not None and any(item.weight_only for item in read_bits_file(file).values()):
        return "--bits-file"
    weights = {} if plan is None else QuantPlan.load(plan).weights
    quants = (item for found in weights.values() for item in found.values())
    return "--plan" if any(isinstance(item.scheme.granularity, PerBlock) for item in quants) else ""
