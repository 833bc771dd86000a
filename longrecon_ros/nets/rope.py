"""Rotary position embedding in two dimensions (Heo et al., ECCV 2024, axial form; base 100).

The first half of the channels of a head rotates with the row of a patch, the second half with its
column. In each half of D channels, channel k is paired with channel k + D / 2 and turned by the
position times 100^(-2k / D). Special tokens are at (0, 0) and do not turn; frames have no
position.
"""

from typing import NamedTuple

import torch
from torch import Tensor

BASE = 100.0


class Rotation(NamedTuple):
    """Cosine and sine of all angles, (..., P, D) float32."""

    cos: Tensor
    sin: Tensor

    def repeat(self, n: int) -> 'Rotation':
        """Return the rotation of n frames in a row, (n P, D), of that of one, (P, D)."""
        return Rotation(*(part.repeat(n, 1) for part in self))


def grid_positions(h: int, w: int, n_special: int, device: torch.device) -> Tensor:
    """Return (row, column) of the tokens of a frame, (n_special + h w, 2) int64.

    Special tokens come first, at (0, 0); patches begin at (1, 1).
    """
    rows = torch.arange(1, h + 1, device=device).repeat_interleave(w)
    columns = torch.arange(1, w + 1, device=device).repeat(h)
    special = torch.zeros(n_special, 2, dtype=torch.int64, device=device)
    return torch.cat([special, torch.stack([rows, columns], dim=1)])


def rotation(positions: Tensor, head_dim: int, base: float = BASE,
             angle_type: torch.dtype = torch.float32) -> Rotation:
    """Return the rotation (..., P, head_dim) at positions (..., P, 2).

    ``angle_type``: angles are rounded to it (in bfloat16 they are off by up to 0.1 rad, which is
    how official code works under autocast).
    """
    half = head_dim // 2
    steps = torch.arange(0, half, 2, device=positions.device, dtype=torch.float32)
    frequencies = 1.0 / base ** (steps / half)                      # (half / 2,)
    angles = positions.to(torch.float32).unsqueeze(-1) * frequencies        # (..., P, 2, half / 2)
    angles = torch.cat([angles, angles], dim=-1).flatten(-2)                # (..., P, head_dim)
    angles = angles.to(angle_type).to(torch.float32)
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Turn queries or keys (B, heads, P, D)."""
    cos, sin = (part.unsqueeze(-3).to(x.dtype) for part in by)
    y1, y2, x1, x2 = x.chunk(4, dim=-1)
    return x * cos + torch.cat([-y2, y1, -x2, x1], dim=-1) * sin
