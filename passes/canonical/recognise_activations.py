"""GELU, SiLU, HardSwish and relatives, recognised by what they compute."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph import all_nodes, scalar_constant
from qcompiler.passes.canonical.forms import Form, Role, annotate, annotate_all
from qcompiler.passes.canonical.matching import leaks, replace_with
from qcompiler.pipeline import Outcome, Pass, Skip

_Grid = npt.NDArray[np.float64]
_POINTS: _Grid = np.linspace(-9.0, 9.0, 181)
_TOLERANCE = 1.5e-4
"""Twice what float16 constants move a GELU by, and a third of the distance between its erf and tanh forms."""
_MAX_STEPS = 8

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: _Grid) -> _Grid:
    return 1.0 / (1.0 + np.exp(-x))


def _softplus(x: _Grid) -> _Grid:
    return np.asarray(np.logaddexp(0.0, x))


_STEPS: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sum": lambda *xs: sum(xs),
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Neg": np.negative,
    "Pow": np.power,
    "Erf": _erf,
    "Tanh": np.tanh,
    "Sigmoid": _sigmoid,
    "Softplus": _softplus,
    "Exp": np.exp,
    "Log": np.log,
    "Reciprocal": np.reciprocal,
    "Relu": lambda x: np.maximum(x, 0.0),
    "Min": np.minimum,
    "Max": np.maximum,
    "Cast": lambda x: x,
    "Identity": lambda x: x,
}
_ANCHORS = frozenset({"Erf", "Tanh", "Sigmoid", "HardSigmoid", "Softplus", "Clip"})

_FUNCTIONS: dict[Form, _Grid] = {
    Form.GELU: _POINTS * 0.5 * (1.0 + _erf(_POINTS / math.sqrt(2.0))),
    Form.GELU_TANH: _POINTS * 0.5 * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (_POINTS + 0.044715 * _POINTS**3))),
    Form.QUICK_GELU: _POINTS * _sigmoid(1.702 * _POINTS),
    Form.SILU: _POINTS * _sigmoid(_POINTS),
    Form.HARD_SWISH: _POINTS * np.clip(_POINTS / 6.0 + 0.5, 0.0, 1.0),
    Form.MISH: _POINTS * np.tanh(_softplus(_POINTS)),
}

_SINGLE: dict[Form, tuple[str, dict[str, Any]]] = {
    Form.GELU: ("Gelu", {}),
    Form.GELU_TANH: ("Gelu", {"approximate": "tanh"}),
    Form.SILU: ("Swish", {}),
    Form.HARD_SWISH: ("HardSwish", {}),
    Form.MISH: ("Mish", {}),
}


@dataclass(frozen=True)
class RecogniseActivations(Pass):
    """x * Phi(x), x * sigmoid(x) and the like become the operator where the target has it, else are annotated.

    Not the shape of the subgraph decides but its function: elementwise operators on one value and scalar constants are
    evaluated on a grid and compared with the known activations, so grouping, sides, Div or Mul, Pow or products don't
    matter. Refused where an inner value is read elsewhere.

    Attributes:
        native_ops: Operators that the target takes and the model's opset has.
    """

    name: ClassVar[str] = "recognise-activations"
    native_ops: frozenset[str] = frozenset({"LayerNormalization"})

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        skipped: list[Skip] = []
        for node in list(all_nodes(model)):
            if node.domain != "" or node.metadata_props.get("qcompile.form") or node.graph is None:
                continue
            whole = _whole_form(node)
            if whole is not None and annotate(node, whole, Role.WHOLE, node.name or ""):
                matched.append(node.name or "")
            elif node.op_type in _ANCHORS:
                found = _match(node)
                if isinstance(found, str):
                    if found:
                        skipped.append(Skip(node.name or node.op_type, found))
                    continue
                matched.append(found.result.name or "")
                self._apply(found)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))

    def _apply(self, found: _Activation) -> None:
        site = found.result.name or ""
        op, attributes = _SINGLE.get(found.form, ("", {}))
        if op in self.native_ops and found.result.dtype == found.data.dtype:
            node = ir.node(op, [found.data], attributes, name=site)
            replace_with(found.result, node, found.inner)
            annotate(node, found.form, Role.WHOLE, site)
            return
        last = found.result.producer()
        annotate_all(((node, Role.RESULT if node is last else Role.INNER) for node in found.inner), found.form, site)


@dataclass(frozen=True)
class _Activation:
    form: Form
    data: ir.Value
    result: ir.Value
    inner: list[ir.Node]


def _whole_form(node: ir.Node) -> Form | None:
    if node.op_type == "Gelu":
        return Form.GELU_TANH if node.attributes.get_string("approximate", "none") == "tanh" else Form.GELU
    return {"Swish": Form.SILU, "HardSwish": Form.HARD_SWISH, "Mish": Form.MISH}.get(node.op_type)


def _match(anchor: ir.Node) -> _Activation | str:
    for data in _sources(anchor):
        found = _grow(anchor, data)
        if found is not None:
            leak = leaks(found.inner, found.result)
            return f"{leak.name} is read elsewhere" if leak is not None else found
    return "" if anchor.op_type in ("Clip", "Tanh", "Sigmoid", "Softplus") else "not an activation that we know"


def _sources(anchor: ir.Node) -> Iterator[ir.Value]:
    """What the anchor's operand is computed from, nearest first, through elementwise operators."""
    seen: list[ir.Value] = []
    value: ir.Value | None = anchor.inputs[0]
    queue = [value] if value is not None else []
    while queue and len(seen) < _MAX_STEPS:
        value = queue.pop(0)
        if any(value is item for item in seen):
            continue
        seen.append(value)
        if len(value.uses()) > 1:  # x and its gate: every form here reads x twice
            yield value
        node = value.producer()
        if node is not None and node.domain == "" and node.op_type in _STEPS and node.graph is anchor.graph:
            queue += [item for item in node.inputs if item is not None and scalar_constant(item) is None]


