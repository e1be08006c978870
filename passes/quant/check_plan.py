"""Whether a plan that a person passes fits the model."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler import registry
from qcompiler.errors import UsageError
from qcompiler.graph import is_constant
from qcompiler.passes.quant.bias_places import bias_places
from qcompiler.passes.quant.zero_points import symmetric_tensors
from qcompiler.plan import QuantPlan
from qcompiler.scheme import INT8_ACTIVATION, PerBlock, TensorQuant
from qcompiler.target import Target

_HINT = "was the plan made for another model?"


def check_plan(plan: QuantPlan, model: ir.Model, target: Target, where: str) -> None:
    """Compare names, inputs and shapes with the normalized model, so that no part of the plan goes unheeded.

    Raises:
        UsageError: A node or tensor that the model lacks, an input without a scale, a weight that is not constant or
            has other channels, a type other than int8 (for weights of products int4 in blocks that the target takes),
            an output on a grid narrower than its container, a bias that cannot be corrected, a zero
            point that a reader cannot take, levels that are looked up without a grid to lie on, a
            state that the graph does not carry in float32.
    """
    nodes = {str(node.name): node for node in model.graph}
    for name in (*plan.nodes, *plan.weights, *plan.outputs, *plan.biases):
        if name not in nodes:
            error = registry.unknown("node", name, nodes)
            raise UsageError(error.message, where=where, hint=error.hint or _HINT)
    values = {str(value.name) for node in model.graph for value in node.inputs if value is not None}
    for name, quant in plan.tensors.items():
        if name not in values:
            raise UsageError(f"no tensor {name!r} in the model", where=where, hint=_HINT)
        _check_type(quant, f"tensor {name!r}", where)
        if quant.scheme.bits != 8 and (quant.zero_point is not None or not quant.scheme.symmetric):
            raise UsageError(f"tensor {name!r} has {quant.scheme.bits} bits and a zero point", where=where,
                             hint="below 8 bits grids are symmetric")  # fmt: skip
    for name, indices in plan.nodes.items():
        for index in indices:
            value = _input(nodes[name], index, where)
            if value.name not in plan.tensors:
                raise UsageError(f"no scale for {value.name!r}, which node {name!r} reads", where=where)
    for name, quant in plan.outputs.items():
        _check_type(quant, f"the output of node {name!r}", where)
        if quant.scheme.bits != 8:
            raise UsageError(f"the output of node {name!r} has {quant.scheme.bits} bits", where=where,
                             hint="outputs have 8: take the entry out")  # fmt: skip
        _check_channels(nodes[name].outputs[0], quant, f"the output of node {name!r}", where)
    for name, weights in plan.weights.items():
        for index, quant in weights.items():
            if isinstance(quant.scheme.granularity, PerBlock):
                _check_blocks(nodes[name], index, quant, target, where)
                continue
            _check_type(quant, f"input {index} of node {name!r}", where)
            _check_weight(_input(nodes[name], index, where), quant, f"input {index} of node {name!r}", where)
    _check_lookups(plan, model, where)
    _check_states(plan, model, where)
    symmetric = symmetric_tensors(model, target.placement, plan.nodes, fused=False)
    for name, reader in symmetric.items():
        zero = plan.tensors[name].zero_point
        if zero is not None and zero.any():
            raise UsageError(f"tensor {name!r} has a zero point, which node {reader!r} cannot take on {target.name}",
                             where=where, hint="make the plan for this target")  # fmt: skip
    places, refused = bias_places(model, plan.biases)
    for skip in refused:
        raise UsageError(f"the bias of node {skip.where!r} cannot be corrected: {skip.reason}", where=where, hint=_HINT)
    for place in places:
        if len(plan.biases[place.layer]) != place.channels:
            count = len(plan.biases[place.layer])
            raise UsageError(f"{count} corrections for the {place.channels} channels of node {place.layer!r}",
                             where=where, hint=_HINT)  # fmt: skip


def _check_lookups(plan: QuantPlan, model: ir.Model, where: str) -> None:
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    for name, lookup in plan.lookups.items():
        value, quant = values.get(name), plan.tensors.get(name)
        if value is None:
            raise UsageError(f"no tensor {name!r} in the model", where=where, hint=_HINT)
        shape = [] if value.shape is None else list(value.shape)
        if len(lookup.heads) > 1 and (len(shape) != 4 or shape[1] != len(lookup.heads)):
            raise UsageError(f"{len(lookup.heads)} lists of levels don't fit tensor {name!r}", where=where,
                             hint="one list, or one for each item along axis 1 of four")  # fmt: skip
        if (lookup.form == "integer") != (quant is not None):
            raise UsageError(f"the levels of tensor {name!r} are {lookup.form}", where=where,
                             hint="integer levels lie on the tensor's grid, float ones have none")  # fmt: skip
        if quant is not None and (quant.scheme.bits != 8 or quant.axis is not None):
            raise UsageError(f"the levels of tensor {name!r} do not lie on one 8-bit grid", where=where, hint=_HINT)


def _check_states(plan: QuantPlan, model: ir.Model, where: str) -> None:
    inputs, outputs = ({value.name: value for value in ends} for ends in (model.graph.inputs, model.graph.outputs))
    for name, state in plan.states.items():
        for kind, known, wanted in (("input", inputs, name), ("output", outputs, state.next)):
            if wanted not in known:
                raise UsageError(f"no {kind} {wanted!r} for a state", where=where, hint=_HINT)
            dtype = known[wanted].dtype
            if dtype is not None and dtype != ir.DataType.FLOAT:
                raise UsageError(f"the state {wanted!r} is {dtype.name.lower()}", where=where, hint=_HINT)
        _check_type(state.quant, f"state {name!r}", where)
        zero = state.quant.zero_point
        if state.quant.scheme != INT8_ACTIVATION or (zero is not None and zero.any()):
            raise UsageError(f"state {name!r} needs one scale of 8 bits and no zero point", where=where, hint=_HINT)


def _input(node: ir.Node, index: int, where: str) -> ir.Value:
    value = node.inputs[index] if 0 <= index < len(node.inputs) else None
    if value is None:
        raise UsageError(f"node {node.name!r} has no input {index}", where=where, hint=_HINT)
    return value


def _check_type(quant: TensorQuant, what: str, where: str) -> None:
    if quant.scheme.dtype != ir.DataType.INT8:
        raise UsageError(f"{what} is {quant.scheme.dtype.name.lower()}", where=where, hint="plans are int8")


def _check_weight(value: ir.Value, quant: TensorQuant, what: str, where: str) -> None:
    if not is_constant(value) or value.const_value is None:
        raise UsageError(f"{what} is not constant", where=where, hint=_HINT)
    _check_channels(value, quant, what, where)


def _check_blocks(node: ir.Node, index: int, quant: TensorQuant, target: Target, where: str) -> None:
    what = f"input {index} of node {node.name!r}"
    value, granularity, sizes = _input(node, index, where), quant.scheme.granularity, target.placement.int4_blocks
    assert isinstance(granularity, PerBlock)
    if quant.scheme.dtype != ir.DataType.INT4 or granularity.size not in sizes:
        taken = f"int4 in blocks of {', '.join(map(str, sizes))}" if sizes else "no blocks"
        raise UsageError(f"{what} is {quant.scheme.dtype.name.lower()} in blocks of {granularity.size}", where=where,
                         hint=f"{target.name} takes {taken}")  # fmt: skip
    if not is_constant(value) or value.const_value is None:
        raise UsageError(f"{what} is not constant", where=where, hint=_HINT)
    shape = list(value.const_value.shape.numpy())
    wanted = [size // granularity.size if axis == granularity.axis else size for axis, size in enumerate(shape)]
    summed = 1 if node.op_type == "Gemm" and node.attributes.get_int("transB") else 0
    fits = list(quant.scale.shape) == wanted and granularity.axis == summed and shape[summed] % granularity.size == 0
    if node.op_type not in ("MatMul", "Gemm") or index != 1 or len(shape) != 2 or not fits:
        raise UsageError(f"{what} has shape {shape}: scales {list(quant.scale.shape)} by blocks don't fit", where=where,
                         hint="blocks lie along the summed axis of a matrix")  # fmt: skip


def _check_channels(value: ir.Value, quant: TensorQuant, what: str, where: str) -> None:
    shape, axis = (None if value.shape is None else list(value.shape)), quant.axis
    if shape is None:
        return
    if axis is None:
        return
    size = shape[axis] if 0 <= axis < len(shape) else 0
    if isinstance(size, int) and size != quant.scale.size:
        raise UsageError(
            f"{what} has shape {list(map(str, shape))}: {quant.scale.size} scales don't fit its axis {axis}",
            where=where,
            hint=_HINT,
        )
