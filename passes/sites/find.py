"""Every site of a model, and every candidate that is none, with the reason."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.passes.sites.conv_sites import conv_sites
from qcompiler.passes.sites.layer_sites import mlp_sites
from qcompiler.passes.sites.linear_sites import linear_sites
from qcompiler.passes.sites.norm_sites import norm_sites
from qcompiler.passes.sites.records import Found, Refusal, Site
from qcompiler.passes.sites.value_sites import value_sites


def find_sites(model: ir.Model) -> Found:
    """Sites of a model in canonical form (`canonical_passes`): the rewrites of `passes/equalize` share them."""
    found = [*norm_sites(model), *value_sites(model), *mlp_sites(model), *linear_sites(model), *conv_sites(model)]
    return Found(
        tuple(item for item in found if isinstance(item, Site)),
        tuple(item for item in found if isinstance(item, Refusal)),
    )
