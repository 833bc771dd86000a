"""Where a pixel lies in the image, for convolutions that cannot know it."""

from typing import Tuple

import torch
from torch import Tensor


def uv_axes(h: int, w: int, aspect: float, device: torch.device) -> Tuple[Tensor, Tensor]:
    """Return u (w,) and v (h,) f64 of the pixels of a map of an image of aspect width / height.

    The image's half diagonal is 1; u runs to the right, v down, and the middle is (0, 0).
    """
    diagonal = (aspect**2 + 1) ** 0.5

    def axis(n: int, half_side: float) -> Tensor:
        end = half_side * (n - 1) / n
        return torch.linspace(-end, end, n, dtype=torch.float64, device=device)
    return axis(w, aspect / diagonal), axis(h, 1 / diagonal)


def uv_map(h: int, w: int, aspect: float, like: Tensor) -> Tensor:
    """Return the coordinates themselves, (1, 2, h, w)."""
    u, v = uv_axes(h, w, aspect, like.device)
    return torch.stack([u.expand(h, w), v[:, None].expand(h, w)])[None].to(like.dtype)


def uv_waves(h: int, w: int, aspect: float, like: Tensor, base: float = 100.0) -> Tensor:
    """Return sines and cosines of the coordinates, (1, C, h, w), for a map (F, C, h, w)."""
    n = like.shape[1] // 4
    ranks = torch.arange(n, dtype=torch.float64, device=like.device)
    frequencies = base ** (-ranks / n)

    def waves(axis: Tensor) -> Tensor:
        angles = axis[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1).T.to(like.dtype)      # (C / 2, n)
    u, v = (waves(axis) for axis in uv_axes(h, w, aspect, like.device))
    return torch.cat([u[:, None].expand(-1, h, -1), v[:, :, None].expand(-1, -1, w)])[None]
