"""The kinds of rotation by name, where each can be made, and the passes that make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import onnx_ir as ir

from qcompiler.passes.rotate.draws import Draws
from qcompiler.passes.rotate.gated_sites import gated_sites
from qcompiler.passes.rotate.head_values import HeadValues, head_values
from qcompiler.passes.rotate.residual_streams import Stream, residual_streams
from qcompiler.passes.rotate.rotate_down import RotateDown, down_sites
from qcompiler.passes.rotate.rotate_gated import RotateGated
from qcompiler.passes.rotate.rotate_heads import RotateHeads
from qcompiler.passes.rotate.rotate_residual import RotateResidual
from qcompiler.passes.rotate.rotate_scores import RotateScores
from qcompiler.passes.rotate.score_operands import ScoreOperands, score_operands
from qcompiler.passes.sites.records import Site

Kind: TypeAlias = Literal["residual", "heads", "down", "gated", "scores"]
AnyRotation: TypeAlias = RotateResidual | RotateHeads | RotateDown | RotateGated | RotateScores
RotationPass: TypeAlias = type[AnyRotation]
PASSES: Mapping[Kind, RotationPass] = {
    "residual": RotateResidual, "heads": RotateHeads, "down": RotateDown, "gated": RotateGated,
    "scores": RotateScores,
}  # fmt: skip
KINDS: tuple[Kind, ...] = tuple(PASSES)
ONLINE: frozenset[Kind] = frozenset({"down", "gated", "scores"})
"""Kinds that add nodes."""
ONLY_BELOW_GOAL: frozenset[Kind] = frozenset({"down", "scores"})
"""Of those, kinds that are not even tried where the outputs are good enough; what `gated` adds is a few percent of the
work, and what it gains is most of a Mamba's error."""
Readers = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Rotation:
    """One kind, at these sites, with the signs of this seed or what `draws` says of a site: all that a plan keeps."""

    kind: Kind
    sites: tuple[str, ...]
    seed: int = 0
    draws: Draws = ()


def passes_of(rotations: Sequence[Rotation]) -> list[AnyRotation]:
    """One pass for each."""
    return [PASSES[item.kind](item.sites, item.seed, item.draws) for item in rotations]


def found_sites(model: ir.Model) -> dict[Kind, Readers]:
    """Kind to site to the names of the nodes that read what is rotated there, for kinds that have a site."""
    residual: Readers = {}
    for stream in residual_streams(model):
        if isinstance(stream, Stream):
            layers = [*stream.readers, *(reader for site in stream.norms for reader in site.readers)]
            residual[stream.name] = tuple(str(reader.node.name) for reader in layers)
    heads = {item.name: _names(item) for item in head_values(model) if isinstance(item, HeadValues)}
    down = {item.name: _names(item) for item in down_sites(model) if isinstance(item, Site)}
    gated = {item.name: _names(item) for item in gated_sites(model) if isinstance(item, Site)}
    scores: Readers = {item.name: (item.name,) for item in score_operands(model) if isinstance(item, ScoreOperands)}
    every: dict[Kind, Readers] = {"residual": residual, "heads": heads, "down": down, "gated": gated,
                                  "scores": scores}  # fmt: skip
    return {kind: readers for kind, readers in every.items() if readers}


def _names(site: Site | HeadValues) -> tuple[str, ...]:
    return tuple(str(reader.node.name) for reader in site.readers)
