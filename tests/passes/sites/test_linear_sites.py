"""Two matrix products in a row: shift and scale pass from one to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.driver import compile_model
from qcompiler.options import CompileOptions
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind
from tests.architectures import canonical
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

RANDOM = np.random.default_rng(6)


def array(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(np.float32)


def model(body: str, outputs: str = "float y") -> ir.Model:
    constants = {"w": array(8, 6), "b": array(6), "v": array(6, 5), "c": array(5), "u": array(6, 7),
                 "flat": np.array([-1, 6])}  # fmt: skip
    return canonical(build(f"m (float[N, 4, 8] x) => ({outputs}) {{ {body} }}", 17, **constants))


@pytest.mark.parametrize(
    ("body", "readers", "shifts"),
    [
        ("a = MatMul(x, w) h = Add(a, b) y = MatMul(h, v)", 1, True),
        ("h = MatMul(x, w) y = MatMul(h, v)", 1, False),
        ("a = MatMul(x, w) h = Add(b, a) r = Reshape(h, flat) y = Gemm(r, v, c)", 1, True),
        ("a = MatMul(x, w) h = Add(a, b) p = MatMul(h, v) q = MatMul(h, u) y = Concat<axis = -1>(p, q)", 2, True),
    ],
)
def test_shift_and_scale_pass(body: str, readers: int, shifts: bool) -> None:
    source = model(body)
    (site,) = find_sites(source).sites
    assert (site.kind, site.channels, len(site.readers), site.shifts) == (Kind.LINEAR, 6, readers, shifts)
    result = source.clone()
    shift = RANDOM.standard_normal(6) if shifts else np.zeros(6)
    FoldShiftScale({site.name: ShiftScale(shift, np.exp(RANDOM.standard_normal(6)))}).run(result)
    added = [op for op in ops_of(result) if op not in ("MatMul", "Gemm", "Reshape", "Concat")]
    assert added.count("Add") <= 1 + readers and set(added) <= {"Add"}
    assert largest_error(source, result, random_feeds(source)) < 1e-5


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        ("a = MatMul(x, w) h = Add(a, b) y = MatMul(h, v) z = Relu(h)", "float y, float z", "Relu reads it too"),
        ("a = MatMul(x, w) h = Add(a, b) y = MatMul(h, v)", "float y, float[N, 4, 6] h", "h is an output of the model"),
    ],
)
def test_near_misses(body: str, outputs: str, reason: str) -> None:
    found = find_sites(model(body, outputs))
    assert not found.sites
    assert [(item.kind, item.reason) for item in found.refused] == [(Kind.LINEAR, reason)]


def test_a_large_channel_between_two_products_goes() -> None:
    large = np.ones(6, np.float32)
    large[2] = 200
    text = "m (float[N, 4, 8] x) => (float[N, 4, 5] y) { a = MatMul(x, w) h = Add(a, b) y = MatMul(h, v) }"
    source = build(text, 17, w=array(8, 6) * large, b=array(6), v=array(6, 5) / large[:, None])
    feeds = [{"x": array(1, 4, 8)} for _ in range(10)]
    options = CompileOptions(
        target="orin", calib=feeds, equalize="auto", goal_sqnr=200.0, strict=True, threads=1, build_check="off"
    )
    facts = compile_model(source, options).facts["plan"]["equalize"]
    assert facts["taken"] == "no_nodes" and facts["sqnr"]["no_nodes"] > facts["sqnr"]["none"] + 6
