"""Writing the model after chosen passes, as ONNX and as text."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx_ir as ir

from qcompiler.pipeline import Hook, Pass
from qcompiler.saving import save_model


def dump_hook(names: Collection[str], folder: Path) -> Hook:
    """A hook that writes `<pass>.onnx` and `<pass>.onnxtxt` (without weights) into `folder` after the passes named."""

    def dump(item: Pass, model: ir.Model) -> None:
        if item.name in names:
            folder.mkdir(parents=True, exist_ok=True)
            save_model(model, folder / f"{item.name}.onnx")
            (folder / f"{item.name}.onnxtxt").write_text(ir.to_onnx_text(model, exclude_initializers=True))

    return dump
