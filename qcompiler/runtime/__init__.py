"""A bundle inside an application: needs numpy and onnxruntime (or TensorRT), nothing else of the compiler's.

    from qcompiler import runtime
    model = runtime.load("model.orin")
    outputs = model.run({"input_ids": ids, "attention_mask": mask})
"""

from __future__ import annotations

from qcompiler.runtime.load import load
from qcompiler.runtime.model import RuntimeModel
from qcompiler.runtime.stream import Stream

__all__ = ["RuntimeModel", "Stream", "load"]
