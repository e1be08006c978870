"""States of recurrences that a graph takes from one call and gives to the next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import onnx_ir as ir

from qcompiler.passes.recurrence.roles import TensorRole, tensor_role, tensor_site


class StateKind(str, Enum):
    """RECURRENT: h of the scan. CONVOLUTION: the last inputs of the causal convolution."""

    RECURRENT = "ssm"
    CONVOLUTION = "conv"


@dataclass(frozen=True, slots=True)
class CarriedState:
    """An input of the graph, and the output that is its next value."""

    kind: StateKind
    first: ir.Value
    last: ir.Value


_ROLES = {
    StateKind.RECURRENT: (TensorRole.FIRST_STATE, TensorRole.LAST_STATE),
    StateKind.CONVOLUTION: (TensorRole.FIRST_CONV_STATE, TensorRole.LAST_CONV_STATE),
}


def carried_states(model: ir.Model) -> list[CarriedState]:
    """Pairs whose roles were recognised (`recognise-recurrences`), in the order of the inputs."""
    found = []
    for first in model.graph.inputs:
        for kind, (before, behind) in _ROLES.items():
            if tensor_role(first) is not before:
                continue
            site = tensor_site(first)
            last = next((item for item in model.graph.outputs
                         if tensor_role(item) is behind and tensor_site(item) == site), None)  # fmt: skip
            if last is not None and not last.is_graph_input():
                found.append(CarriedState(kind, first, last))
    return found
