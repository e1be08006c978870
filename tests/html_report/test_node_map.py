"""The precision map: what runs in integers, and which float nodes stand between."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.html_report.node_map import KINDS, node_map
from qcompiler.plan import QuantPlan
from qcompiler.scheme import INT8_ACTIVATION, TensorQuant
from tests.building import build

TEXT = """g (float[N, 4] x) => (float[N, 4] y, int64[2] n) {
    [shape] n = Shape(x) [one] a = MatMul(x, w) [act] b = Relu(a) [cube] c = Mul(b, b) [two] d = MatMul(c, w)
    [turn] e = Transpose(d) [three] f = MatMul(e, w) [kept] g = MatMul(f, w) [four] h = MatMul(g, w)
    [end] y = Relu(h) }"""
QUANT = TensorQuant(INT8_ACTIVATION, np.asarray(0.1, np.float32))


def found(**floats: str) -> dict[str, Any]:
    reads = {"one": "x", "two": "c", "three": "e", "four": "g"}
    plan = QuantPlan(
        tensors=dict.fromkeys(reads.values(), QUANT), nodes=dict.fromkeys(reads, (0,)), floats=floats
    )
    return node_map(build(TEXT, w=np.ones((4, 4), np.float32)), plan)


def test_kinds_and_reasons() -> None:
    made = found(kept="it is sensitive")
    kinds = {row[0]: KINDS[row[2]] for row in made["rows"]}
    assert kinds == {
        "shape": "other", "one": "integer", "act": "float", "cube": "float", "two": "integer", "turn": "float",
        "three": "integer", "kept": "kept", "four": "integer", "end": "float",
    }  # fmt: skip
    assert [made["reasons"][row[4]] for row in made["rows"] if row[4] >= 0] == ["it is sensitive"]
    assert {made["precisions"][row[3]] for row in made["rows"] if row[3] >= 0} == {"w8a8"}


def test_islands_lie_between_integers_and_say_whether_they_only_move() -> None:
    made = found(kept="it is sensitive")
    assert [(item["first"], item["last"], item["nodes"], item["moves"]) for item in made["islands"]] == [
        ("act", "cube", 2, False), ("turn", "turn", 1, True), ("kept", "kept", 1, False),
    ]  # fmt: skip
    member = {row[0]: row[5] for row in made["rows"]}
    assert (member["act"], member["cube"], member["end"], member["one"]) == (0, 0, -1, -1)


def test_a_body_of_a_loop_is_on_the_map() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]> g (float[4] s, float[N, 4] x) => (float[4] last) {
        [scan] last = Scan<num_scan_inputs = 1, body = b (float[4] h, float[4] v) => (float[4] k)
            { [inner] k = Add(h, v) }>(s, x) }"""
    import onnx_ir as ir

    made = node_map(ir.from_onnx_text(text), QuantPlan())
    assert {row[0] for row in made["rows"]} == {"scan", "inner"}
