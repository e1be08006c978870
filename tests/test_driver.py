"""From a model to emitted graphs: every target, plans both ways, the same bytes, the guard in place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler import registry
from qcompiler.diagnostics import Severity
from qcompiler.driver import compile_model
from qcompiler.errors import UsageError
from qcompiler.graph import add_initializer, make_node
from qcompiler.options import CompileOptions
from qcompiler.pipeline import Outcome, Pass
from qcompiler.registry import find_target, make_emitter, target_names
from qcompiler.report import report_document
from qcompiler.result import CompileResult
from qcompiler.saving import save_model
from qcompiler.session import run_all
from tests.building import build
from tests.small_models import block_batches, cnn_batches, small_cnn, transformer_block

MODELS: dict[str, Any] = {"block": (transformer_block, block_batches), "cnn": (small_cnn, cnn_batches)}


def compiled(name: str = "block", target: str = "ort-cpu", **options: Any) -> CompileResult:
    make, batches = MODELS[name]
    options = {"calib": batches(), "build_check": "off", "threads": 1, **options}
    return compile_model(make(), CompileOptions(target=target, **options))


def codes_of(result: CompileResult) -> list[str]:
    return [item.code for item in result.diagnostics]


def content(model: ir.Model, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    save_model(model, folder / "model.onnx")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", [*target_names(), "orin"])
def test_every_target(name: str, target: str) -> None:
    result = compiled(name, target)
    assert result.target is find_target(target)
    assert {item.code for item in result.diagnostics if item.severity is not Severity.INFO} <= {"QC514"}
    assert len(result.plan.nodes) >= 3
    assert (result.host is not None) == bool(result.target.host)
    make, _ = MODELS[name]
    for artifact, comparison in result.verification.items():
        assert [item.name for item in comparison.outputs] == ["y"]
        # int8 everywhere: about 30 dB on random weights; a scale that is wrong by 2 costs 6
        assert comparison.outputs[0].sqnr > 22, (artifact, comparison.outputs[0].sqnr)
    for facts in result.facts.values():
        assert not facts.get("leftovers")
    for emitted in filter(None, (result.model, result.host)):
        assert [value.name for value in emitted.graph.inputs] == ["x"]
        assert [value.name for value in emitted.graph.outputs] == ["y"]
        assert emitted.graph.inputs[0].dtype == make().graph.inputs[0].dtype
    found = [item for item in make_emitter(result.target).lint(result.model) if item.severity is not Severity.INFO]
    assert found == []


def test_host_graph_of_orin_is_what_its_host_target_emits(tmp_path: Path) -> None:
    orin, host = compiled("cnn", "orin", carrier="fp32"), None
    host = compiled("cnn", orin.target.host, plan=saved(orin, tmp_path))
    assert orin.host is not None
    feeds = cnn_batches(1)
    one, other = run_all(orin.host, feeds)[0]["y"], run_all(host.model, feeds)[0]["y"]
    np.testing.assert_allclose(one, other, rtol=0, atol=0.02 * np.abs(other).max())


def saved(result: CompileResult, folder: Path) -> Path:
    path = folder / "plan.json"
    path.write_bytes(result.plan.to_json())
    return path


@pytest.mark.parametrize("target", ["ort-cpu", "orin"])
def test_two_compiles_give_the_same_bytes(target: str, tmp_path: Path) -> None:
    first, second = compiled(target=target), compiled(target=target)
    assert content(first.model, tmp_path / "a") == content(second.model, tmp_path / "b")
    assert first.plan.to_json() == second.plan.to_json()
    assert first.diagnostics == second.diagnostics
    if first.host is not None and second.host is not None:
        assert content(first.host, tmp_path / "c") == content(second.host, tmp_path / "d")


@pytest.mark.parametrize("name", MODELS)
def test_a_plan_passed_back_gives_the_same_graph(name: str, tmp_path: Path) -> None:
    first = compiled(name)
    second = compiled(name, plan=saved(first, tmp_path))
    assert second.plan.to_json() == first.plan.to_json()
    assert content(first.model, tmp_path / "a") == content(second.model, tmp_path / "b")


def test_an_edited_scale_is_carried_out(tmp_path: Path) -> None:
    first = compiled("cnn")
    document = json.loads(first.plan.to_json())
    document["tensors"]["x"]["scale"] = 0.125
    (tmp_path / "edited.json").write_text(json.dumps(document))
    second = compiled("cnn", plan=tmp_path / "edited.json")
    scales = [node.inputs[1].const_value.numpy() for node in second.model.graph  # type: ignore[union-attr]
              if node.op_type == "QuantizeLinear" and node.inputs[0] is second.model.graph.inputs[0]]  # fmt: skip
    assert scales == [np.float32(0.125)]


def edit(document: dict[str, Any], what: str) -> None:
    weights = document["nodes"]["fc"]["weights"]["1"]
    if what == "node":
        document["nodes"]["fcc"] = document["nodes"].pop("fc")
    elif what == "tensor":
        document["tensors"]["a99"] = {"dtype": "int8", "scale": 1.0}
    elif what == "channels":
        weights["scale"] = weights["scale"][:-1]
    elif what == "axis":
        weights["axis"] = 7
    elif what == "index":
        document["nodes"]["fc"]["weights"] = {"5": weights}
    elif what == "activation":
        document["nodes"]["fc"]["activations"] = [9]
    elif what == "not constant":
        document["nodes"]["fc"]["weights"] = {"0": weights}
    elif what == "output":
        document["nodes"]["stem"]["output"] = {"dtype": "int8", "axis": 1, "scale": [0.1, 0.2]}
    elif what == "type":
        document["tensors"]["x"]["dtype"] = "uint8"
    elif what == "no scale":
        del document["tensors"]["x"]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("node", "unknown node 'fcc'"),
        ("tensor", "no tensor 'a99'"),
        ("channels", "fc"),
        ("axis", "fc"),
        ("index", "fc"),
        ("activation", "fc"),
        ("not constant", "fc"),
        ("no scale", "stem"),
        ("output", "the output of node 'stem'"),
        ("type", "tensor 'x' is uint8"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(what: str, says: str, tmp_path: Path) -> None:
    document = json.loads(compiled("cnn").plan.to_json())
    edit(document, what)
    (tmp_path / "p.json").write_text(json.dumps(document))
    with pytest.raises(UsageError) as caught:
        compiled("cnn", plan=tmp_path / "p.json")
    line = str(caught.value)
    assert says in line
    assert "p.json" in line
    assert "\n" not in line


def test_a_plan_for_another_model_is_refused(tmp_path: Path) -> None:
    plan = saved(compiled("cnn"), tmp_path)
    with pytest.raises(UsageError, match=r"plan\.json: unknown node"):
        compiled("block", plan=plan)


def test_the_given_model_is_left_as_it_was() -> None:
    model = transformer_block()
    text = ir.to_onnx_text(model)
    tensors = {name: value.const_value for name, value in model.graph.initializers.items()}
    arrays = {name: tensor.numpy().copy() for name, tensor in tensors.items() if tensor is not None}
    options = CompileOptions(calib=block_batches(), threads=1)
    result = compile_model(model, options)
    assert ir.to_onnx_text(model) == text
    for name, value in model.graph.initializers.items():
        assert value.const_value is tensors[name]
        assert value.const_value is not None
        np.testing.assert_array_equal(value.const_value.numpy(), arrays[name])
    feeds = block_batches(1)
    source, reference = run_all(model, feeds)[0]["y"], run_all(result.reference, feeds)[0]["y"]
    np.testing.assert_allclose(reference, source, rtol=0, atol=1e-5 * np.abs(source).max())
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in result.reference.graph}


def test_a_path_and_an_object_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save_model(small_cnn(), path)
    options = CompileOptions(calib=cnn_batches(), threads=1)
    result = compile_model(path, options)
    assert result.source == str(path)
    assert result.plan.to_json() == compiled("cnn").plan.to_json()


def test_synthetic_inputs_are_loud_and_seeded() -> None:
    first, second, other = (compiled("cnn", calib=None, seed=seed) for seed in (1, 1, 2))
    assert "QC202" in codes_of(first)
    assert first.calibration["source"] == "synthetic"
    assert first.plan.to_json() == second.plan.to_json()
    assert first.plan.to_json() != other.plan.to_json()


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_methods(method: str) -> None:
    result = compiled("cnn", method=method)
    assert result.calibration["method"] == method
    assert result.verification["model"].outputs[0].sqnr > 12  # entropy clips hard
    exact = max(float(np.abs(feeds["x"]).max()) for feeds in cnn_batches())
    scale = float(result.plan.tensors["x"].scale)
    assert scale <= exact / 127 * (1 + 1e-6)
    assert ("percentile" in result.calibration) == (method == "percentile")


def test_float_share_bounds_what_stays_float() -> None:
    """Two channels of g are 500 times the others and hardly weigh in: int8 leaves the others few codes."""
    random = np.random.default_rng(0)
    gains, damped = np.ones(16, np.float32), random.standard_normal((16, 16)).astype(np.float32)
    gains[:2], damped[:2] = 500, damped[:2] / 500
    model = build(
        """m (float[4, 16] x) => (float[4, 16] y) {
            g = Mul(x, gains) [touchy] h = MatMul(g, w) r = Relu(h) [robust] y = MatMul(r, v) }""",
        gains=gains, w=damped, v=random.standard_normal((16, 16)).astype(np.float32),
    )  # fmt: skip
    data = [{"x": random.standard_normal((4, 16)).astype(np.float32)} for _ in range(8)]
    found = {}
    for share in (0.0, 0.4, 0.6):  # each node does half of the work
        result = qcompiler.compile(model, target="ort-cpu", calibration=data, float_share=share)
        found[share] = [name for name, reason in result.plan.floats.items() if "sensitive" in reason]
        assert set(found[share]).isdisjoint(result.plan.nodes)
    assert found == {0.0: [], 0.4: [], 0.6: ["touchy"]}


def test_filters_and_nothing_left_to_quantize() -> None:
    without = compiled("cnn", exclude=("stem",))
    assert without.plan.floats["stem"] == "excluded by the user"
    nothing = compiled("cnn", exclude_op=("Conv", "Gemm"))
    assert nothing.plan.nodes == {}
    assert "QC301" in codes_of(nothing)
    assert nothing.verification["model"].outputs[0].sqnr > 100


def test_gates_are_listed_and_do_not_raise() -> None:
    assert compiled("cnn", min_sqnr=1.0, min_cosine=0.5).gates == ()
    missed = compiled("cnn", min_sqnr=200.0).gates
    assert len(missed) == 1
    assert "200" in missed[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "orinn"}, "unknown target"),
        ({"target": "ort-cpu", "carrier": "fp16"}, "no fp16 carrier"),
        ({"passes": ("drop-no-ops",)}, "neither [+]name nor -name"),
        ({"passes": ("-drop-noops",)}, "drop-no-ops"),
        ({"passes": ("+drop-noops",)}, "drop-no-ops"),
        ({"dump_after": ("insert-qdqq",)}, "insert-qdq"),
    ],
)
def test_options_that_name_nothing(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        compiled("cnn", **options)


@dataclass(frozen=True)
class DoubleGains(Pass):
    """A pass that claims to keep the float function and does not."""

    name: ClassVar[str] = "double-gains"

    def run(self, model: ir.Model) -> Outcome:
        for node in model.graph:
            if node.op_type == "Relu":
                node.op_type = "Neg"
        return Outcome(True, ("all",))


@dataclass(frozen=True)
class NudgeWeight(Pass):
    """Scales the first weight by 1.001."""

    name: ClassVar[str] = "nudge-weight"

    def run(self, model: ir.Model) -> Outcome:
        value = next(item for item in model.graph.initializers.values() if item.dtype == ir.DataType.FLOAT)
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.001), name=value.name)
        return Outcome(True, (str(value.name),))


@dataclass(frozen=True)
class ClipInput(Pass):
    """Clips at what calibration saw: wrong beyond."""

    name: ClassVar[str] = "clip-input"

    def run(self, model: ir.Model) -> Outcome:
        given = model.graph.inputs[0]
        bounds = [add_initializer(model.graph, np.array(item, np.float32), f"clip{item}") for item in (-9.0, 0.5)]
        uses = tuple(given.uses())
        made = make_node("Clip", [given, *bounds], output="clipped", dtype=given.dtype, shape=given.shape)
        model.graph.insert_before(model.graph[0], made)
        for use in uses:
            use.node.replace_input_with(use.idx, made.outputs[0])
        return Outcome(True, ("x",))


@dataclass(frozen=True)
class FixBatch(Pass):
    """Reshapes an output to one row: right for batches of one alone."""

    name: ClassVar[str] = "fix-batch"

    def run(self, model: ir.Model) -> Outcome:
        old = model.graph.outputs[0]
        rest = [int(size) for size in old.shape or () if isinstance(size, int)]
        size = add_initializer(model.graph, np.array([1, *rest[-1:]]), "one_row")
        name, old.name = str(old.name), "of_any_batch"
        made = make_node("Reshape", [old, size], output=name, dtype=old.dtype, shape=old.shape)
        model.graph.append(made)
        model.graph.outputs[0] = made.outputs[0]
        return Outcome(True, (name,))


def with_pass(kind: type[Pass], monkeypatch: pytest.MonkeyPatch, **options: Any) -> CompileResult:
    """The result with this pass of a plugin added."""
    point = EntryPoint(kind.name, f"tests.test_driver:{kind.__name__}", registry.PASS_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.PASS_GROUP else [])
    monkeypatch.setattr(registry, "load_attribute", lambda name: kind if name == point.value else load(name))
    registry._table.cache_clear()
    try:
        return compiled("cnn", passes=(f"+{kind.name}",), **options)
    finally:
        registry._table.cache_clear()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (NudgeWeight, "output 'y' differs by"),
        (ClipInput, " on random 0 "),
        (FixBatch, "the rewritten model does not run on random 0"),
    ],
)
def test_wrong_rewrites_are_caught_undone_and_named(
    kind: type[Pass], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calib = [{name: np.minimum(array, 0.25) for name, array in batch.items()} for batch in cnn_batches()]
    wanted = compiled("cnn", calib=calib)
    result = with_pass(kind, monkeypatch, calib=calib)
    (broken,) = [item for item in result.certificates if not item.holds]
    assert broken.passes == (kind.name,)
    assert reason in broken.reason
    assert result.plan.to_json() == wanted.plan.to_json()
    assert result.gates == ()
    assert report_document(result)["certificates"][-1]["reason"] == broken.reason
    if kind is NudgeWeight:
        assert broken.first is not None  # the convolution with the weight
        assert broken.arithmetic == "float64"


def test_strict_makes_an_undone_pass_a_missed_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    result = with_pass(NudgeWeight, monkeypatch, strict=True)
    assert len(result.gates) == 1
    assert result.gates[0].startswith("nudge-weight was undone: output 'y' differs by")
    assert compiled("cnn", strict=True).gates == ()


def test_certificates_of_a_compile_are_the_same_again() -> None:
    first, second = (report_document(compiled("block"))["certificates"] for _ in range(2))
    assert first == second
    assert all(item["holds"] and item["samples"] == {"calibration": 1, "random": 1} for item in first)
    assert "recognise-norms" in {name for item in first for name in item["passes"]}


def test_a_pass_that_lies_is_undone_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = compiled("cnn")
    result = with_pass(DoubleGains, monkeypatch)
    assert codes_of(result).count("QC401") == 1
    run = next(run for run in result.runs if run.name == "double-gains")
    assert "output 'y' differs" in run.undone
    assert result.plan.to_json() == wanted.plan.to_json()


load = registry.load_attribute


def test_a_pass_can_be_left_out_and_dumps_are_written(tmp_path: Path) -> None:
    result = compiled("block", passes=("-recognise-activations",), dump_after=("insert-qdq",), dump_dir=tmp_path)
    assert "recognise-activations" not in {run.name for run in result.runs}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["insert-qdq.onnx", "insert-qdq.onnxtxt"]


def test_held_back_samples_verify() -> None:
    result = compiled("cnn", calib=cnn_batches(8))
    assert result.calibration["samples"] + result.calibration["held_back"] == 16
    assert result.verification["model"].samples == result.calibration["held_back"]
    given = compiled("cnn", validate=cnn_batches(3))
    assert given.verification["model"].samples == 6
    assert "held_back" not in given.calibration
    assert compiled("cnn", verify=False).verification == {}
