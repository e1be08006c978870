"""Signs and orders of their own: the function stays, no node is added for an order, plans hold and repeat them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.certification.certify import certify_models
from qcompiler.diffing.plans import plan_changes
from qcompiler.driver import compile_model
from qcompiler.errors import UsageError
from qcompiler.passes.rotate.draws import Draw, Draws
from qcompiler.passes.rotate.gated_sites import gated_sites
from qcompiler.passes.rotate.hidden_makers import hidden_makers
from qcompiler.passes.rotate.orders import dealt_by_factor, shuffled
from qcompiler.passes.rotate.rotate_down import RotateDown, down_sites
from qcompiler.passes.rotate.rotate_gated import RotateGated
from qcompiler.passes.rotate.rotate_heads import RotateHeads
from qcompiler.passes.rotate.rotate_residual import RotateResidual
from qcompiler.passes.rotate.rotate_scores import RotateScores
from qcompiler.passes.rotate.rotations import RotationPass
from qcompiler.passes.rotate.run import from_plan, to_plan
from qcompiler.passes.sites.records import Site
from qcompiler.plan import QuantPlan
from tests.architectures import SIZE, WIDTH, canonical, llama, vit
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds
from tests.passes.rotate.test_decide import OPTIONS, TOKENS

BOUND = 4e-6
RANDOM = np.random.default_rng(6)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.asarray(RANDOM.standard_normal(shape) / shape[0] ** 0.5, np.float32)


def wide(body: str, hidden: int = 192) -> ir.Model:
    constants = {
        "w": normal(8, hidden), "g": normal(8, hidden), "b": normal(hidden), "c": normal(hidden),
        "v": normal(hidden, 8),
    }  # fmt: skip
    return canonical(build(f"m (float[N, S, 8] x) => (float[N, S, 8] y) {{ {body} }}", 17, **constants))


RELU = "a = MatMul(x, w) d = Add(a, b) h = Relu(d) y = MatMul(h, v)"
SWIGLU = """a = MatMul(x, w) e = Sigmoid(a) s = Mul(a, e) u = MatMul(x, g) p = Add(u, c) h = Mul(s, p)
    y = MatMul(h, v)"""
ORDERS = [Draw(3), Draw(1, shuffle=2), Draw(order=tuple(reversed(range(192))))]


@pytest.mark.parametrize("body", [RELU, SWIGLU])
@pytest.mark.parametrize("draw", ORDERS)
def test_an_order_of_hidden_channels_adds_no_node(body: str, draw: Draw) -> None:
    source = wide(body)
    (site,) = (item for item in down_sites(source) if isinstance(item, Site))
    plain, result = source.clone(), source.clone()
    assert RotateDown().run(plain).modified
    assert RotateDown(draws=((site.name, draw),)).run(result).matched == (site.name,)
    assert ops_of(result) == ops_of(plain)
    assert largest_error(source, result, random_feeds(source, {"S": 5})) < BOUND
    assert not RotateDown(draws=((site.name, draw),)).run(result).modified


@pytest.mark.parametrize(
    "body",
    [
        "a = MatMul(x, w) k = Relu(a) h = CumSum(k, axis) y = MatMul(h, v)",
        "a = MatMul(x, w) h = Relu(a) m = MatMul(h, v) t = ReduceMean<axes = [-1], keepdims = 1>(a) y = Add(m, t)",
        "a = Softmax(x) h = Relu(a) y = MatMul(h, square)",
    ],
)
def test_where_no_order_can_be_made(body: str) -> None:
    model = build(f"m (float[N, S, 8] x) => (float[N, S, 8] y) {{ {body} }}", 17, w=normal(8, 12), v=normal(12, 8),
                  axis=np.array(-1), square=normal(8, 8))  # fmt: skip
    value = next(node.outputs[0] for node in model.graph if node.outputs[0].name == "h")
    assert hidden_makers(value, 8 if "Softmax" in body else 12) is None


def test_orders_of_what_a_recurrence_gives_are_products_of_two() -> None:
    body = "a = MatMul(x, w) q = CumSum(a, axis) k = MatMul(x, g) e = Sigmoid(k) s = Mul(k, e) h = Mul(q, s)"
    constants = {"w": normal(8, 192), "g": normal(8, 192), "v": normal(192, 8), "axis": np.array(1)}
    source = canonical(build(f"m (float[N, S, 8] x) => (float[N, S, 8] y) {{ {body} y = MatMul(h, v) }}", 17,
                             **constants))  # fmt: skip

    (site,) = (item for item in gated_sites(source) if isinstance(item, Site))
    product = Draw(order=dealt_by_factor(RANDOM.random(192), 12, 16))
    result = source.clone()
    assert RotateGated(draws=((site.name, product),)).run(result).modified
    assert largest_error(source, result, random_feeds(source, {"S": 5})) < BOUND
    refused = source.clone()
    outcome = RotateGated(draws=((site.name, Draw(shuffle=1)),)).run(refused)
    assert not outcome.modified and ops_of(refused) == ops_of(source)
    assert "another order" in outcome.skipped[0].reason


@pytest.mark.parametrize(
    ("source", "made", "size"),
    [
        (llama(2, embedded=True), RotateResidual, WIDTH),
        (vit(2, embedded=True), RotateResidual, WIDTH),
        (llama(2), RotateHeads, SIZE),
        (vit(2), RotateHeads, SIZE),
        (llama(2), RotateDown, 32),
        (vit(2), RotateDown, 32),
        (llama(2), RotateScores, SIZE),
    ],
)
def test_the_function_stays_with_orders(source: ir.Model, made: RotationPass, size: int) -> None:
    model = canonical(source)
    sites = made().run(model.clone()).matched
    turned = tuple(~channel if channel % 3 else channel for channel in shuffled(size, 4))
    draws: Draws = ((sites[0], Draw(2, order=turned)), *((name, Draw(shuffle=1)) for name in sites[1:]))
    result, plain = model.clone(), model.clone()
    assert made(draws=draws).run(result).matched == sites
    made().run(plain)
    assert Counter(ops_of(result)) == Counter(ops_of(plain))
    assert largest_error(model, result, random_feeds(model, {"S": 5})) < BOUND
    assert not made(draws=draws).run(result).modified
    unfit = made(draws=((sites[0], Draw(order=tuple(range(5)))),)).run(model.clone())
    assert unfit.skipped[0].reason == f"its order has 5 channels, not {size}"


def test_certificates_accept_orders() -> None:
    source = wide(SWIGLU)
    result = source.clone()
    (name,) = RotateDown(draws=()).run(source.clone()).matched
    RotateDown(draws=((name, Draw(1, shuffle=2)),)).run(result)
    assert certify_models(source, result, samples=4, threads=1).holds
    largest = result.graph.initializers[next(name for name in result.graph.initializers if name.startswith("v_"))]
    assert largest.const_value is not None
    largest.const_value = ir.tensor(np.roll(largest.const_value.numpy(), 1, 0), name=largest.name)
    assert not certify_models(source, result, samples=4, threads=1).holds


def test_plans_hold_draws_and_old_ones_load() -> None:
    held = {"residual": {"sites": ["a"], "seed": 0, "draws": {"a": {"seed": 1, "order": [2, -1, 1]}}},
            "down": {"sites": ["h", "k"], "seed": 1, "draws": {"k": {"seed": 0, "shuffle": 2}}},
            "heads": {"sites": ["o"], "seed": 3}}  # fmt: skip
    assert to_plan(from_plan(held)) == held
    plan = QuantPlan(rotate=held)
    assert QuantPlan.from_json(plan.to_json()).rotate == held


def test_a_diff_of_plans_names_the_sites() -> None:
    held = {"down": {"sites": ["h", "k", "l"], "seed": 1, "draws": {"k": {"seed": 0, "shuffle": 2}}}}
    other = {"down": {"sites": ["h", "k"], "seed": 1, "draws": {"k": {"seed": 1}}}}
    (change,) = plan_changes(QuantPlan(rotate=held), QuantPlan(rotate=other), 0.01)
    assert change.facts == {"kind": "plan_rotate", "sites": ["down of k", "down of l"]}
    same = {"down": {"sites": ["h", "k"], "seed": 1}}
    assert plan_changes(QuantPlan(rotate=other), QuantPlan(rotate=same), 0.01) == []


@pytest.mark.parametrize(
    "draw", ['{"seed": 0, "order": [0, 0]}', '{"seed": 0, "order": [0, 2]}', '{"order": [0, 1]}',
             '{"seed": 0, "order": [1, 0], "shuffle": 1}', '{"seed": 0, "order": [0, -1]}']
)  # fmt: skip
def test_plans_with_half_an_order_are_refused(draw: str) -> None:
    rotate = f'{{"residual": {{"sites": ["a"], "seed": 0, "draws": {{"a": {draw}}}}}}}'
    text = f'{{"schema": "qcompile-plan/1", "tensors": {{}}, "nodes": {{}}, "rotate": {rotate}}}'
    with pytest.raises(UsageError, match="not a plan"):
        QuantPlan.from_json(text.encode())
    good = text.replace(draw, '{"seed": 0, "order": [1, -1]}')
    assert QuantPlan.from_json(good.encode()).rotate["residual"]["draws"]["a"]["order"] == [1, -1]
    with pytest.raises(UsageError, match="belongs to one of the sites"):
        QuantPlan.from_json(good.replace('["a"]', '["b"]').encode())


def test_a_plan_of_another_size_is_refused(tmp_path: Path) -> None:
    source = llama(1, embedded=True)
    result = compile_model(source, replace(OPTIONS, calib=TOKENS, rotate="heads"))
    plan = result.plan
    (name,) = plan.rotate["heads"]["sites"]
    plan.rotate["heads"]["draws"] = {name: {"seed": 0, "order": [1, 0]}}
    path = tmp_path / "plan.json"
    path.write_bytes(plan.to_json())
    with pytest.raises(UsageError, match="its order has 2 channels, not 4"):
        compile_model(source, replace(OPTIONS, calib=TOKENS, plan=path))
