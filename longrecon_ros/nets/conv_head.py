"""Pixels from patch tokens by convolutions (after MoGe, Wang et al., CVPR 2025), for pi3x."""

from typing import Sequence, Tuple

import torch
from torch import nn, Tensor
from torch.nn import functional

from .uv import uv_map

_GROUP = 32
BRANCH_CHANNELS = 32


class _Residual(nn.Module):

    def __init__(self, channels: int):
        super().__init__()
        wide = 2 * channels
        self.layers = nn.Sequential(
            nn.GroupNorm(1, channels), nn.ReLU(), _conv(channels, wide),
            nn.GroupNorm(wide // _GROUP, wide), nn.ReLU(), _conv(wide, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _conv(n_in: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, out, 3, padding=1, padding_mode='replicate')


class ConvHead(nn.Module):
    """Three doublings of the patch grid, then one branch for each entry of ``outs``; float32."""

    def __init__(self, dim: int, channels: Sequence[int], outs: Sequence[int]):
        super().__init__()
        widths = (dim, *channels)
        self.upsample_blocks = nn.ModuleList(nn.Sequential(
            nn.Sequential(nn.ConvTranspose2d(n_in + 2, out, 2, 2), _conv(out, out)),
            _Residual(out), _Residual(out)) for n_in, out in zip(widths, widths[1:]))
        self.output_block = nn.ModuleList(nn.Sequential(
            _conv(widths[-1] + 2, BRANCH_CHANNELS), nn.ReLU(),
            nn.Conv2d(BRANCH_CHANNELS, out, 1)) for out in outs)

    def forward(self, patches: Tensor, h: int, w: int, size: Tuple[int, int]) -> Tensor:
        """Return maps (F, H, W, sum(outs)) of patch tokens (F, h w, C); ``size`` is (H, W) px."""
        x = patches.float().transpose(1, 2).unflatten(2, (h, w))
        aspect = size[1] / size[0]
        for block in self.upsample_blocks:
            x = block(self._with_uv(x, aspect))
        x = functional.interpolate(x, size=size, mode='bilinear', align_corners=False)
        x = self._with_uv(x, aspect)
        return torch.cat([branch(x) for branch in self.output_block], dim=1).permute(0, 2, 3, 1)

    @staticmethod
    def _with_uv(x: Tensor, aspect: float) -> Tensor:
        uv = uv_map(*x.shape[-2:], aspect, x).expand(len(x), -1, -1, -1)
        return torch.cat([x, uv], dim=1)
