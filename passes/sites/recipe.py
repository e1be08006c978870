"""Options that suit an architecture, told by its structure; what the user named stays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.options import CompileOptions, EqualizeMethod
from qcompiler.passes.equalize.likely_gain import LikelyGain, likely_gain
from qcompiler.passes.recurrence.roles import tensor_role
from qcompiler.passes.rotate.gated_sites import gated_sites
from qcompiler.passes.rotate.residual_streams import Stream, residual_streams
from qcompiler.passes.sites.norm_sites import norm_sites
from qcompiler.passes.sites.records import Site
from qcompiler.passes.sites.vision_transformer import find_vision_transformer
from qcompiler.precision import Precisions
from qcompiler.target import Target


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was found, and the words that `--equalize recipe` and `--rotate recipe` stand for.

    Attributes:
        rotate: "recipe" where the rotations of state-space models are to be measured, "auto" where all are.
        own: Whether equalization was not asked for by the user.
    """

    equalize: EqualizeMethod
    rotate: str
    facts: dict[str, Any] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()
    own: bool = False

    def equalize_behind(self, rotated: Mapping[str, Any], goal: float) -> EqualizeMethod:
        """How to equalize once rotations are made: not at all where they brought the outputs to the goal and the user
        did not ask for it, since choosing shifts and scales takes as long as choosing the rotations did.

        Args:
            rotated: What was measured of rotations, as the report has it.
            goal: In dB.
        """
        taken = rotated.get("taken", "none")
        reached = taken != "none" and rotated["sqnr_judged"][taken] >= goal
        return "none" if self.own and reached else self.equalize


def choose_recipe(
    model: ir.Model,
    target: Target,
    source: Source,
    options: CompileOptions,
    precisions: Precisions,
    float_nodes: Collection[str],
) -> Recipe:
    """For norms with large channels the measured choice of equalizations, and of rotations where a residual stream can
    be rotated; for other vision transformers below 8 bits the bounded fold of norms, for gated recurrences the rotation
    behind the gate; for all else what was asked for, or nothing.

    All are taken only where the outputs gain by measurement. The bounded fold is among the measured choice, which takes
    its place where channels are large; without them it gained nothing at 8 bits on the models measured.

    Raises:
        QcompileError: As reading the data.
    """
    found = find_vision_transformer(model)
    asked = options.equalize
    free = asked == "recipe" and options.plan is None
    seen = likely_gain(model, target, source, options, precisions, float_nodes) if free else LikelyGain()
    few = free and not seen.likely and found is not None and _below_8_bits(model, precisions, float_nodes)
    taken: EqualizeMethod = "auto" if seen.likely else "bounded_fold" if few else "none"
    chosen = taken if asked == "recipe" else asked
    turned = options.rotate
    if turned == "recipe" and (options.plan is not None or not _has_gated_recurrence(model)):
        turned = "auto" if seen.likely and _has_stream(model) else "none"
    facts: dict[str, Any] = {"equalize": chosen, "rotate": turned, "norms": dict(seen.facts)} if seen.facts else {}
    if found is None:
        return Recipe(chosen, turned, facts, seen.diagnostics, asked == "recipe")
    message = f"looks like a vision transformer: {found}"
    if few:
        message += "; below 8 bits its norms are folded by channel (--equalize bounded_fold)"
    finding = Diagnostic("QC206", Severity.INFO, "", message)
    facts = {"architecture": "vision transformer", **found.to_json(), "equalize": chosen} | facts
    return Recipe(chosen, turned, facts, (finding, *seen.diagnostics), asked == "recipe")


def _has_gated_recurrence(model: ir.Model) -> bool:
    """Whether a recurrence was recognised and a layer reads its gated output; a gate alone is also of convolutions."""
    known = any(tensor_role(value) is not None for node in model.graph for value in node.outputs)
    return known and any(isinstance(site, Site) for site in gated_sites(model))


def _has_stream(model: ir.Model) -> bool:
    """Whether a residual stream can be rotated. Post-LN blocks have none; what is left there costs nodes."""
    return any(isinstance(item, Stream) for item in residual_streams(model))


def _below_8_bits(model: ir.Model, precisions: Precisions, float_nodes: Collection[str]) -> bool:
    """Whether a layer behind a norm reads fewer than 8 bits."""
    readers = {str(reader.node.name) for site in norm_sites(model) if isinstance(site, Site) for reader in site.readers}
    wanted = [precisions.of(name) for name in readers.difference(float_nodes)]
    return any(not item.weight_only and item.activations < 8 for item in wanted)
