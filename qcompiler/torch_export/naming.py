"""Names of an exported graph: inputs, outputs, weights and nodes as the module calls them, sizes as the user does."""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch

from qcompiler.graph import FreshNames, constant_array
from qcompiler.torch_export.adapter import PREFIX

Sizes = Sequence[int | str]
_SCOPES = "pkg.torch.onnx.name_scopes"
_SMALLEST = 8  # elements; scalars and the like are often equal by chance


def name_graph(
    model: ir.Model, module: torch.nn.Module, inputs: Mapping[str, Sizes], outputs: Mapping[str, Sizes]
) -> None:
    """Rename everything in place, and drop the exporter's own records (they hold paths of this machine).

    Args:
        inputs: Name and shape of each graph input, in order; so for `outputs`.
    """
    _name_nodes(model)
    _name_interface(model, list(inputs), list(outputs))
    _name_weights(model, module)
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.shape = ir.Shape({**inputs, **outputs}[value.name or ""])
    _drop_records(model)


def _name_interface(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    graph = model.graph
    for index, value in enumerate(graph.outputs):
        if value.is_graph_input() or value in graph.outputs[:index] or value.const_value is not None:
            node = ir.node("Identity", [value], name=f"/output_{index}/Identity")
            node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
            node.outputs[0].name = f"output_{index}_identity"
            graph.append(node)
            graph.outputs[index] = node.outputs[0]
    ours = [*graph.inputs, *graph.outputs]
    wanted = {*inputs, *outputs}
    for index, value in enumerate(ours):  # out of the way first: a name may be wanted by another
        value.name = f"_interface_{index}"
    fresh = FreshNames(model)
    for value in _values(model):
        if value.name in wanted:
            value.name = fresh(value.name)
    for value, name in zip(ours, (*inputs, *outputs), strict=True):
        value.name = name


def _values(model: ir.Model) -> list[ir.Value]:
    found = []
    for graph in model.graphs():
        found += [*graph.inputs, *graph.initializers.values()]
        found += [output for node in graph for output in node.outputs]
    return found


def _name_weights(model: ir.Model, module: torch.nn.Module) -> None:
    """Initializers bear the name of the parameter or buffer that they are, also where it was transposed or reshaped."""
    held = dict([*module.named_parameters(), *module.named_buffers()])
    taken = {value.name for value in _values(model)}
    unnamed: list[ir.Value] = []
    for value in list(model.graph.initializers.values()):
        name = (value.name or "").removeprefix(f"{PREFIX}.")
        if name in held and (name == value.name or name not in taken):
            _rename(value, name, taken)
        elif name not in held and value.const_value is not None and value.const_value.size >= _SMALLEST:
            unnamed.append(value)
    if not unnamed:
        return
    by_content = _by_content({name: tensor for name, tensor in held.items() if name not in taken})
    for value in unnamed:
        names = by_content.get(_digest(constant_array(value)), [])
        if len(names) == 1 and names[0] not in taken:
            _rename(value, names[0], taken)


def _rename(value: ir.Value, name: str, taken: set[str | None]) -> None:
    value.name = name
    if value.const_value is not None:
        value.const_value.name = name
    taken.add(name)


def _by_content(held: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for name, tensor in held.items():
        if tensor.dtype is torch.bfloat16 or tensor.numel() < _SMALLEST:
            continue
        array = tensor.detach().cpu().numpy()
        for key in {_digest(array), _digest(array.T)}:
            found[key].append(name)
    return found


def _digest(array: Any) -> str:
    return "" if array is None else hashlib.sha256(array.tobytes()).hexdigest()


def _name_nodes(model: ir.Model) -> None:
    """`/layers.0/q_proj/MatMul`: where in the module, then the operator; both exporters alike."""
    for graph in model.graphs():
        for node in graph:
            scopes = node.metadata_props.get(_SCOPES)
            if scopes:
                node.name = "/".join([*_path(ast.literal_eval(scopes)[:-1]), node.op_type])
            elif node.name and node.name.startswith(f"/{PREFIX}/"):
                node.name = node.name.removeprefix(f"/{PREFIX}")
    seen: dict[str, int] = defaultdict(int)
    for graph in model.graphs():
        for node in graph:
            name = node.name or node.op_type
            count = seen[name]
            seen[name] += 1
            node.name = f"{name}_{count}" if count else name


def _path(scopes: Sequence[str]) -> list[str]:
    """["", "module", "module.layers.0", "module.layers.0.q_proj"] as ["", "layers.0", "q_proj"]."""
    parts, before = [""], ""
    for scope in scopes:
        if scope and scope != PREFIX:
            parts.append(scope.removeprefix(f"{before}."))
        before = scope or before
    return parts


def _drop_records(model: ir.Model) -> None:
    model.doc_string = None
    model.metadata_props.clear()
    for graph in model.graphs():
        graph.doc_string = None
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()
            value.doc_string = None
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
                value.doc_string = None
