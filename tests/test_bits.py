"""Compiles below 8 bits: codes that stay on their grid, plans both ways, and what the report says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.driver import compile_model
from qcompiler.errors import UsageError
from qcompiler.manifest import manifest_document
from qcompiler.options import CompileOptions
from qcompiler.report import precisions_of, report_document
from qcompiler.result import CompileResult
from qcompiler.session import run_all
from tests.small_models import block_batches, cnn_batches, small_cnn, transformer_block

MODELS: dict[str, Any] = {"block": (transformer_block, block_batches), "cnn": (small_cnn, cnn_batches)}
QMAX = {4: 7, 6: 31, 8: 127}


def compiled(name: str = "block", target: str = "ort-cpu", **options: Any) -> CompileResult:
    make, batches = MODELS[name]
    options = {"calib": batches(), "method": "minmax", "build_check": "off", "threads": 1, "verify": False, **options}
    return compile_model(make(), CompileOptions(target=target, **options))


def activation_codes(model: ir.Model) -> dict[str, int]:
    """The value that holds the codes of each activation, to its zero point."""
    found = {}
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            clip = next((reader for reader in node.outputs[0].consumers() if reader.op_type == "Clip"), node)
            zero = node.inputs[2]
            assert zero is not None and zero.const_value is not None
            found[str(clip.outputs[0].name)] = int(zero.const_value.numpy().reshape(-1)[0])
    return found


@pytest.mark.parametrize("target", ["ort-cpu", "ort-cpu-arm64", "orin-jp6"])
@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("name", MODELS)
def test_no_code_leaves_its_grid_on_unseen_data(name: str, bits: int, target: str) -> None:
    result = compiled(name, target, bits=f"w{bits}a{bits}", carrier="fp32")
    codes = activation_codes(result.model)
    assert codes
    loud = {key: value * 30 for key, value in MODELS[name][1](1)[0].items()}
    found = run_all(result.model, [loud], list(codes), optimize=False)[0]
    largest = {value: int(np.abs(found[value].astype(int) - zero).max()) for value, zero in codes.items()}
    assert max(largest.values()) == QMAX[bits]
    for node, weights in result.plan.weights.items():
        for quant in weights.values():
            assert quant.scheme.bits == bits, node
    for quant in result.plan.tensors.values():
        assert quant.scheme.bits == bits


@pytest.mark.parametrize("name", MODELS)
def test_codes_stay_on_their_grid_in_optimized_graphs_too(name: str) -> None:
    """onnxruntime fuses clips into neighbours: what comes out is the same as node by node."""
    result = compiled(name, bits="w6a6")
    loud = {key: value * 30 for key, value in MODELS[name][1](1)[0].items()}
    one, other = run_all(result.model, [loud])[0]["y"], run_all(result.model, [loud], optimize=False)[0]["y"]
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * float(np.abs(other).max()))


def test_weights_are_codes_of_their_width() -> None:
    result = compiled("block", "orin-jp6", bits="w4a8", carrier="fp32")
    found = [
        int(np.abs(node.inputs[0].const_value.numpy().astype(int)).max())
        for node in result.model.graph
        if node.op_type == "DequantizeLinear" and node.inputs[0] is not None and node.inputs[0].const_value is not None
    ]
    assert len(found) == 7
    assert set(found) == {7}
    assert not any(node.op_type == "Clip" for node in result.model.graph)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", ["ort-cpu", "orin-jp6"])
def test_eight_bits_are_the_default(name: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text('"." = "w8a8"\n')
    plan = compiled(name, target).plan.to_json()
    assert b'"bits"' not in plan
    assert compiled(name, target, bits="w8a8").plan.to_json() == plan
    assert compiled(name, target, bits="w6a6", bits_file=tmp_path / "b.toml").plan.to_json() == plan


def test_narrow_grids_have_no_zero_points(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"^down$": "w8a8"}')
    result = compiled(bits="w6a6", bits_file=tmp_path / "b.json", zero_points="auto")
    moved = {name for name, quant in result.plan.tensors.items() if quant.zero_point is not None}
    assert moved == {"e4"}  # what GELU gives to the layer at 8 bits, and not the 6-bit probabilities


def test_every_product_stays_in_integer_kernels() -> None:
    for name, count in (("block", 9), ("cnn", 3)):
        facts = compiled(name, bits="w6a6").facts["model"]
        assert (facts["integer_kernels"], facts["leftovers"]) == (count, [])


def test_more_bits_are_closer_to_float() -> None:
    found = []
    for bits in ("w4a4", "w6a6", "w8a8"):
        result = compiled(bits=bits, verify=True, method="auto", float_share=0.0)
        found.append(result.verification["model"].outputs[0].sqnr)
    assert found == sorted(found)
    assert 5 < found[0] < found[1] - 8 < found[2] - 16  # about 6 dB a bit


def test_a_file_keeps_layers_at_eight(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"^(head|down)$": "w8a8"}')
    result = compiled(bits="w4a4", bits_file=tmp_path / "b.json")
    bits = {name: quant[1].scheme.bits for name, quant in result.plan.weights.items()}
    assert bits == {"q": 4, "k": 4, "v": 4, "out": 4, "up": 4, "down": 8, "head": 8}
    rows = {row["precision"]: row["nodes"] for row in precisions_of(result)}
    assert rows == {"w4a4": 7, "w8a8": 2}


def test_bits_edited_by_hand_are_carried_out(tmp_path: Path) -> None:
    document = json.loads(compiled().plan.to_json())
    document["tensors"]["n"].update(bits=4, scale=0.25)
    document["nodes"]["q"]["weights"]["1"]["bits"] = 6
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    result = compiled(plan=path)
    assert json.loads(result.plan.to_json()) == document
    codes = activation_codes(result.model)
    found = run_all(result.model, block_batches(1), list(codes), optimize=False)[0]
    widths = {name: int(np.abs(found[name].astype(int) - zero).max()) for name, zero in codes.items()}
    assert sorted(widths.values())[0] == 7
    assert all(width > 31 for width in sorted(widths.values())[1:])
    w = next(node.inputs[1] for node in result.model.graph if str(node.name).startswith("q/"))
    assert w is not None and w.const_value is not None
    assert int(np.abs(w.const_value.numpy().astype(int)).max()) <= 31


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda d: d["tensors"]["x"].update(bits=6, symmetric=False, zero_point=-32), "6 bits and a zero point"),
        (lambda d: d["tensors"]["x"].update(bits=9), "9 bits don't fit int8"),
        (lambda d: d["nodes"]["mid"]["output"].update(bits=6), "output of node 'mid' has 6 bits"),
        (lambda d: d["nodes"]["fc"]["weights"]["1"].update(dtype="int4", block=32), "by blocks don't fit"),
        (lambda d: d["nodes"]["fc"]["weights"]["1"].update(block=8), "blocks of 8"),
    ],
)
def test_bits_that_no_graph_has_are_refused(edit: Any, says: str, tmp_path: Path) -> None:
    document = json.loads(compiled("cnn").plan.to_json())
    edit(document)
    (tmp_path / "p.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=says) as caught:
        compiled("cnn", plan=tmp_path / "p.json")
    assert "p.json" in str(caught.value)


@pytest.mark.parametrize(("target", "nodes"), [("ort-cpu", 7), ("ort-cpu-arm64", 7), ("orin-jp6", 1), ("orin-jp7", 1)])
def test_int4_blocks(target: str, nodes: int, tmp_path: Path) -> None:
    result = compiled(target=target, bits="w4a16", verify=True)
    assert len(result.plan.nodes) == nodes  # 32 or 64 rows: Orin's blocks have 64 at least
    assert result.plan.tensors == {}
    assert all(item.outputs[0].sqnr > 12 for item in result.verification.values())
    assert precisions_of(result)[0]["runs"] == "weight_only"
    if target.startswith("orin"):
        blocked = [node for node in result.model.graph if node.attributes.get_int("block_size", 0)]
        assert [node.inputs[0].dtype for node in blocked if node.inputs[0]] == [ir.DataType.INT4]
        assert result.model.opset_imports[""] == {"orin-jp6": 21, "orin-jp7": 23}[target]
    else:
        assert result.facts["model"]["int4_kernels"] == nodes
    (tmp_path / "p.json").write_bytes(result.plan.to_json())
    again = compiled(target=target, plan=tmp_path / "p.json")
    assert again.plan.to_json() == result.plan.to_json()
    assert again.model.opset_imports == result.model.opset_imports


def test_a_plan_with_blocks_that_the_target_lacks(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(compiled(bits="w4a16").plan.to_json())
    with pytest.raises(UsageError, match="blocks of 32") as caught:
        compiled(target="orin", plan=tmp_path / "p.json")
    assert "128, 64" in str(caught.value.hint)


def test_report_and_manifest_say_what_is_faster(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"^up$": "w6a8", "^q$": "w4a16"}')
    result = compiled(bits_file=tmp_path / "b.json")
    rows = {row["precision"]: row for row in report_document(result)["precision"]}
    assert {name: (row["nodes"], row["runs"]) for name, row in rows.items()} == {
        "w8a8": (7, "integer"), "w6a8": (1, "models"), "w4a16": (1, "weight_only"),
    }  # fmt: skip
    assert rows["w6a8"]["note"] == "models accuracy only: 6 bits in int8 containers run as fast as 8"
    assert manifest_document(result, tmp_path)["precision"]["w6a8"] == {"nodes": 1, "runs": "models"}


def test_the_table_says_so_too(capsys: pytest.CaptureFixture[str]) -> None:
    from qcompiler.show import show_result

    show_result(compiled(bits="w6a6"), None, seconds=0.0)
    words = " ".join(capsys.readouterr().out.split())
    assert "w6a6: 9 nodes; models accuracy only: 6 bits in int8 containers run as fast as 8" in words


def test_equalization_takes_the_error_at_these_bits() -> None:
    result = compiled("block", bits="w4a4", equalize="auto", method="auto")
    sites = result.facts["plan"]["equalize"]["sites"]
    eight = compiled("block", equalize="auto", method="auto").facts["plan"]["equalize"]["sites"]
    for name, site in sites.items():
        assert site["readers_sqnr"]["none"] < eight[name]["readers_sqnr"]["none"] - 10
