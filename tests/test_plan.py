"""Plans as JSON: exact both ways, the same bytes whatever the order, and one line for what is malformed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import UsageError
from qcompiler.plan import SCHEMA, QuantPlan
from qcompiler.scheme import PerAxis, PerBlock, QuantScheme, TensorQuant, int8_weight
from tests.building import per_tensor

positive = st.floats(min_value=2.0**-149, allow_infinity=False, allow_nan=False, width=32).filter(lambda x: x > 0)


def full_plan() -> QuantPlan:
    return QuantPlan(
        tensors={
            "x": per_tensor(0.1),
            "u": TensorQuant(
                QuantScheme(ir.DataType.UINT8, symmetric=False), np.asarray(0.3, np.float32), np.asarray(7, np.uint8)
            ),
        },
        weights={
            "mm": {1: TensorQuant(int8_weight(1), np.array([0.1, 1 / 3], np.float32))},
            "blocked": {1: TensorQuant(QuantScheme(granularity=PerBlock(0, 32)), np.full((2, 3), 0.7, np.float32))},
            "narrow": {1: TensorQuant(QuantScheme(granularity=PerAxis(0), bits=4), np.array([1e-7], np.float32))},
        },
        nodes={"mm": (0,), "blocked": (0,), "narrow": (0,), "both": (0, 1)},
        outputs={"mm": TensorQuant(QuantScheme(granularity=PerAxis(1)), np.array([0.1, 2 / 3], np.float32))},
        biases={"mm": [0.25, float(np.float32(-0.1))]},
        floats={"conv": "excluded by the user"},
        groups=[("c", "a", "b")],
    )


def test_json_round_trip() -> None:
    plan = full_plan()
    back = QuantPlan.from_json(plan.to_json())
    assert back.to_json() == plan.to_json()
    assert (back.nodes, back.floats, back.groups) == (plan.nodes, plan.floats, plan.groups)
    assert back.biases["mm"] == pytest.approx(plan.biases["mm"], rel=1e-7)
    same_quant(back.outputs["mm"], plan.outputs["mm"])
    for name, quant in plan.tensors.items():
        same_quant(back.tensors[name], quant)
    for name, weights in plan.weights.items():
        for index, quant in weights.items():
            same_quant(back.weights[name][index], quant)


def same_quant(one: TensorQuant, other: TensorQuant) -> None:
    assert one.scheme == other.scheme
    assert one.scale.dtype == np.float32
    assert one.scale.shape == other.scale.shape
    assert one.scale.tobytes() == np.asarray(other.scale).tobytes()
    if other.zero_point is None:
        assert one.zero_point is None
    else:
        assert one.zero_point is not None
        assert (one.zero_point.dtype, one.zero_point.tolist()) == (other.zero_point.dtype, other.zero_point.tolist())


@given(positive, st.lists(positive, min_size=1, max_size=6))
def test_every_scale_comes_back_to_the_bit(scale: float, channels: list[float]) -> None:
    plan = QuantPlan(
        tensors={"x": per_tensor(scale)},
        weights={"n": {1: TensorQuant(int8_weight(0), np.array(channels, np.float32))}},
        nodes={"n": (0,)},
    )
    back = QuantPlan.from_json(plan.to_json())
    assert back.tensors["x"].scale.tobytes() == np.float32(scale).tobytes()
    assert back.weights["n"][1].scale.tobytes() == np.array(channels, np.float32).tobytes()


def test_bytes_do_not_depend_on_the_order_of_entries() -> None:
    plan, other = full_plan(), full_plan()
    mappings: tuple[dict[str, Any], ...] = (other.tensors, other.weights, other.nodes, other.floats)
    for mapping in mappings:
        for name in list(mapping)[:-1]:
            mapping[name] = mapping.pop(name)
    assert list(other.tensors) != list(plan.tensors)
    assert other.to_json() == plan.to_json()


def test_scales_are_written_as_people_write_them() -> None:
    document = json.loads(full_plan().to_json())
    assert document["schema"] == SCHEMA
    assert document["tensors"]["x"] == {"dtype": "int8", "scale": 0.1}
    assert b"0.33333334" in full_plan().to_json()


def edited(*path: str | int, value: Any) -> bytes:
    document = json.loads(full_plan().to_json())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a plan"),
        (b"{", "not a plan"),
        (b"[]", "not a plan"),
        (b"null", "not a plan"),
        (b"{}", "not a plan"),
        (b"\xff\xfe", "not a plan"),
        (edited("schema", value="qcompile-plan/9"), "schema is 'qcompile-plan/9'"),
        (edited("tensors", value=[]), "not a plan"),
        (edited("nodes", "mm", "bias_correction", value=[0, 1e39]), "nodes.mm.bias_correction: a correction is"),
        (edited("nodes", "mm", "bias_correction", value=1), "a list of finite numbers"),
        (edited("nodes", "mm", "bias_correction", value="big"), "not a plan"),
        (edited("tensors", "x", value=3), "not a plan"),
        (edited("tensors", "x", value={"dtype": "int8"}), "not a plan"),
        (edited("tensors", "x", "dtype", value="int99"), "not a plan"),
        (edited("tensors", "x", "scale", value="big"), "not a plan"),
        (edited("tensors", "x", "scale", value=0), "tensors.x: a scale must be positive"),
        (edited("tensors", "x", "scale", value=-1.0), "tensors.x: a scale must be positive"),
        (edited("tensors", "x", "scale", value=1e300), "tensors.x: a scale must be positive and finite"),
        (edited("tensors", "x", "scale", value=[0.1, 0.2]), "tensors.x: "),
        (edited("tensors", "x", "scale", value=[]), "tensors.x: "),
        (edited("nodes", "mm", "weights", "1", "scale", value=0.1), "nodes.mm.weights.1: "),
        (edited("nodes", "mm", "weights", "1", "scale", value=[]), "nodes.mm.weights.1: "),
        (edited("nodes", "mm", "weights", "1", "scale", value=[[0.1]]), "nodes.mm.weights.1: "),
        (edited("nodes", "mm", "weights", "1", "axis", value="one"), "not a plan"),
        (edited("nodes", "mm", "weights", value={"one": {}}), "not a plan"),
        (edited("nodes", "mm", "activations", value=["x"]), "not a plan"),
        (edited("nodes", value=7), "not a plan"),
    ],
)
def test_malformed_plans_are_one_line(data: bytes, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        QuantPlan.from_json(data, "p.json")
    line = str(caught.value)
    assert says in line
    assert line.startswith("p.json")
    assert "\n" not in line


def test_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"plan\.json: cannot read the plan: No such file"):
        QuantPlan.load(tmp_path / "plan.json")
