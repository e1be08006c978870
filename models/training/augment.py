"""Augmentation of a batch of pictures where it lies: float32 [n, 3, 32, 32] in 0..1, every picture drawn for itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_GREY = (0.299, 0.587, 0.114)


def augment(images: Tensor) -> Tensor:
    """Colour operations, then flip, shift, rotation, shear and scale in one resampling, then an erased square."""
    return erase(warp(recolour(images)))


def recolour(images: Tensor, strength: float = 0.5) -> Tensor:
    """Brightness, contrast and saturation, each for half of the pictures; solarized or posterized for a tenth each."""
    images = images * _factor(images, strength)
    grey = (images * images.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)
    images = torch.lerp(grey.mean((2, 3), keepdim=True), images, _factor(images, strength))
    images = torch.lerp(grey, images, _factor(images, strength)).clamp(0.0, 1.0)
    threshold = _uniform(images, 0.3, 1.0)
    images = torch.where(_chance(images, 0.1) & (images > threshold), 1.0 - images, images)
    levels = torch.exp2(torch.floor(_uniform(images, 2.0, 6.0)))
    return torch.where(_chance(images, 0.1), torch.floor(images * levels) / levels, images)


def warp(images: Tensor, shift: int = 4) -> Tensor:
    """Flip for half of the pictures, shift by up to `shift` whole pixels; a mild affine map for half of them."""
    n, device = len(images), images.device
    mapped = (torch.rand(n, device=device) < 0.5).float()
    angle = _signed(n, device) * mapped * math.radians(20.0)
    shear_x, shear_y = _signed(n, device) * mapped * 0.2, _signed(n, device) * mapped * 0.2
    scale = 1.0 + _signed(n, device) * mapped * 0.15
    flip = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    pixels = torch.randint(-shift, shift + 1, (n, 2), device=device).float() * (2.0 / images.shape[-1])
    rows = torch.stack(
        [flip * (cos + shear_x * sin), shear_x * cos - sin, pixels[:, 0], sin + shear_y * cos, cos, pixels[:, 1]], dim=1
    )
    rows[:, 3] *= flip
    grid = F.affine_grid(rows.reshape(n, 2, 3), list(images.shape), align_corners=False)
    # The border is the mean grey, which normalization takes to about zero.
    return F.grid_sample(images - 0.47, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + 0.47


def erase(images: Tensor, share: float = 0.3, size: int = 10) -> Tensor:
    """A square of mean grey somewhere, for a share of the pictures."""
    n, side = len(images), images.shape[-1]
    inside = _square(n, side, torch.full((n,), size / side, device=images.device))
    return torch.where(inside & _chance(images, share), 0.47, images)


def mix(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures with a permutation of themselves: a third cutmix (a square pasted), a third mixup, a third as it is.

    Targets are distributions [n, classes], mixed by the share of the picture.
    """
    n, side = len(images), images.shape[-1]
    order = torch.randperm(n, device=images.device)
    kind = torch.rand(n, device=images.device)
    length = torch.rand(n, device=images.device).sqrt()  # share of the other picture uniform in 0..1
    square = _square(n, side, length) & (kind < 1 / 3)[:, None, None, None]
    blend = torch.where((kind >= 1 / 3) & (kind < 2 / 3), torch.rand(n, device=images.device) * 0.5, 0.0)
    other = square.float() + (~square).float() * blend[:, None, None, None]
    share = other.mean((1, 2, 3)).unsqueeze(1)
    return torch.lerp(images, images[order], other), torch.lerp(targets, targets[order], share)


def _square(n: int, side: int, length: Tensor) -> Tensor:
    """True [n, 1, side, side] in squares of `length` * side pixels around points drawn anywhere."""
    at = torch.arange(side, device=length.device) + 0.5
    centre = torch.rand(n, 2, 1, device=length.device) * side
    near = (at - centre).abs() <= (length * side / 2)[:, None, None]
    return (near[:, 0, :, None] & near[:, 1, None, :]).unsqueeze(1)


def _chance(images: Tensor, share: float) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, device=images.device) < share


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, device=images.device) * (high - low) + low


def _factor(images: Tensor, strength: float) -> Tensor:
    return torch.where(_chance(images, 0.5), _uniform(images, 1.0 - strength, 1.0 + strength), 1.0)


def _signed(n: int, device: torch.device) -> Tensor:
    return torch.rand(n, device=device) * 2.0 - 1.0
