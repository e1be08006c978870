"""Random graphs full of equal pieces: other names and another order are never a change, a new operator always is."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.diffing.changes import Level
from qcompiler.diffing.compare import DiffOptions, compare_sides
from qcompiler.diffing.sides import Side
from tests.building import build
from tests.diffing.pairs import renamed

_UNARY = ("Relu", "Tanh", "Identity")
_BINARY = ("Add", "Mul", "Sub", "MatMul")


@st.composite
def graphs(draw: st.DrawFn) -> ir.Model:
    """Up to 24 nodes on 2x2 tensors, with few operators and few constants, so that much is alike."""
    names = ["x", "u", "k0", "k1"]
    lines = []
    for place in range(draw(st.integers(1, 24))):
        inputs = [draw(st.sampled_from(names[-8:] + names[:4])) for _ in range(2)]
        op = draw(st.sampled_from(_UNARY + _BINARY))
        read = inputs[0] if op in _UNARY else ", ".join(inputs)
        lines.append(f"v{place} = {op}({read})")
        names.append(f"v{place}")
    made = names[4:]
    returned = sorted({made[-1], draw(st.sampled_from(made))})
    outputs = ", ".join(f"float[2, 2] {name}" for name in returned)
    text = f"m (float[2, 2] x, float[2, 2] u) => ({outputs}) {{ {' '.join(lines)} }}"
    return build(text, k0=np.eye(2, dtype=np.float32), k1=np.ones((2, 2), np.float32))


def levels(first: ir.Model, second: ir.Model) -> list[str]:
    found = compare_sides(Side("a", first), Side("b", second), DiffOptions())
    return [f"{change.level.word}: {change.what}" for change in found.changes if change.level > Level.NAMES]


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(0, 100))
def test_other_names_are_no_change(model: ir.Model, seed: int) -> None:
    assert levels(model, renamed(model, seed)) == []


@settings(max_examples=60, deadline=None)
@given(graphs(), st.data())
def test_a_new_operator_is_seen(model: ir.Model, data: st.DataObject) -> None:
    other = ir.from_proto(ir.to_proto(model))
    nodes = list(other.graph)
    node = nodes[data.draw(st.integers(0, len(nodes) - 1))]
    node.op_type = "Exp" if len(node.inputs) == 1 else "Div"
    found = levels(model, renamed(other))
    assert found
    assert all(line.startswith("structure") for line in found)
