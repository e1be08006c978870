"""What a third party writes: one pass, one target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.pipeline import Outcome, Pass
from qcompiler.target import Target


@dataclass(frozen=True)
class RenameOutputs(Pass):
    """Give every graph output a prefix."""

    name: ClassVar[str] = "rename-outputs"
    prefix: str = "plugin_"

    def run(self, model: ir.Model) -> Outcome:
        """y becomes plugin_y."""
        renamed = []
        for value in model.graph.outputs:
            if value.name and not value.name.startswith(self.prefix):
                renamed.append(value.name)
                value.name = self.prefix + value.name
        return Outcome(modified=bool(renamed), matched=tuple(renamed))


TEST_BOARD = Target(
    name="test-board",
    title="a board that only this test knows",
    opset=17,
    emitter="qcompiler.backends.onnxruntime.emitter:OnnxruntimeEmitter",
)
