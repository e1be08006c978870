"""Compiles with --softmax: each form on each target, plans both ways, masks, exporters' forms, the report."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.driver import compile_model
from qcompiler.errors import UsageError
from qcompiler.graph import constant_array
from qcompiler.lookup import NODE_KEY
from qcompiler.options import CompileOptions
from qcompiler.report import report_document
from qcompiler.result import CompileResult
from qcompiler.session import Session, run_all
from tests.architectures import WIDTH, bert, llama, vit
from tests.building import build
from tests.small_models import block_batches, transformer_block

HAS_BUILDER = importlib.util.find_spec("tensorrt_rtx") is not None
TARGETS = ("ort-cpu", "ort-cpu-arm64", "orin-jp6", "orin-jp7")
FORMS = ("integer", "float")


def compiled(model: ir.Model | None = None, target: str = "ort-cpu", **options: Any) -> CompileResult:
    settings: dict[str, Any] = {"calib": block_batches(), "method": "minmax", "build_check": "off", "threads": 1,
                                "verify": False, "softmax": "tan", "softmax_bits": 4, "carrier": "fp32"}  # fmt: skip
    settings |= options
    return compile_model(model or transformer_block(), CompileOptions(target=target, **settings))


def sequences(width: int = WIDTH, length: int = 9) -> list[Mapping[str, Any]]:
    random = np.random.default_rng(2)
    return [{"x": 2 * random.standard_normal((2, length, width)).astype(np.float32)} for _ in range(6)]


def lookups_of(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if NODE_KEY in node.metadata_props]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_holds_the_table(target: str, form: str) -> None:
    result = compiled(target=target, softmax_form=form)
    (gather,) = lookups_of(result.model)
    table = gather.inputs[0]
    assert table is not None and table.const_value is not None
    entries = table.const_value.numpy()
    assert (entries.size, len(np.unique(entries))) == (256, 16)
    ops = {node.op_type for node in result.model.graph}
    assert not ops & {"Tan", "Atan"}
    if target.startswith("ort"):
        wanted = {"integer": {"ort-cpu": np.uint8, "ort-cpu-arm64": np.int8}[target], "float": np.float32}[form]
        assert entries.dtype == wanted
        assert result.facts["model"]["leftovers"] == ([] if form == "integer" else ["mix"])
    else:
        assert entries.dtype == np.float32
        assert {"Round", "Clip"} <= ops
        assert len(lookups_of(result.host)) == 1 if result.host is not None else False
    assert not [item for item in result.diagnostics if item.severity.value == "error"]


@pytest.mark.parametrize("target", ["orin-jp6", "orin-jp7"])
def test_both_graphs_of_a_plan_hold_the_same_numbers(target: str) -> None:
    result = compiled(target=target)
    assert result.host is not None
    feeds = block_batches(2)
    for one, other in zip(run_all(result.model, feeds, optimize=False), run_all(result.host, feeds), strict=True):
        np.testing.assert_allclose(one["y"], other["y"], rtol=0, atol=2e-2 * np.abs(other["y"]).max())
        assert (np.abs(one["y"] - other["y"]) > 1e-4 * np.abs(other["y"]).max()).mean() < 0.02  # codes at ties


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["uniform", "tan", "log2", "log_sqrt2"])
def test_four_bits_stay_near_float_and_levels_are_few(kind: str, form: str) -> None:
    result = compiled(softmax=kind, softmax_form=form, verify=True)
    (gather,) = lookups_of(result.model)
    name = str(gather.outputs[0].name)
    found = run_all(result.model, block_batches(1), [name], optimize=False)[0][name]
    assert len(np.unique(found)) <= 16
    assert result.verification["model"].outputs[0].sqnr > 15


@pytest.mark.skipif(not HAS_BUILDER, reason="NVIDIA's builder is not installed")
@pytest.mark.parametrize("carrier", ["fp16", "fp32"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", ["orin-jp6", "orin-jp7"])
def test_nvidias_builder_takes_it(target: str, form: str, carrier: str) -> None:
    for heads in (False, True):
        plan = _by_head_plan(target, form, carrier) if heads else None
        result = compiled(target=target, softmax_form=form, carrier=carrier, build_check="on", plan=plan)
        assert result.check["verdict"] == "accepted", result.check
        assert len(lookups_of(result.model)) == 1


def _by_head_plan(target: str, form: str, carrier: str) -> Path:
    import tempfile

    document = json.loads(compiled(target=target, softmax_form=form, carrier=carrier).plan.to_json())
    (entry,) = document["lookups"].values()
    levels = entry["levels"][0]
    entry["levels"] = [levels, levels | {"top": levels["top"] / 2}, levels, {"kind": "log2", "bits": 3, "top": 0.25}]
    path = Path(tempfile.mkdtemp()) / "plan.json"
    path.write_text(json.dumps(document))
    return path


def test_half_precision_looks_up_the_same_codes() -> None:
    result = compiled(target="orin-jp6", carrier="fp16")
    (gather,) = lookups_of(result.model)
    assert gather.inputs[0] is not None and gather.inputs[0].dtype == ir.DataType.FLOAT16
    quantize = next(reader for reader in gather.outputs[0].consumers() if reader.op_type == "QuantizeLinear")
    codes = str(quantize.outputs[0].name)
    feeds = block_batches(1)
    found = Session(result.model, [codes], optimize=False).run(feeds[0])[codes]
    single = compiled(target="orin-jp6")
    (gather,) = lookups_of(single.model)
    quantize = next(reader for reader in gather.outputs[0].consumers() if reader.op_type == "QuantizeLinear")
    wanted = Session(single.model, [str(quantize.outputs[0].name)], optimize=False).run(feeds[0])
    assert (found != wanted[str(quantize.outputs[0].name)]).mean() < 0.02
    assert (found >= 0).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", ["ort-cpu", "orin-jp6"])
def test_a_plan_makes_the_same_graph_again(target: str, form: str, tmp_path: Path) -> None:
    first = compiled(target=target, softmax="auto", softmax_form=form)
    (tmp_path / "plan.json").write_bytes(first.plan.to_json())
    again = compiled(target=target, softmax="uniform", softmax_bits=None, plan=tmp_path / "plan.json")
    assert again.plan.to_json() == first.plan.to_json()
    assert ir.to_proto(again.model).graph.SerializeToString() == ir.to_proto(first.model).graph.SerializeToString()
    row = report_document(again)["lookup_tables"][0]
    assert row["error"] is row["histogram"] is None
    assert len(row["levels"]) == 16


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda d: d["lookups"].update(nowhere=d["lookups"]["p"]), "no tensor 'nowhere'"),
        (lambda d: d["lookups"]["p"].update(levels=3 * d["lookups"]["p"]["levels"]), "3 lists of levels don't fit"),
        (lambda d: d["lookups"]["p"].update(form="float"), "are float"),
        (lambda d: d["lookups"]["p"].update(form="other"), "not a plan"),
        (lambda d: d["lookups"]["p"]["levels"][0].update(alpha=3.5), "not a plan"),
        (lambda d: d["lookups"]["p"]["levels"][0].update(kind="log2"), "not a plan"),
        (lambda d: d["lookups"]["p"]["levels"][0].update(top=9), "not a plan"),
        (lambda d: d["lookups"]["p"].update(top=0), "not a plan"),
        (lambda d: d["tensors"]["p"].update(bits=4, symmetric=True, zero_point=None), "one 8-bit grid"),
    ],
)
def test_plans_that_do_not_fit_are_refused(edit: Any, says: str, tmp_path: Path) -> None:
    document = json.loads(compiled().plan.to_json())
    edit(document)
    if document["tensors"]["p"].get("zero_point", 0) is None:
        del document["tensors"]["p"]["zero_point"]
    (tmp_path / "p.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=says):
        compiled(plan=tmp_path / "p.json")


def test_the_default_changes_nothing() -> None:
    plain = compiled(softmax="uniform", softmax_bits=None)
    assert plain.plan.lookups == {}
    assert b"lookups" not in plain.plan.to_json()
    assert compiled(softmax="uniform", softmax_bits=8).plan.to_json() == plain.plan.to_json()
    assert report_document(plain)["lookup_tables"] == []


def test_at_eight_bits_auto_keeps_the_uniform_grid() -> None:
    result = compiled(softmax="auto", softmax_bits=None)
    assert result.plan.lookups == {}
    (reason,) = result.facts["plan"]["softmax"]["skipped"].values()
    assert "at most as good as the uniform grid" in reason


def test_bits_follow_the_activations() -> None:
    result = compiled(bits="w4a4", softmax_bits=None)
    assert [item.bits for item in result.plan.lookups["p"].heads] == [4]
    assert result.plan.tensors["p"].scheme.bits == 8  # its own grid is the container's
    assert result.plan.tensors["v3"].scheme.bits == 4


@pytest.mark.parametrize(("options", "reason"), [({"exclude": ("^mix$",)}, "excluded by the user")])
def test_what_stays_float_is_not_looked_up(options: dict[str, Any], reason: str) -> None:
    result = compiled(**options)
    assert result.plan.lookups == {}
    assert result.facts["plan"]["softmax"]["skipped"] == {"mix": reason}


def test_the_report_lists_the_levels() -> None:
    for target in ("ort-cpu", "orin-jp6"):
        result = compiled(target=target, softmax="auto")
        (row,) = report_document(result)["lookup_tables"]
        assert row["name"] in result.model.graph.initializers
        assert (row["tensor"], row["bits"], row["form"], row["heads"]) == ("p", 4, "integer", [])
        assert row["levels"] == sorted(row["levels"]) and len(row["levels"]) == len(row["exact_levels"]) == 16
        assert row["levels"][0] == row["exact_levels"][0] == 0
        assert row["levels"][-1] == pytest.approx(row["d"], rel=1e-5)
        assert row["error"] == min(row["by_kind"].values()) > 0
        assert sum(row["histogram"]["counts"]) == result.calibration["samples"] * 4 * 12 * 12
        json.dumps(row)


@pytest.mark.parametrize("bits", [3, 4])
def test_calibration_picks_what_suits_a_sharp_layer(bits: int) -> None:
    """Queries scaled up make probabilities a power law; scaled down, all alike."""
    found = {}
    for name, gain in (("sharp", 1.5), ("flat", 0.01)):
        model = transformer_block()
        value = model.graph.initializers["root"]
        value.const_value = ir.tensor(np.float32(gain), name="root")
        found[name] = report_document(compiled(model, softmax="auto", softmax_bits=bits))["lookup_tables"][0]
    assert found["sharp"]["by_kind"]["tan"] < 0.9 * found["sharp"]["by_kind"]["uniform"]
    assert found["sharp"]["d"] > 0.8
    assert found["flat"]["d"] < 0.1
    assert found["flat"]["error"] < 0.05


@pytest.mark.parametrize("make", [vit, bert, llama])
def test_blocks_as_exporters_write_them(make: Any) -> None:
    for target in ("ort-cpu", "orin-jp6"):
        result = compiled(make(), target, calib=sequences())
        assert len(lookups_of(result.model)) == 2
        longer = sequences(length=14)[0]
        assert run_all(result.model, [longer])[0]["y"].shape[0] == 2  # another length than calibration had


CAUSAL = """causal (float[N, 6, 16] x) => (float[N, 6, 16] y) {
    q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) kt = Transpose<perm = [0, 2, 1]>(k)
    s = MatMul(q, kt) m = Add(s, mask) p = Softmax<axis = -1>(m) [mix] h = MatMul(p, v) y = MatMul(h, wo) }"""
CLIPPED = CAUSAL.replace("[mix] h = MatMul(p, v)", "t = Mul(p, zeta) u = Add(t, gamma) c = Clip(u, no, one) "
                                                   "[mix] h = MatMul(c, v)")  # fmt: skip


def attention(text: str) -> ir.Model:
    random = np.random.default_rng(4)
    weights = {f"w{name}": (random.standard_normal((16, 16)) / 4).astype(np.float32) for name in "qkvo"}
    mask = np.triu(np.full((6, 6), -np.inf, np.float32), 1)
    numbers = {"zeta": 1.06, "gamma": -0.03, "no": 0.0, "one": 1.0}
    return build(text, 17, mask=mask, **weights, **{name: np.float32(value) for name, value in numbers.items()})


@pytest.mark.parametrize("how", ["uniform", "tan", "log_sqrt2", "auto"])
@pytest.mark.parametrize("target", ["ort-cpu", "orin-jp6"])
@pytest.mark.parametrize(("text", "tensor"), [(CAUSAL, "p"), (CLIPPED, "c")])
def test_exact_zeros_of_masks_and_clips_stay_exact(text: str, tensor: str, target: str, how: str) -> None:
    result = compiled(attention(text), target, calib=sequences(16, 6), softmax=how)
    assert list(result.plan.lookups) == [tensor]
    row = report_document(result)["lookup_tables"][0]
    assert row["histogram"]["zeros"] > 0
    model, feeds = result.model, sequences(16, 6)[0]
    before = run_all(result.reference, [feeds], [tensor])[0][tensor]
    (gather,) = lookups_of(model)
    found = run_all(model, [feeds], [str(gather.outputs[0].name)], optimize=False)[0][str(gather.outputs[0].name)]
    zero = 0
    table = constant_array(gather.inputs[0])
    assert table is not None
    if table.dtype == np.uint8:
        zero = int(table[0])
    assert (before == 0).mean() > 0.3
    assert (found[before == 0] == zero).all()
    assert (found != zero).any()


def test_clipped_softmax_keeps_its_zeros_on_the_plain_grid_too() -> None:
    result = compiled(attention(CLIPPED), calib=sequences(16, 6), softmax="uniform", softmax_bits=None)
    quant = result.plan.tensors["c"]
    assert quant.zero_point is not None and int(quant.zero_point) == -128
    assert float(quant.scale) * 255 <= 1.0 + 1e-6


def test_a_diff_names_tensors_with_other_levels() -> None:
    from qcompiler.diffing.plans import plan_changes

    plan, other = compiled().plan, compiled(softmax="log2").plan
    found = [item.facts for item in plan_changes(plan, other, 10.0)]
    assert {"kind": "plan_lookups", "tensors": ["p"]} in found
    assert plan_changes(plan, plan, 0.01) == []


def test_the_table_on_screen_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    from qcompiler.show import show_result

    show_result(compiled(), None, seconds=0.0)
    words = " ".join(capsys.readouterr().out.split())
    assert "1 softmax outputs: 4 bits, tan; a lookup table models their accuracy" in words
