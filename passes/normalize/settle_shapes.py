"""Shape inference and folding in turns, until nothing folds any more: each tells the other something new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.passes.normalize.fold_constants import FoldConstants
from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class SettleShapes(Pass):
    """`infer-shapes` and `fold-constants`, `most` times at most: a rank may depend on what a folded Reshape told."""

    name: ClassVar[str] = "settle-shapes"
    most: int = 8

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        for _ in range(self.most):
            InferShapes().run(model)
            folded = FoldConstants().run(model)
            matched += folded.matched
            if not folded.modified:
                break
        return Outcome(bool(matched), tuple(matched))