def _grow(anchor: ir.Node, data: ir.Value) -> _Activation | None:
    """Follow the anchor's consumers as long as they stay a function of `data` alone."""
    known: dict[ir.Value, _Grid | None] = {data: _POINTS}
    node: ir.Node | None = anchor
    for _ in range(_MAX_STEPS):
        if node is None or node.graph is not anchor.graph:
            return None
        result = node.outputs[0]
        values = _evaluate(result, known, _MAX_STEPS)
        if values is None:
            return None
        form = _nearest(values)
        if form is not None:
            return _Activation(form, data, result, _nodes_between(data, result))
        node = next((use.node for use in result.uses()), None)  # a second reader is a leak, which is a reason to give
    return None


def _evaluate(value: ir.Value | None, known: dict[ir.Value, _Grid | None], depth: int) -> _Grid | None:
    """The value on the grid; None where it is not a function of the source and scalars within `depth` steps."""
    if value is None:
        return None
    if value in known:
        return known[value]
    number = scalar_constant(value)
    if number is not None:
        return np.full_like(_POINTS, number)
    node = value.producer()
    if node is None or node.domain != "" or depth == 0:
        return None
    known[value] = None  # until computed: a second visit on the way would be a cycle
    operands = [_evaluate(item, known, depth - 1) for item in node.inputs]
    rule = _rule(node)
    if rule is None or any(operand is None for operand in operands):
        return None
    with np.errstate(all="ignore"):
        known[value] = np.asarray(rule(*operands), np.float64)
    return known[value]


def _rule(node: ir.Node) -> Callable[..., Any] | None:
    if node.op_type == "HardSigmoid":
        alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
        return lambda x: np.clip(alpha * x + beta, 0.0, 1.0)
    if node.op_type == "Clip":
        return lambda x, low=-np.inf, high=np.inf: np.clip(x, low, high)
    return _STEPS.get(node.op_type)


def _nearest(values: _Grid) -> Form | None:
    errors = {form: float(np.max(np.abs(values - wanted))) for form, wanted in _FUNCTIONS.items()}
    form = min(errors, key=lambda item: errors[item])
    return form if errors[form] <= _TOLERANCE else None


def _nodes_between(data: ir.Value, result: ir.Value) -> list[ir.Node]:
    """Nodes on the paths from `data` to `result`, in topological order."""
    done: dict[int, ir.Node] = {}

    def visit(value: ir.Value | None) -> None:
        node = value.producer() if value is not None and value is not data else None
        if node is None or id(node) in done or scalar_constant(value) is not None:
            return
        for item in node.inputs:
            visit(item)
        done[id(node)] = node

    visit(result)
    return list(done.values())
