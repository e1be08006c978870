"""LayerNormalization or RMSNormalization in place of the nodes of a norm."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node
from qcompiler.passes.canonical.matching import replace_with
from qcompiler.passes.canonical.norm_match import Norm


def put_operator(found: Norm, op: str, channels: int, fresh: FreshNames) -> ir.Node:
    """The operator in place of the nodes; of channels in front of other axes between two Transposes.

    Returns:
        The operator, without a name.
    """
    root = found.inner[-1].graph
    if not isinstance(root, ir.Graph):
        raise ValueError("the norm belongs to no graph")
    site, dtype = found.result.name or op, found.result.dtype or ir.DataType.FLOAT

    def flat(value: ir.Value | None, default: float | None, name: str) -> ir.Value | None:
        array = constant_array(value) if value is not None else None
        if array is None:
            return (
                None
                if default is None
                else add_initializer(root, np.full(channels, default, dtype.numpy()), fresh(name))
            )
        if array.shape == (channels,) and value is not None and value.const_value is not None:
            return value
        wide = np.broadcast_to(array.reshape(-1), (channels,))
        return add_initializer(root, np.ascontiguousarray(wide), fresh(name))

    gain = flat(found.gain, 1.0, f"{site}_gain")
    bias = flat(found.bias, None, f"{site}_bias")
    constants = [gain] if bias is None else [gain, bias]
    attributes = {"axis": -1, "epsilon": found.epsilon, "stash_type": 1}
    if found.axes == (-1,):
        node = ir.node(op, [found.data, *constants], attributes)
        replace_with(found.result, node, found.inner)
        return node
    return _between_transposes(found, op, constants, attributes, fresh)


def _between_transposes(
    found: Norm, op: str, constants: list[ir.Value | None], attributes: dict[str, float | int], fresh: FreshNames
) -> ir.Node:
    data, site = found.data, found.result.name or op
    assert data.shape is not None
    dims = len(data.shape)
    order = [place for place in range(dims) if place != dims + found.axes[0]] + [dims + found.axes[0]]
    shape = ir.Shape([data.shape[place] for place in order])
    first = make_node("Transpose", [data], {"perm": order}, output=fresh(f"{site}_last"), dtype=data.dtype, shape=shape)
    node = make_node(op, [first.outputs[0], *constants], attributes, output=fresh(f"{site}_normalized"),
                     dtype=data.dtype, shape=shape)  # fmt: skip
    back = ir.node("Transpose", [node.outputs[0]], {"perm": [order.index(place) for place in range(dims)]},
                   name=fresh(f"{site}_first"))  # fmt: skip
    replace_with(found.result, back, found.inner)
    assert back.graph is not None
    back.graph.insert_before(back, [first, node])
    return node
