"""Both forms of a lookup in the graph: against numpy, shared tables, near misses with reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.lookup import Levels, Lookup
from qcompiler.numerics import dequantize, quantize
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.softmax.insert_lookups import InsertLookups
from qcompiler.passes.softmax.level_quantizers import decode, quantizer_of
from qcompiler.passes.softmax.tables import fine_codes, largest_error, table_of
from qcompiler.pipeline import Skip
from qcompiler.plan import QuantPlan
from qcompiler.scheme import QuantScheme, TensorQuant
from qcompiler.session import run_all
from tests.building import build, is_topological, node_named, per_tensor
from tests.equivalence import ops_of, random_feeds

ATTENTION = """m (float[N, 2, S, 6] s, float[N, 2, 6, 4] v) => (float[N, 2, S, 4] y, float[N, 2, S, 6] p) {
    p = Softmax<axis = -1>(s) [mix] y = MatMul(p, v) }"""
TAN, LOG = Levels("tan", 4, 0.8, 1.7, 0.8), Levels("log_sqrt2", 4, 0.8)
CHAIN = ["QuantizeLinear", "Cast", "Add", "Gather"]


def plan_of(lookup: Lookup, tensor: str = "p", node: str = "mix", zero: int | None = -128) -> QuantPlan:
    scheme = QuantScheme(symmetric=zero is None)
    scale = np.asarray(lookup.top / (127 - (zero or 0)), np.float32)
    quant = TensorQuant(scheme, scale, None if zero is None else np.asarray(zero, np.int8))
    if lookup.form == "float":
        return QuantPlan(tensors={"v": per_tensor(0.03)}, nodes={node: (1,)}, lookups={tensor: lookup})
    return QuantPlan(tensors={tensor: quant, "v": per_tensor(0.03)}, nodes={node: (0, 1)}, lookups={tensor: lookup})


def applied(text: str, plan: QuantPlan) -> ir.Model:
    model = build(text)
    InsertQdq(plan).run(model)
    outcome = InsertLookups(plan).run(model)
    assert (outcome.matched, outcome.skipped) == (tuple(plan.lookups), ())
    assert is_topological(model.graph)
    return model


@pytest.mark.parametrize("zero", [None, -128])
def test_integer_form_is_the_quantizer_on_the_grid(zero: int | None) -> None:
    plan = plan_of(Lookup((TAN,), 0.8), zero=zero)
    model = applied(ATTENTION, plan)
    assert ops_of(model)[ops_of(model).index("Softmax") + 1 :][:6] == [*CHAIN, "QuantizeLinear", "DequantizeLinear"]
    assert [value.name for value in model.graph.outputs] == ["y", "p"]
    feeds = random_feeds(model, {"S": 5})
    found = run_all(model, [feeds], ["p_levels", "p_dequantized"], optimize=False)[0]
    before = run_all(build(ATTENTION), [feeds])[0]
    np.testing.assert_array_equal(found["p"], before["p"])  # other readers keep the probabilities

    grid = plan.tensors["p"]
    table = table_of(plan.lookups["p"], grid).entries[0]
    np.testing.assert_array_equal(found["p_levels"], table[fine_codes(before["p"], 0.8)])
    np.testing.assert_array_equal(found["p_dequantized"], dequantize(quantize(found["p_levels"], grid), grid))
    np.testing.assert_allclose(found["p_dequantized"], found["p_levels"], rtol=1e-6)  # the pair rounds nothing away
    exact = quantizer_of(TAN)
    distance = np.abs(found["p_levels"] - decode(exact, exact.encode(before["p"]))).max()
    assert distance <= largest_error(TAN, 0.8, grid) + 1e-6
    v = per_tensor(0.03)
    wanted = found["p_dequantized"] @ dequantize(quantize(feeds["v"], v), v)
    np.testing.assert_allclose(found["y"], wanted, atol=1e-6)


def test_float_form_holds_the_exact_levels() -> None:
    plan = plan_of(Lookup((LOG,), 0.8, "float"))
    model = applied(ATTENTION, plan)
    assert ops_of(model).count("QuantizeLinear") == 2  # the fine grid and V
    feeds = random_feeds(model, {"S": 5})
    found = run_all(model, [feeds], ["p_levels"], optimize=False)[0]
    levels = quantizer_of(LOG).levels().astype(np.float32)
    assert np.isin(found["p_levels"], levels).all()
    mix = node_named(model, "mix").inputs[0]
    assert mix is not None and mix.name == "p_levels"


def test_heads_have_rows_of_one_table() -> None:
    plan = plan_of(Lookup((TAN, LOG), 0.8))
    model = applied(ATTENTION, plan)
    assert model.graph.initializers["softmax_table_tan4_log_sqrt24"].shape == (512,)
    rows = model.graph.initializers["softmax_rows"].const_value
    assert rows is not None and rows.numpy().tolist() == [[[128]], [[128 + 256]]]
    feeds = random_feeds(model, {"S": 5})
    found = run_all(model, [feeds], ["p_levels"], optimize=False)[0]
    entries = table_of(plan.lookups["p"], plan.tensors["p"]).entries
    codes = fine_codes(found["p"], 0.8)
    np.testing.assert_array_equal(found["p_levels"][:, 0], entries[0][codes[:, 0]])
    np.testing.assert_array_equal(found["p_levels"][:, 1], entries[1][codes[:, 1]])


def test_layers_with_equal_levels_share_the_table() -> None:
    text = """m (float[N, 2, S, 6] s, float[N, 2, 6, 6] v) => (float[N, 2, S, 6] y) {
        p = Softmax<axis = -1>(s) [mix] h = MatMul(p, v) q = Softmax<axis = -1>(h) [next] y = MatMul(q, v) }"""
    one, other = plan_of(Lookup((TAN,), 0.8)), plan_of(Lookup((TAN,), 0.8), "q", "next")
    both = QuantPlan(tensors=one.tensors | other.tensors, nodes=one.nodes | other.nodes,
                     lookups=one.lookups | other.lookups)  # fmt: skip
    gathers = [node for node in applied(text, both).graph if node.op_type == "Gather"]
    assert len(gathers) == 2
    assert gathers[0].inputs[0] is gathers[1].inputs[0]
    both.lookups["q"] = Lookup((LOG,), 0.8)
    gathers = [node for node in applied(text, both).graph if node.op_type == "Gather"]
    assert gathers[0].inputs[0] is not gathers[1].inputs[0]


def test_masked_zeros_stay_zero_in_every_kind() -> None:
    text = """m (float[N, 2, S, 6] s, bool[S, 6] keep, float[N, 2, 6, 4] v) => (float[N, 2, S, 4] y) {
        t = Where(keep, s, low) p = Softmax<axis = -1>(t) [mix] y = MatMul(p, v) }"""
    for levels in (TAN, LOG, Levels("log2", 3, 0.8), Levels("uniform", 3, 0.8)):
        plan = plan_of(Lookup((levels,), 0.8))
        model = build(text, low=np.float32(-np.inf))
        InsertQdq(plan).run(model)
        InsertLookups(plan).run(model)
        feeds = dict(random_feeds(model, {"S": 6})) | {"keep": np.tril(np.ones((6, 6), bool))}
        found = run_all(model, [feeds], ["p_dequantized"], optimize=False)[0]["p_dequantized"]
        assert (found[..., ~feeds["keep"]] == 0).all()
        assert (found[..., 0, 0] > 0).all()


def test_a_second_run_changes_nothing() -> None:
    for form in ("integer", "float"):
        plan = plan_of(Lookup((TAN,), 0.8, form))
        model = applied(ATTENTION, plan)
        text = ir.to_onnx_text(model)
        outcome = InsertLookups(plan).run(model)
        assert not outcome.modified
        assert outcome.skipped == (Skip("p", "nothing that takes levels reads it"),)
        assert ir.to_onnx_text(model) == text


@pytest.mark.parametrize(
    ("change", "skip"),
    [
        ({"lookups": {"nowhere": Lookup((TAN,), 0.8)}}, Skip("nowhere", "the graph has no such tensor")),
        ({"nodes": {}}, Skip("p", "nothing that takes levels reads it")),
    ],
)
def test_near_misses_have_a_reason(change: dict[str, Any], skip: Skip) -> None:
    plan = replace(plan_of(Lookup((TAN,), 0.8)), **change)
    model = build(ATTENTION)
    InsertQdq(plan).run(model)
    text = ir.to_onnx_text(model)
    outcome = InsertLookups(plan).run(model)
    assert (outcome.modified, outcome.skipped) == (False, (skip,))
    assert ir.to_onnx_text(model) == text


def test_meant_for_plans_with_lookups_alone() -> None:
    model = build(ATTENTION)
    assert InsertLookups(plan_of(Lookup((TAN,), 0.8))).meant_for(model)
    assert not InsertLookups(QuantPlan()).meant_for(model)
    assert not InsertLookups(QuantPlan()).run(model).modified
