"""Comparing a model before and after a pass on real inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from qcompiler.passes.canonical.pipeline import canonical_passes
from qcompiler.passes.normalize.pipeline import COMMON_OPS, normalize_passes
from qcompiler.pipeline import Pipeline
from qcompiler.session import Feeds, run_all


def ops_of(model: ir.Model) -> list[str]:
    """Operator types in graph order, subgraphs included."""
    return [node.op_type for node in model.graph.all_nodes()]


def random_feeds(model: ir.Model, sizes: Mapping[str, int] | None = None, seed: int = 0) -> Feeds:
    """Seeded inputs; symbolic dimensions take `sizes`, else 3."""
    random = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        assert value.name and value.dtype and value.shape is not None
        shape = [size if isinstance(size, int) else (sizes or {}).get(str(size.value), 3) for size in value.shape]
        if value.dtype == ir.DataType.BOOL:
            feeds[value.name] = random.integers(0, 2, shape).astype(bool)
        elif value.dtype.is_floating_point():
            feeds[value.name] = random.standard_normal(shape).astype(value.dtype.numpy())
        else:
            feeds[value.name] = random.integers(0, 4, shape).astype(value.dtype.numpy())
    return feeds


def largest_error(before: ir.Model, after: ir.Model, feeds: Feeds, *, optimize: bool = False) -> float:
    """Largest difference of any output over that output's largest magnitude; names, shapes and types must agree."""
    first, second = run_all(before, [feeds], optimize=optimize)[0], run_all(after, [feeds], optimize=optimize)[0]
    assert list(first) == list(second)
    worst = 0.0
    for name, wanted in first.items():
        got = second[name]
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), name
        if wanted.dtype.kind != "f":
            assert np.array_equal(got, wanted), name
        elif wanted.size:
            scale = float(np.max(np.abs(wanted.astype(np.float64)))) or 1.0
            worst = max(worst, float(np.max(np.abs(got.astype(np.float64) - wanted))) / scale)
    return worst


def normalized(
    model: ir.Model, opset: int = 19, native_ops: frozenset[str] = COMMON_OPS, *, canonical: bool = False
) -> ir.Model:
    """A normalized copy, by request with canonical forms."""
    passes = normalize_passes(opset, native_ops)
    if canonical:
        passes = (*passes, *canonical_passes(opset, native_ops))
    return Pipeline(passes).run(model.clone())[0]
