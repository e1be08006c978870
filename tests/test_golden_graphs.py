"""Emitted graphs as text, compared with tests/golden/: a change in what we emit becomes a diff that someone reads.

`QCOMPILE_UPDATE_GOLDEN=1 pytest tests/test_golden_graphs.py` writes the files anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from qcompiler.driver import compile_model
from qcompiler.options import CompileOptions
from tests.small_models import block_batches, cnn_batches, small_cnn, transformer_block

FOLDER = Path(__file__).parent / "golden"
MODELS: dict[str, Any] = {"block": (transformer_block, block_batches), "cnn": (small_cnn, cnn_batches)}
TARGETS = ("ort-cpu", "ort-cpu-arm64", "orin-jp6", "orin-jp7")
CASES = [
    *((name, target, "w8a8") for name in MODELS for target in TARGETS),
    *((name, target, "w6a6") for name in MODELS for target in ("ort-cpu", "orin-jp6")),
    *(("block", target, "w4a16") for target in ("ort-cpu", "orin-jp6")),
]


def file_name(name: str, target: str, bits: str) -> str:
    """Eight bits go without saying."""
    return f"{name}.{target}.txt" if bits == "w8a8" else f"{name}.{bits}.{target}.txt"


def described(model: ir.Model) -> str:
    """Operators, names, types, shapes and attributes; of constants only the integers that steer a graph."""
    return "\n".join(_lines(model)) + "\n"


def _lines(model: ir.Model) -> Iterator[str]:
    opsets = ", ".join(f"{domain or 'onnx'} {number}" for domain, number in sorted(model.opset_imports.items()))
    yield f"opsets: {opsets}"
    for kind, values in (("input", model.graph.inputs), ("output", model.graph.outputs)):
        for value in values:
            yield f"{kind} {_value(value)}"
    for _, value in sorted(model.graph.initializers.items()):
        yield f"constant {_value(value)}{_content(value)}"
    for node in model.graph:
        inputs = ", ".join("" if value is None else str(value.name) for value in node.inputs)
        outputs = ", ".join(_value(value) for value in node.outputs)
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        attributes = ", ".join(f"{name}={_attribute(item)}" for name, item in sorted(node.attributes.items()))
        yield f"[{node.name}] {outputs} = {operator}<{attributes}>({inputs})"


def _attribute(item: ir.Attr) -> str:
    value = item.value
    return f"{value:.6g}" if isinstance(value, float) else str(list(value) if isinstance(value, tuple) else value)


def _value(value: ir.Value) -> str:
    dtype = "?" if value.dtype is None else value.dtype.name.lower()
    shape = "?" if value.shape is None else ", ".join(str(size) for size in value.shape)
    return f"{value.name}: {dtype}[{shape}]"


def _content(value: ir.Value) -> str:
    """Shapes and axes in full, zero points as their number; weights and scales not at all."""
    if value.const_value is None or value.dtype is None or value.dtype.is_floating_point():
        return ""
    array = value.const_value.numpy()
    if value.dtype == ir.DataType.INT64 and array.size <= 8:
        return f" = {array.tolist()}"
    same = array.size and (array == array.reshape(-1)[0]).all()
    return f" = all {array.reshape(-1)[0]}" if same else ""


@pytest.mark.parametrize(("name", "target", "bits"), CASES)
def test_emitted_graph(name: str, target: str, bits: str) -> None:
    make, batches = MODELS[name]
    options = CompileOptions(
        target=target, bits=bits, calib=batches(), method="minmax", build_check="off", threads=1, verify=False
    )  # a fixed method: which rule measures best is no matter of the graph
    result = compile_model(make(), options)
    found = described(result.model)
    path = FOLDER / file_name(name, target, bits)
    if os.environ.get("QCOMPILE_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert path.exists(), f"no {path.name}: set QCOMPILE_UPDATE_GOLDEN=1 to write it"
    assert found == path.read_text(encoding="utf-8"), "read the diff; QCOMPILE_UPDATE_GOLDEN=1 accepts it"


def test_no_golden_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {file_name(*case) for case in CASES}
