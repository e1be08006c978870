"""What a tensor is in a selective scan, written on the tensor.

Two strings in `metadata_props` of a value: its role, and the site, the same for all tensors of one scan. Calibration
and planning ask for roles; names differ from exporter to exporter. A tensor that several scans share (both directions
of a bidirectional block) bears the site of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

import onnx_ir as ir

ROLE_KEY = "qcompile.tensor_role"
SITE_KEY = "qcompile.tensor_site"


class TensorRole(str, Enum):
    """h[t] = exp(dt A) h[t-1] + dt x B, y = C h + D x, out_proj(y * silu(z)).

    STATE and CONV_STATE are carried from step to step (FIRST before, LAST after them); GATED is y * silu(z).
    """

    SCAN_INPUT = "x"
    STEP = "dt"
    DECAY = "A"
    INPUT_GATE = "B"
    OUTPUT_GATE = "C"
    FIRST_STATE = "first_state"
    LAST_STATE = "last_state"
    FIRST_CONV_STATE = "first_conv_state"
    LAST_CONV_STATE = "last_conv_state"
    OUTPUT = "y"
    GATE = "z"
    GATED = "gated"


def tensor_role(value: ir.Value | None) -> TensorRole | None:
    """The role that was written on the value."""
    held = None if value is None else value.metadata_props.get(ROLE_KEY)
    return TensorRole(held) if held else None


def tensor_site(value: ir.Value) -> str | None:
    """The scan that the value belongs to."""
    return value.metadata_props.get(SITE_KEY)


def give_role(value: ir.Value, role: TensorRole, site: str) -> bool:
    """Write both; False where the value has a role already, which it keeps."""
    if ROLE_KEY in value.metadata_props:
        return False
    value.metadata_props.update({ROLE_KEY: role.value, SITE_KEY: site})
    return True


def give_roles(roles: Mapping[TensorRole, ir.Value], site: str) -> bool:
    """The roles of one scan; whether any is new."""
    new = [give_role(value, role, site) for role, value in roles.items()]
    return any(new)


def tensors_with_roles(model: ir.Model) -> Iterator[ir.Value]:
    """Every value that has a role, in graph order."""
    for graph in model.graphs():
        values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
        seen: set[int] = set()
        for value in values:
            if ROLE_KEY in value.metadata_props and id(value) not in seen:
                seen.add(id(value))
                yield value
