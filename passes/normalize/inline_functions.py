"""Calls of the model's own functions become the functions' nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.errors import UnsupportedError
from qcompiler.graph import all_nodes
from qcompiler.passes.normalize.opset_steps import convert_nodes
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class InlineFunctions(Pass):
    """f(x), with f a local function, becomes the body of f.

    A body written for another opset than the model's is converted first.

    Raises:
        UnsupportedError: A function calls itself, or cannot be converted to the model's opset.
    """

    name: ClassVar[str] = "inline-functions"

    def run(self, model: ir.Model) -> Outcome:
        if not model.functions:
            return Outcome(False)
        from onnx_ir.passes.common import InlinePass

        called = tuple(
            node.name or node.op_type for node in all_nodes(model) if node.op_identifier() in model.functions
        )
        opset = model.opset_imports.get("", 0)
        for function in model.functions.values():
            own = function.opset_imports.get("", opset)
            if own != opset:
                convert_nodes(function, own, opset)
                function.opset_imports[""] = opset
        try:
            InlinePass()(model)
        except Exception as error:  # the pass wraps whatever went wrong
            cause = error.__cause__ or error
            raise UnsupportedError(
                f"a function of the model cannot be inlined: {cause}", hint="export the model again"
            ) from error
        model.functions.clear()
        used = {node.domain for node in all_nodes(model)} | {""}
        for domain in set(model.opset_imports) - used:
            del model.opset_imports[domain]
        return Outcome(True, called)
