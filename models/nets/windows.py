"""Windows of a map of tokens, and what is added to scores inside them (Swin, arXiv 2103.14030, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def into_windows(x: Tensor, window: int) -> Tensor:
    """[batch, H, W, C] to [batch * windows, window * window, C], windows row by row; H and W are multiples of it."""
    _, height, width, channels = x.shape
    x = x.reshape(-1, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def out_of_windows(x: Tensor, window: int, size: int) -> Tensor:
    """The inverse of into_windows, to [batch, size, size, C]."""
    across, channels = size // window, x.shape[-1]
    x = x.reshape(-1, across, across, window, window, channels)
    return x.transpose(2, 3).reshape(-1, size, size, channels)


def relative_index(window: int) -> Tensor:
    """[window^2, window^2]: the row of a table of (2 window - 1)^2 that belongs to a query and a key of a window."""
    at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    distance = at[:, :, None] - at[:, None, :] + (window - 1)
    return distance[0] * (2 * window - 1) + distance[1]


def shifted_mask(size: int, window: int, shift: int) -> Tensor:
    """[windows, window^2, window^2]: 0 where both tokens come from one side of a rolled map's edge, else -100."""
    bounds = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    region = torch.zeros(1, size, size, 1)
    for row, rows in enumerate(bounds):
        for column, columns in enumerate(bounds):
            region[:, rows, columns] = 3 * row + column
    of_window = into_windows(region, window).squeeze(-1)
    return (of_window[:, :, None] != of_window[:, None, :]).float() * -100.0
