"""A recurrence with one decay a head runs in chunks of matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames
from qcompiler.passes.recurrence.build import Builder, rename_to
from qcompiler.passes.recurrence.each_scan import Refused, each_scan
from qcompiler.passes.recurrence.scans import Along, ScanParts, drop_dead_steps, write_scan
from qcompiler.passes.recurrence.step_products import StepProducts, find_products
from qcompiler.pipeline import Outcome, Pass

_SMALLEST = 8
"""Sizes of a head's state below which products of matrices do not pay."""
_FROM_THE_END = (-1, np.iinfo(np.int64).min)


@dataclass(frozen=True)
class ChunkScan(Pass):
    """h[t] = exp(z[t]) h[t-1] + x[t] B[t]^T, y[t] = h[t] C[t] becomes a Scan over chunks of Q steps (Mamba-2's SSD,
    arXiv 2405.21060, section 6).

    With w[i, j] = exp(z[j+1] + ... + z[i]) for j <= i, else 0:

        y = (C B^T * w) x + exp(z[1] + ... + z[i]) C h^T        h <- exp(z[1] + ... + z[Q]) h + (w[Q, .] x)^T B

    z is a number a head. Each sum is taken for itself, since differences of running sums cancel. The last chunk is
    filled up with z = 0 and x = 0, which keep the state. Memory beyond inputs and outputs is that of one chunk.

    Attributes:
        chunk: Q. On onnxruntime 32 and 64 are fastest for heads of 64 x 64 (docs/state-space.md).
    """

    name: ClassVar[str] = "chunk-scan"
    chunk: int = 32

    def run(self, model: ir.Model) -> Outcome:
        fresh = FreshNames(model)

        def act(parts: ScanParts) -> bool:
            found = find_products(parts)
            if isinstance(found, str):
                raise Refused(found)
            if reason := _too_small(found):
                raise Refused(reason)
            _write(parts, found, self.chunk, fresh)
            return True

        return each_scan(model, act)


def _too_small(found: StepProducts) -> str:
    sizes = [size for size in found.state[-2:] if isinstance(size, int)]
    small = len(sizes) < 2 or min(sizes) < _SMALLEST
    return f"a head's state is {found.state[-2]} x {found.state[-1]}: products would not pay" if small else ""


def _write(parts: ScanParts, found: StepProducts, chunk: int, fresh: FreshNames) -> None:
    graph = parts.node.graph
    assert graph is not None
    make = Builder(graph, fresh, parts.node.name or "scan")
    length = make.op("Shape", found.x.outer, start=0, end=1, dtype=ir.DataType.INT64)
    short = make.op("Mod", make.op("Neg", length), make.ints(chunk))
    chunks = _Chunks(make, chunk, short)
    named = (("z", found.decay, _log_decay(make, found), True), ("x", found.x, found.x.outer, True),
             ("b", found.b, found.b.outer, False), ("c", found.c, found.c.outer, found.c_is_column))  # fmt: skip
    blocks = [chunks.of(item, value, last=last) for _, item, value, last in named]
    inner = [chunks.step(item, f"{parts.node.name}_{name}_chunk", last=last) for name, item, _, last in named]
    state, sizes = parts.states[0], list(found.x.inner.shape or ())
    dims = len(sizes)
    steps = Builder(parts.body, fresh, f"{parts.node.name}_chunk")
    tables = [np.tril(np.ones((chunk, chunk), np.float32), diagonal).astype(_numpy_type(state.old))
              for diagonal in (0, -1)]  # fmt: skip
    lower, strict = (make.constant(table) for table in tables)
    y, after = _step(steps, state.old, inner, (lower, strict), chunk, dims)
    for node in steps.nodes:
        parts.body.append(node)
    state.new = after
    parts.inputs = [Along(block, value) for block, value in zip(blocks, inner, strict=True)]
    output = parts.outputs[0]
    backwards = output.backwards
    parts.outputs = [Along(output.outer, y)]
    make.insert_before(parts.node)
    scan = write_scan(parts)
    drop_dead_steps(parts.body)
    _write_back(make, parts.outputs[0], found, length, backwards)
    make.insert_after(scan)


def _log_decay(make: Builder, found: StepProducts) -> ir.Value:
    """z of exp(z), moved as exp(z) is."""
    value = found.exponent
    for node in reversed(found.moves):
        value = make.copy(node, [value, *node.inputs[1:]])
    return value


