"""Marks in the metadata of nodes whose operands were rotated, so that no kind of rotation is made twice."""

from __future__ import annotations

import onnx_ir as ir

ROTATED_KEY = "qcompile.rotated"


def mark(node: ir.Node, kind: str) -> None:
    """Remember that the node's operands bear this kind of rotation."""
    if not is_marked(node, kind):
        node.metadata_props[ROTATED_KEY] = f"{node.metadata_props.get(ROTATED_KEY, '')} {kind}".strip()


def is_marked(node: ir.Node, kind: str) -> bool:
    """Whether it bears it."""
    return kind in node.metadata_props.get(ROTATED_KEY, "").split()
