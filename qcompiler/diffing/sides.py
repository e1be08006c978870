"""What a path stands for in a comparison: a model, a bundle with model and plan, or a plan alone."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.errors import ModelError, UsageError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from qcompiler.plan import QuantPlan


@dataclass(slots=True)
class Side:
    """One side of a comparison.

    Attributes:
        label: What it is called in the result.
        manifest: Of a bundle.
    """

    label: str
    model: ir.Model | None = None
    plan: QuantPlan | None = None
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """`model`, `bundle` or `plan`."""
        return "bundle" if self.manifest else "plan" if self.model is None else "model"


def as_side(given: str | Path | onnx.ModelProto | ir.Model) -> Side:
    """What a caller holds: a path is read, a graph in memory is taken as it is.

    Raises:
        QcompileError: As `read_side` and `as_model`.
    """
    from qcompiler.reading import as_model

    if isinstance(given, (str, os.PathLike)):
        return read_side(Path(given))
    return Side("model", as_model(given, any_domain=True))


def read_side(path: Path) -> Side:
    """Read an .onnx file, the folder of a bundle, or a plan.json.

    Raises:
        UsageError: No such file, or a folder that is no bundle.
        QcompileError: As `load_model` and `QuantPlan.load`.
    """
    from qcompiler.plan import QuantPlan
    from qcompiler.reading import load_model

    if path.is_dir():
        return _read_bundle(path)
    if path.suffix == ".json":
        return Side(str(path), plan=QuantPlan.load(path))
    return Side(str(path), load_model(path, any_domain=True))


def _read_bundle(folder: Path) -> Side:
    from qcompiler.bundle import is_bundle
    from qcompiler.manifest import FILE_NAME
    from qcompiler.plan import QuantPlan
    from qcompiler.reading import load_model

    if not is_bundle(folder):
        raise UsageError("this folder is no bundle", where=str(folder), hint="name an .onnx file in it")
    if not (folder / "model.onnx").is_file():
        raise ModelError("the bundle has no model.onnx", where=str(folder), hint="compile again")
    plan, manifest = folder / "plan.json", json.loads((folder / FILE_NAME).read_bytes())
    for key in ("options", "calibration", "versions", "source"):
        if not isinstance(manifest.get(key, {}), dict):
            raise ModelError(f"{key!r} is no table", where=str(folder / FILE_NAME), hint="compile again")
    return Side(
        str(folder), load_model(folder / "model.onnx", any_domain=True),
        QuantPlan.load(plan) if plan.is_file() else None, manifest,
    )  # fmt: skip
