"""The float model whose layers are measured: what a compile with the same options would quantize."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.diagnostics import Diagnostic
from qcompiler.equivalence import make_guard
from qcompiler.errors import UsageError
from qcompiler.filters import node_precisions, nodes_kept_float
from qcompiler.float_passes import run_float_passes
from qcompiler.options import CompileOptions
from qcompiler.passes.equalize.run import equalize
from qcompiler.passes.rotate.run import rotate
from qcompiler.passes.sites.recipe import choose_recipe
from qcompiler.passes.split_units.run import split_units
from qcompiler.progress import Progress
from qcompiler.target import Target

_APART: Final = {
    "plan": ("layers are measured with the ranges that the data gives", None),
    "bias_correction": ("corrections are made for all layers together, so that no layer has its own", "none"),
    "states": ("layers are measured within one call, between which states are rounded", "float"),
}
"""Options that no measurement layer by layer can follow: why, and the value that asks for nothing."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The rewritten model.

    Attributes:
        rewrites: Kinds of rotations, and how many sites were equalized; empty where nothing was.
    """

    model: ir.Model
    rewrites: dict[str, Any]
    diagnostics: tuple[Diagnostic, ...]


def refuse_what_is_apart(options: CompileOptions) -> None:
    """That nothing is asked for that the measurement leaves out.

    Raises:
        UsageError: An option that concerns all layers together.
    """
    for name, (reason, nothing) in _APART.items():
        if getattr(options, name) != nothing:
            raise UsageError(reason, where=f"--{name.replace('_', '-')}", hint="leave it out for sensitivity")


def rewritten(
    model: ir.Model, target: Target, source: Source, options: CompileOptions, progress: Progress
) -> Subject:
    """`model`, whose nodes have names, through the float passes, split units, rotations and equalization of a compile.

    Raises:
        QcompileError: As a compile.
    """
    guard = make_guard(model, source.peek(), options)
    model, _ = run_float_passes(model, target, guard, edits=options.passes)
    parted = split_units(model, target, source, options, guard, (), progress)
    model = parted.model
    bits, kept = node_precisions(model, options), nodes_kept_float(model, options)
    recipe = choose_recipe(model, target, source, options, bits, kept)
    options = replace(options, equalize=recipe.equalize, rotate=recipe.rotate)
    rotated = rotate(model, target, source, options, guard, (), progress)
    method = recipe.equalize_behind(rotated.facts, options.goal_sqnr)
    equalized = equalize(rotated.model, target, source, method, options, guard, (), progress)
    rewrites = {"units": len(parted.units), "rotate": sorted(rotated.rotations), "equalize": len(equalized.parameters)}
    found = (*parted.diagnostics, *recipe.diagnostics, *rotated.diagnostics, *equalized.diagnostics)
    return Subject(equalized.model, {name: done for name, done in rewrites.items() if done}, found)
