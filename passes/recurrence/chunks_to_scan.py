"""Mamba-2's chunked matrix form becomes a Scan, or is given roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames
from qcompiler.passes.recurrence.build import Builder, rename_to
from qcompiler.passes.recurrence.chunk_regions import find_regions
from qcompiler.passes.recurrence.chunked_form import ChunkedForm, judge
from qcompiler.passes.recurrence.observe import Array, observe
from qcompiler.passes.recurrence.over_time import rank_of
from qcompiler.passes.recurrence.product_roles import product_roles
from qcompiler.passes.recurrence.recognise_recurrences import gate_roles
from qcompiler.passes.recurrence.roles import TensorRole, give_roles
from qcompiler.pipeline import Outcome, Pass, Skip

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ChunksToScan(Pass):
    """Running sums of log decays, masked products of C and B, states between chunks: Mamba-2 written in matrix products
    (arXiv 2405.21060, listing 1, and what exporters make of its einsums) becomes Scan over single steps.

    The form is found around the running sums of z and judged by one run on seeded inputs against the recurrence; the
    guard of a compile proves the rewrite again. `chunk-scan` then cuts the Scan into chunks as the runtime likes them,
    with states handed from chunk to chunk: exporters take all pairs of chunks.

    Attributes:
        rewrite: False gives roles and leaves the nodes.
    """

    name: ClassVar[str] = "chunks-to-scan"
    rewrite: bool = True

    def run(self, model: ir.Model) -> Outcome:
        regions = list(find_regions(model.graph))
        if not regions:
            return Outcome(False)
        wanted = dict.fromkeys(value for region in regions for value in region.values)
        seen = observe(model, wanted)
        fresh, matched, skipped, modified = FreshNames(model), list[str](), list[Skip](), False
        for region in regions:
            site = str(region.decay.name)
            form = judge(region, seen)
            if form is None:
                skipped.append(Skip(site, "running sums, but no recurrence of Mamba-2"))
                continue
            matched.append(site)
            if not self.rewrite:
                roles = product_roles(form.decay, form.x, form.b, form.c)
                roles |= {TensorRole.OUTPUT: form.y, **gate_roles(form.y)}
                modified |= give_roles(roles, site)
            else:
                modified = True
                ends = [value for value in model.graph.outputs if _is_last(seen.get(str(value.name)), form.last)]
                _write(model.graph, form, ends, fresh)
        if self.rewrite and matched:
            model.graph.sort()
        return Outcome(modified, tuple(matched), tuple(skipped))


def _is_last(array: Array | None, last: Array) -> bool:
    bound = _TOLERANCE * float(np.abs(last).max())
    return array is not None and array.shape == last.shape and bool(np.abs(array - last).max() <= bound)


def _write(graph: ir.Graph, form: ChunkedForm, ends: Sequence[ir.Value], fresh: FreshNames) -> None:
    make = Builder(graph, fresh, str(form.y.name))
    repeats = form.heads // form.groups
    lead = [form.groups, repeats] if 1 < form.groups < form.heads else [form.heads]  # heads that share B in an axis
    shared = [form.groups, 1] if len(lead) == 2 else [form.groups]
    shapes = {"z": (form.decay, [*lead, 1, 1]), "x": (form.x, [*lead, form.head, 1]),
              "b": (form.b, [*shared, 1, form.width]), "c": (form.c, [*shared, form.width, 1])}  # fmt: skip
    outer, inner = [], []
    for name, (value, sizes) in shapes.items():
        data = make.op("Exp", value) if name == "z" else value
        made = make.op("Reshape", data, make.ints(0, 0, *sizes))
        made.shape = ir.Shape([*list(value.shape or (None, None))[:2], *sizes])
        outer.append(made)
        shape = ir.Shape([_batch(value), *sizes])
        inner.append(ir.Value(name=fresh(f"{make.stem}_{name}"), type=made.type, shape=shape))
    batch = make.op("Shape", form.decay, start=0, end=1, dtype=ir.DataType.INT64)
    size = make.op("Concat", batch, make.ints(*lead, form.head, form.width), axis=0)
    kind = np.float32 if form.decay.dtype is None else form.decay.dtype.numpy()
    first = make.op("ConstantOfShape", size, dtype=form.decay.dtype, value=ir.tensor(np.zeros(1, kind)))
    first.shape = ir.Shape([_batch(form.decay), *lead, form.head, form.width])
    old = ir.Value(name=fresh(f"{make.stem}_state"), type=first.type, shape=first.shape)
    z, x, b, c = inner
    body = ir.Graph([old, *inner], [], nodes=[], name=fresh(f"{make.stem}_body"))
    steps = Builder(body, fresh, f"{make.stem}_step")
    new = steps.op("Add", steps.op("Mul", z, old), steps.op("Mul", x, b))
    row = steps.op("MatMul", new, c)
    body.extend(steps.nodes)
    body.outputs.extend([new, row])
    new.shape, row.shape = first.shape, ir.Shape([first.shape[0], *lead, form.head, 1])
    scan = ir.Node("", "Scan", [first, *outer], {
        "body": ir.AttrGraph("body", body), "num_scan_inputs": ir.AttrInt64("num_scan_inputs", 4),
        "scan_input_axes": ir.AttrInt64s("scan_input_axes", [1] * 4),
        "scan_output_axes": ir.AttrInt64s("scan_output_axes", [1]),
    }, num_outputs=2, name=fresh(f"{make.stem}_scan"))  # fmt: skip
    last, rows = scan.outputs
    last.name, rows.name = fresh(f"{make.stem}_last"), fresh(f"{make.stem}_rows")
    last.type, rows.type = first.type, first.type
    last.shape, rows.shape = first.shape, None
    make.nodes.append(scan)
    tail = [form.heads, form.head] if rank_of(form.y) == 4 else [form.heads * form.head]
    y = make.op("Reshape", rows, make.ints(0, 0, *tail))
    y = _padded(make, y, form, len(tail) + 2)
    maker = form.y.producer()
    assert maker is not None
    for end in ends:
        made = make.op("Reshape", last, make.ints(0, form.heads, form.head, form.width))
        rename_to(end, made)
    make.insert_before(maker)
    rename_to(form.y, y)


def _batch(value: ir.Value) -> int | ir.SymbolicDim | None:
    return None if value.shape is None else value.shape[0]


def _padded(make: Builder, y: ir.Value, form: ChunkedForm, dims: int) -> ir.Value:
    """Zeros up to whole chunks where the form's own y has them."""
    if not form.filled_up:
        return y
    steps = make.op("Shape", form.decay, start=1, end=2, dtype=ir.DataType.INT64)
    short = make.op("Mod", make.op("Neg", steps), make.ints(form.chunk))
    pads = make.op("Concat", make.ints(*[0] * (dims + 1)), short, make.ints(*[0] * (dims - 2)), axis=0)
    return make.op("Pad", y, pads)