@dataclass(slots=True)
class _Chunks:
    make: Builder
    size: int
    short: ir.Value

    def of(self, item: Along, value: ir.Value, *, last: bool) -> ir.Value:
        """[T, ..., n, 1] (or with `last` false [T, ..., 1, n]), that goes along as `item`, to [chunks, ..., Q, n]."""
        make, sizes = self.make, list(item.inner.shape or ())
        dims = len(sizes) + 1
        if item.backwards:
            value = _reversed(make, value)
        pads = make.op("Concat", make.ints(*[0] * dims), self.short, make.ints(*[0] * (dims - 1)), axis=0)
        value = make.op("Pad", value, pads)
        kept = [*range(dims - 3), dims - 3 if last else dims - 2]
        target = _target(make, value, [-1, self.size], [(sizes[place], place + 1) for place in kept])
        value = make.op("Reshape", value, target)
        return make.op("Transpose", value, perm=[0, *range(2, dims - 1), 1, dims - 1])

    def step(self, item: Along, name: str, *, last: bool) -> ir.Value:
        """The body's input for what `of` gives."""
        sizes = list(item.inner.shape or ())
        shape = ir.Shape([*sizes[:-2], self.size, sizes[-2 if last else -1]])
        return ir.Value(name=self.make.fresh(name), type=item.inner.type, shape=shape)


def _target(make: Builder, value: ir.Value, front: list[int], sizes: list[tuple[object, int]]) -> ir.Value:
    """A shape operand: `front`, then each size: a number, or read from the axis of `value` that stands beside it."""
    parts: list[list[int] | int] = [front]
    for size, axis in sizes:
        if not isinstance(size, int):
            parts.append(axis)
        elif isinstance(parts[-1], list):
            parts[-1].append(size)
        else:
            parts.append([size])
    kind = ir.DataType.INT64
    values = [
        make.ints(*part) if isinstance(part, list) else make.op("Shape", value, start=part, end=part + 1, dtype=kind)
        for part in parts
    ]
    return values[0] if len(values) == 1 else make.op("Concat", *values, axis=0)


def _reversed(make: Builder, value: ir.Value) -> ir.Value:
    start, end = _FROM_THE_END
    return make.op("Slice", value, make.ints(start), make.ints(end), make.ints(0), make.ints(-1))


def _step(
    make: Builder, state: ir.Value, inner: Sequence[ir.Value], tables: tuple[ir.Value, ir.Value], chunk: int, dims: int
) -> tuple[ir.Value, ir.Value]:
    """y [..., Q, P] and the next state [..., P, N] from state, z [..., Q, 1], x [..., Q, P], B and C [..., Q, N]."""
    z, x, b, c = inner
    lower, strict = tables
    turn = [*range(dims - 2), dims - 1, dims - 2]
    sums = make.op("MatMul", lower, make.op("Mul", z, strict))
    decays = make.op("Mul", make.op("Exp", sums), lower)  # w
    pairs = make.op("MatMul", c, make.op("Transpose", b, perm=turn))
    within = make.op("MatMul", make.op("Mul", pairs, decays), x)
    since = make.op("Exp", make.op("MatMul", lower, z))
    before = make.op("MatMul", c, make.op("Transpose", state, perm=turn))
    y = make.op("Add", within, make.op("Mul", before, since))
    last = make.ints(chunk - 1)
    left = make.op("Transpose", make.op("Gather", decays, last, axis=dims - 2), perm=turn)  # w[Q, .] as a column
    weighted = make.op("Transpose", make.op("Mul", x, left), perm=turn)
    kept = make.op("Mul", state, make.op("Gather", since, last, axis=dims - 2))
    return y, make.op("Add", kept, make.op("MatMul", weighted, b))


def _write_back(make: Builder, output: Along, found: StepProducts, length: ir.Value, backwards: bool) -> None:
    """[chunks, ..., Q, P] to the output's own [T, ..., P, 1] or [T, ..., P]."""
    sizes = list(found.x.inner.shape or ())
    dims = len(sizes)
    value = make.op("Transpose", output.outer, perm=[0, dims - 1, *range(1, dims - 1), dims])
    node = make.nodes[-1]
    known = [(size, place + 2) for place, size in enumerate(found.state[:-1])]
    target = _target(make, value, [-1], [*known, *([(1, 0)] if found.keeps_axis else [])])
    value = make.op("Reshape", value, target)
    value = make.op("Slice", value, make.ints(0), length, make.ints(0))
    if backwards:
        value = _reversed(make, value)
    rename_to(output.outer, value)
    node.replace_input_with(0, output.outer)
    output.outer.shape = None


def _numpy_type(value: ir.Value) -> np.dtype[np.generic]:
    return np.dtype(np.float32) if value.dtype is None else value.dtype.numpy()
