"""Augmentation keeps shapes and ranges, changes pictures one by one, and mixes targets by the share of the picture."""

from __future__ import annotations

import torch

from models.training.augment import augment, erase, mix, recolour, warp


def pictures(n: int = 64) -> torch.Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_pictures_stay_pictures() -> None:
    torch.manual_seed(0)
    out = augment(pictures())
    assert out.shape == (64, 3, 32, 32)
    assert out.min() >= -1e-5 and out.max() <= 1 + 1e-5
    assert recolour(pictures()).max() <= 1.0


def test_warp_flips_and_shifts_by_whole_pixels_where_it_does_not_map() -> None:
    torch.manual_seed(0)
    image = pictures(1)
    padded = torch.nn.functional.pad(image - 0.47, (4, 4, 4, 4)) + 0.47
    crops = [padded[:, :, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
    known = torch.cat([*crops, *(crop.flip(3) for crop in crops)])
    warped = warp(image.expand(64, -1, -1, -1))
    distance = (warped[:, None] - known[None]).abs().flatten(2).amax(2).amin(1)
    exact = distance < 1e-3
    assert 0.25 < exact.float().mean() < 0.75
    assert len({int(i) for i in (warped[exact][:, None] - known[None]).abs().flatten(2).amax(2).argmin(1)}) > 10


def test_erased_squares_are_grey() -> None:
    torch.manual_seed(0)
    out = erase(pictures(), share=1.0)
    changed = (out != pictures()).any(1)
    assert 20 < changed.flatten(1).sum(1).float().mean() <= 100
    assert torch.all(out[changed.unsqueeze(1).expand_as(out)] == 0.47)


def test_targets_are_mixed_as_the_pictures_are() -> None:
    torch.manual_seed(0)
    classes = torch.eye(10).repeat(10, 1)
    images = torch.arange(100.0)[:, None, None, None].expand(-1, 3, 32, 32)  # a picture is its own number
    mixed, targets = mix(images, classes)
    torch.testing.assert_close(targets.sum(1), torch.ones(100))
    pure = (mixed.flatten(1) == images.flatten(1)).all(1)
    assert 0.2 < pure.float().mean() < 0.5
    share = 1 - targets[torch.arange(100), torch.arange(100) % 10]
    assert torch.all(share[pure] == 0)
    other = (mixed - images).mean((1, 2, 3))
    assert torch.all((other.abs() > 1e-3) == ~pure)
