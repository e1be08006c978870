"""Stochastic depth (arXiv 1603.09382): whole branches are left out for some pictures while training."""

from __future__ import annotations

import torch
from torch import Tensor


def drop_path(branch: Tensor, share: float, training: bool) -> Tensor:
    """`branch` [batch, ...], zero for a `share` of the batch and scaled up for the rest; unchanged outside training."""
    if not training or share == 0.0:
        return branch
    kept = torch.rand(branch.shape[0], *(1 for _ in branch.shape[1:]), device=branch.device) >= share
    return branch * (kept.to(branch.dtype) / (1.0 - share))
