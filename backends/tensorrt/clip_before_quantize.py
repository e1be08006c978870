"""Clipped codes to clipped reals, since TensorRT takes pairs only where the two halves are adjacent.

    x -> Q -> Clip(codes, lo, hi) -> DQ    becomes    x -> Clip(x, lo * s, hi * s) -> Q -> DQ

The same codes: |x| / s beyond hi becomes hi * s / s, which rounds to hi, in float16 too (hi is at most 31 and the
product off by 2^-10 of it); within the bounds nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node, sole_consumer
from qcompiler.pipeline import Outcome, Pass, Skip


@dataclass(frozen=True)
class ClipBeforeQuantize(Pass):
    """Every QuantizeLinear with one scale whose codes only a Clip with constant bounds reads."""

    name: ClassVar[str] = "clip-before-quantize"
    keeps_float: ClassVar[bool] = False

    def run(self, model: ir.Model) -> Outcome:
        names, matched, skipped = FreshNames(model), [], []
        made: dict[bytes, ir.Value] = {}
        for node in list(model.graph):
            clip = sole_consumer(node.outputs[0]) if node.op_type == "QuantizeLinear" else None
            if clip is None or clip.op_type != "Clip" or clip.graph is not node.graph or node.inputs[0] is None:
                continue
            scale = constant_array(node.inputs[1])
            bounds = [constant_array(value) for value in clip.inputs[1:]]
            if scale is None or scale.size > 1 or len(bounds) < 2 or any(item is None for item in bounds):
                skipped.append(Skip(str(node.name), "scales or bounds that no Clip of the tensor has"))
                continue
            limits: list[ir.Value | None] = []
            for code in bounds:
                assert code is not None
                real = np.asarray(code.astype(np.float32) * scale.astype(np.float32), scale.dtype).reshape(())
                key = real.tobytes()
                if key not in made:
                    made[key] = add_initializer(model.graph, real, names(f"{node.inputs[0].name}_bound"))
                limits.append(made[key])
            source = node.inputs[0]
            before = make_node(
                "Clip", [source, *limits], output=names(f"{source.name}_in_range"), dtype=source.dtype,
                shape=source.shape,
            )  # fmt: skip
            model.graph.insert_before(node, before)
            node.replace_input_with(0, before.outputs[0])
            clip.outputs[0].replace_all_uses_with(node.outputs[0])
            model.graph.remove(clip, safe=True)
            matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))
