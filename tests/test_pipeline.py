"""The pipeline: order, hooks, warnings, and the guard that undoes a pass whose claim is false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.equivalence import EquivalenceGuard
from qcompiler.pipeline import Outcome, Pass, Pipeline, Skip, diagnostics_of
from qcompiler.session import run_all
from tests.building import build
from tests.equivalence import ops_of, random_feeds


@dataclass(frozen=True)
class Retype(Pass):
    """Turns every node of one operator into another."""

    name: ClassVar[str] = "retype"
    old: str = "Relu"
    new: str = "Neg"

    def run(self, model: ir.Model) -> Outcome:
        found = [node for node in model.graph if node.op_type == self.old]
        for node in found:
            node.op_type = self.new
        return Outcome(bool(found), tuple(str(node.name) for node in found))


@dataclass(frozen=True)
class Halve(Retype):
    """A change of function that makes no claim about it."""

    name: ClassVar[str] = "halve"
    keeps_float: ClassVar[bool] = False


@dataclass(frozen=True)
class Meant(Pass):
    name: ClassVar[str] = "meant"
    hidden: int = field(default=0, repr=False)

    def run(self, model: ir.Model) -> Outcome:
        return Outcome(False, (), (Skip("n", "a near miss"),))

    def meant_for(self, model: ir.Model) -> bool:
        return any(node.op_type == "Relu" for node in model.graph)


@dataclass(frozen=True)
class Words(Pass):
    name: ClassVar[str] = "words"
    words: frozenset[str] = frozenset()

    def run(self, model: ir.Model) -> Outcome:
        return Outcome(False)


def chain() -> ir.Model:
    return build("m (float[N, 4] x) => (float[N, 4] y) { a = Identity(x) b = Relu(a) y = Sigmoid(b) }")


def guard_for(model: ir.Model) -> EquivalenceGuard:
    return EquivalenceGuard([random_feeds(model)])


def test_passes_run_in_order_and_hooks_see_each() -> None:
    seen: list[tuple[str, list[str]]] = []
    pipeline = Pipeline([Retype("Relu", "Neg"), Retype("Neg", "Abs")], [lambda p, m: seen.append((str(p), ops_of(m)))])
    given = chain()
    model, runs = pipeline.run(given)
    assert model is given
    assert ops_of(model) == ["Identity", "Abs", "Sigmoid"]
    assert seen == [
        ("retype{old='Relu',new='Neg'}", ["Identity", "Neg", "Sigmoid"]),
        ("retype{old='Neg',new='Abs'}", ["Identity", "Abs", "Sigmoid"]),
    ]
    assert [(run.name, run.options, run.outcome.matched) for run in runs] == [
        ("retype", "retype{old='Relu',new='Neg'}", ("b",)),
        ("retype", "retype{old='Neg',new='Abs'}", ("b",)),
    ]
    assert all(run.seconds >= 0 and not run.undone for run in runs)


def test_guard_undoes_the_pass_that_lies_and_keeps_the_others() -> None:
    given = chain()
    before = run_all(given, [random_feeds(given)])[0]["y"]
    passes = [Retype("Identity", "Dropout"), Retype("Relu", "Neg"), Retype("Neg", "Abs"), Words()]
    model, runs = Pipeline(passes, guard=guard_for(given)).run(given.clone())
    assert ops_of(model) == ["Dropout", "Relu", "Sigmoid"]  # without Relu -> Neg there is nothing for Neg -> Abs
    assert [bool(run.undone) for run in runs] == [False, True, False, False]
    assert "output 'y' differs by" in runs[1].undone
    assert not runs[1].outcome.modified
    assert runs[1].outcome.matched == ()
    findings = diagnostics_of(runs)
    assert [(item.code, item.where) for item in findings] == [("QC401", "retype")]
    assert np.array_equal(run_all(model, [random_feeds(given)])[0]["y"], before)


def test_guard_undoes_a_pass_that_breaks_the_graph() -> None:
    given = chain()
    model, runs = Pipeline([Retype("Relu", "NoSuchOperator")], guard=guard_for(given)).run(given)
    assert ops_of(model) == ["Identity", "Relu", "Sigmoid"]
    assert "does not run" in runs[0].undone


def test_guard_leaves_passes_that_make_no_claim() -> None:
    given = chain()
    model, runs = Pipeline([Halve("Relu", "Neg"), Retype("Sigmoid", "Tanh")], guard=guard_for(given)).run(given)
    assert ops_of(model) == ["Identity", "Neg", "Sigmoid"]
    assert [bool(run.undone) for run in runs] == [False, True]


def test_guard_is_not_asked_where_nothing_changed() -> None:
    def never(before: ir.Model, after: ir.Model, passes: Sequence[str]) -> str:
        raise AssertionError

    given = chain()
    model, runs = Pipeline([Words(), Meant()], guard=never).run(given)
    assert model is given
    assert len(runs) == 2


def test_a_pass_meant_for_the_model_that_matches_nothing_is_a_warning() -> None:
    runs = Pipeline([Meant()]).run(chain())[1]
    assert [item.code for item in diagnostics_of(runs)] == ["QC402"]
    assert runs[0].outcome.skipped == (Skip("n", "a near miss"),)
    other = build("m (float[N] x) => (float[N] y) { y = Neg(x) }")
    assert diagnostics_of(Pipeline([Meant()]).run(other)[1]) == []


def test_text_of_a_pass() -> None:
    assert str(Meant(3)) == "meant"
    assert str(Retype()) == "retype{old='Relu',new='Neg'}"
    assert str(Words(frozenset({"b", "a", "c"}))) == "words{words={'a', 'b', 'c'}}"
