"""plain-einsum: one MatMul with what layout needs around it; equations that are no product of matrices stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.passes.normalize.plain_einsum import PlainEinsum
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

SIZES = {"b": "N", "n": "S", "m": "M", "h": "2", "d": "4", "e": "3", "i": "S", "j": "N"}
RANDOM = np.random.default_rng(4)


def model_of(equation: str, constant: int | None) -> ir.Model:
    parts = equation.split("->")[0].split(",")
    names = ["x", "w"] if constant == 1 else ["w", "x"] if constant == 0 else ["x", "w"]
    inputs = ", ".join(f"float[{', '.join(SIZES[label] for label in part)}] {name}"
                       for at, (part, name) in enumerate(zip(parts, names, strict=True)) if at != constant)  # fmt: skip
    arrays = {}
    if constant is not None:
        arrays["w"] = RANDOM.standard_normal([int(SIZES[label]) for label in parts[constant]]).astype(np.float32)
    text = f'm ({inputs}) => (float y) {{ y = Einsum<equation = "{equation}">({", ".join(names)}) }}'
    return build(text, 17, **arrays)


@pytest.mark.parametrize(
    ("equation", "constant", "ops"),
    [
        ("bnd,de->bne", 1, ["MatMul"]),
        ("bnd,ed->bne", 1, ["MatMul"]),
        ("bnd,dhe->bnhe", 1, ["MatMul", "Reshape"]),
        ("bnd,dhe->bhne", 1, ["MatMul", "Reshape", "Transpose"]),
        ("dhe,bnd->bhne", 0, ["MatMul", "Reshape", "Transpose"]),
        ("bhne,hed->bnd", 1, ["Transpose", "Reshape", "MatMul"]),
        ("bnhe,dhe->bnd", 1, ["Reshape", "MatMul"]),
        ("bhnd,bhmd->bhnm", None, ["Transpose", "MatMul"]),
        ("bhnm,bhmd->bnhd", None, ["MatMul", "Transpose"]),
    ],
)
def test_one_product(equation: str, constant: int | None, ops: list[str]) -> None:
    source = model_of(equation, constant)
    result = source.clone()
    assert PlainEinsum().run(result).matched == ("y",)
    assert ops_of(result) == ops
    assert [value.name for value in result.graph.outputs] == ["y"]
    for size in (1, 3):
        assert largest_error(source, result, random_feeds(source, {"N": 2, "S": size, "M": 5})) < 2e-6
    assert not PlainEinsum().run(result).modified


@pytest.mark.parametrize(
    ("equation", "constant"),
    [
        ("bnd,de->be", 1),  # n is summed in one operand alone
        ("bhd,hde->bhe", 1),  # the constant has a matrix for each h
        ("bnhd,mhd->bnm", None),  # two summed labels of unknown place
        ("bnd,bmd->b", None),
    ],
)
def test_near_misses(equation: str, constant: int | None) -> None:
    model = model_of(equation, constant)
    outcome = PlainEinsum().run(model)
    assert not outcome.modified and len(outcome.skipped) == 1
