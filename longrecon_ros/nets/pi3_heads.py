"""The heads of pi3: decoders a frame, pixels by shuffling, and a camera pose a frame."""

import torch
from torch import nn, Tensor
from torch.nn import functional

from . import rotation
from .blocks import Block
from .layers import Linear
from .rope import Rotation
from .vit import EPS, PATCH


class FrameDecoder(nn.Module):
    """Blocks inside each frame between two linear maps; no norm of queries and keys, no scales."""

    def __init__(self, dim_in: int, dim: int, out: int, depth: int, heads: int):
        super().__init__()
        self.projects = Linear(dim_in, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, EPS, use_scale=False) for _ in range(depth))
        self.linear_out = Linear(dim, out)

    def forward(self, tokens: Tensor, by: Rotation) -> Tensor:
        """Return (F, P, out) of tokens (F, P, dim_in)."""
        x = self.projects(tokens)
        for block in self.blocks:
            x = block(x, by)
        return self.linear_out(x)


class PixelHead(nn.Module):
    """A linear map a patch, whose channels are the patch's pixels."""

    def __init__(self, dim: int, channels: int):
        super().__init__()
        self.proj = Linear(dim, channels * PATCH**2)

    def forward(self, patches: Tensor, h: int, w: int) -> Tensor:
        """Return maps (F, H, W, channels) of patch tokens (F, h w, C)."""
        grid = self.proj(patches).transpose(1, 2).unflatten(2, (h, w))
        return functional.pixel_shuffle(grid, PATCH).permute(0, 2, 3, 1)


class ResidualMlp(nn.Module):
    """x + three linear maps with ReLU after each."""

    def __init__(self, dim: int):
        super().__init__()
        self.res_conv1, self.res_conv2, self.res_conv3 = (Linear(dim, dim) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        y = x
        for layer in (self.res_conv1, self.res_conv2, self.res_conv3):
            y = functional.relu(layer(y))
        return x + y


class PoseHead(nn.Module):
    """The pose of each frame, camera to world, from the mean of its patches."""

    def __init__(self, dim: int):
        super().__init__()
        self.res_conv = nn.ModuleList(ResidualMlp(dim) for _ in range(2))
        self.more_mlps = nn.Sequential(Linear(dim, dim), nn.ReLU(), Linear(dim, dim), nn.ReLU())
        self.fc_t, self.fc_rot = Linear(dim, 3), Linear(dim, 9)

    def forward(self, patches: Tensor) -> Tensor:
        """Return T_world_camera (F, 4, 4) f32 of patch tokens (F, h w, C)."""
        x = patches.float()
        for layer in self.res_conv:
            x = layer(x)
        x = self.more_mlps(x.mean(1))
        rows = functional.normalize(self.fc_rot(x).unflatten(-1, (3, 3)), dim=-1, eps=1e-12)
        top = torch.cat([rotation.nearest(rows), self.fc_t(x)[..., None]], dim=-1)
        bottom = torch.zeros_like(top[:, :1])
        bottom[..., 3] = 1.0
        return torch.cat([top, bottom], dim=-2)
