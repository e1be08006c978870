"""Conditions of fused attention are told block by block, from the emitted graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qcompiler
from tests.building import build

WIDTH = 192
TEXT = """m ({input} x) => (float y) {{
    q0 = MatMul(x, wq) q1 = Reshape(q0, heads) q = Transpose<perm = [0, 2, 1, 3]>(q1)
    k0 = MatMul(x, wk) k1 = Reshape(k0, heads) k = Transpose<perm = [0, 2, 3, 1]>(k1)
    v0 = MatMul(x, wv) v1 = Reshape(v0, heads) v = Transpose<perm = [0, 2, 1, 3]>(v1)
    a = MatMul(q, k) b = Mul(a, c) p = Softmax<axis = -1>(b) {between}
    m0 = MatMul({read}, v) m1 = Transpose<perm = [0, 2, 1, 3]>(m0) m2 = Reshape(m1, back) {tail} }}"""


def compiled(
    head: int = 16, length: int | str = 8, between: str = "", read: str = "p", tail: str = "y = MatMul(m2, wo)",
    **options: Any,
) -> Any:
    random = np.random.default_rng(0)
    count = 8 if isinstance(length, str) else length
    weights = {f"w{name}": random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 8 for name in "qkvo"}
    model = build(
        TEXT.format(input=f"float[1, {length}, {WIDTH}]", between=between, read=read, tail=tail), 21, **weights,
        heads=np.array([0, 0, WIDTH // head, head]), back=np.array([0, 0, WIDTH]), c=np.float32(head**-0.5),
        half=np.float32(0.5),
    )  # fmt: skip
    feeds = [{"x": random.standard_normal((1, count, WIDTH)).astype(np.float32)} for _ in range(3)]
    kept: dict[str, Any] = {"target": "orin", "verify": False, "build_check": "off", "calibration": feeds}
    kept["float_share"] = 0.0
    return qcompiler.compile(model, **kept | options)


def facts_of(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = result.facts["model"]["attention"]
    return found


@pytest.mark.parametrize("head", [16, 32])
def test_a_block_of_a_vit_meets_all_conditions(head: int) -> None:
    facts = facts_of(compiled(head))
    assert facts["blocks"] == 1 and facts["fit"] == {"int8": 1}
    (block,) = facts["each"]
    assert (block["kernel"], block["head_size"], block["queries"], block["keys"]) == ("int8", head, 8, 8)
    assert block["misses"] == ()


@pytest.mark.parametrize(
    ("given", "kernel", "misses"),
    [
        ({"head": 8}, "int8", "INT8 takes head sizes 16, 32, 64, this is 8"),
        ({"tail": "y = Relu(m2)"}, "int8", "what the second product gives is not quantized"),
        ({"between": "p2 = Mul(p, half) p3 = Add(p2, half)", "read": "p3"}, "", ""),
        ({"exclude": ("^m0$",)}, "mixed", "one product is INT8 and the other is not"),
        ({"exclude": ("^m0$", "^a$"), "carrier": "fp32"}, "float", "it computes in float32"),
        ({"exclude": ("^m0$", "^a$"), "head": 8}, "float", "FP16 takes head sizes of 16 to 256 in steps of 8"),
    ],
)
def test_what_a_block_misses_is_said(given: dict[str, Any], kernel: str, misses: str) -> None:
    result = compiled(**given)
    if not kernel:  # no softmax product is recognised there at all
        assert "attention" not in result.facts["model"]
        return
    (block,) = facts_of(result)["each"]
    assert block["kernel"] == kernel and any(misses in reason for reason in block["misses"])
    assert facts_of(result)["fit"] == {}
    said = [item for item in result.diagnostics if item.code == "QC529"]
    assert any(misses in item.message for item in said)


def test_the_half_kernel_takes_what_the_int8_one_does_not() -> None:
    long, short = compiled(16, 640), compiled(16, 512)
    assert facts_of(short)["fit"] == {"int8": 1}
    assert facts_of(long)["fit"] == {"float": 1}
    assert {"a", "m0"} <= long.plan.floats.keys() and "640 positions in FP16 only" in long.plan.floats["a"]
    host = compiled(16, 640, target="ort-cpu")
    assert not {"a", "m0"} & host.plan.floats.keys()


@pytest.mark.parametrize(("head", "length"), [(16, 640), (24, 8)])
def test_with_float32_around_it_no_block_waits_for_the_half_kernel(head: int, length: int) -> None:
    """Float products would run in FP32, unfused; INT8 ones are at least INT8."""
    half, single = (compiled(head, length, carrier=carrier) for carrier in ("fp16", "fp32"))
    assert {"a", "m0"} <= half.plan.floats.keys() and facts_of(half)["fit"] == {"float": 1}
    assert not {"a", "m0"} & single.plan.floats.keys() and {"a", "m0"} <= single.plan.nodes.keys()
    (block,) = facts_of(single)["each"]
    assert block["kernel"] == "int8" and len(block["misses"]) == 1


def test_lengths_of_dynamic_inputs_come_from_the_profile() -> None:
    short = compiled(16, "L", shapes={"x": ((1, 4, WIDTH), (1, 8, WIDTH), (1, 128, WIDTH))})
    long = compiled(16, "L", shapes={"x": ((1, 4, WIDTH), (1, 8, WIDTH), (1, 1024, WIDTH))})
    assert facts_of(short)["each"][0]["queries"] == 128 and facts_of(short)["fit"] == {"int8": 1}
    assert "these are 1024 by 1024" in facts_of(long)["each"][0]["misses"][0]
