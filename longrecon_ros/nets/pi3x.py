"""The network pi3x: pi3 with convolutional pixels and a metric scale.

Without its optional inputs (depth, rays, poses): their tensors in a checkpoint are not read.
"""

from typing import Tuple

import torch
from torch import nn, Tensor

from .blocks import CrossBlock
from .conv_head import ConvHead
from .layers import Linear
from .pi3 import LARGE, N_SPECIAL, Pi3Output, Pi3Size, Pi3Trunk
from .rope import Rotation, rotation
from .vit import EPS, PATCH

OPTIONAL_INPUTS = ('depth_encoder.*', 'depth_emb', 'ray_embed.*', 'pose_inject_blk.*')
"""Patterns of tensors of the released checkpoint that serve inputs which are not built."""

_MAX_LOG_DEPTH = 15.0
_N_AT_ONCE = 64


class MetricDecoder(nn.Module):
    """One token that looks at all tokens of a sequence."""

    def __init__(self, dim_in: int, dim: int, depth: int, heads: int):
        super().__init__()
        self.heads = heads
        self.projects_x, self.projects_y = Linear(dim_in, dim), Linear(dim_in, dim)
        self.blocks = nn.ModuleList(CrossBlock(dim, heads, EPS) for _ in range(depth))
        self.linear_out = Linear(dim, dim)

    def forward(self, x: Tensor, y: Tensor, x_by: Rotation, y_by: Rotation) -> Tensor:
        """Return (B, 1, dim) of a token x (B, 1, C) and tokens y (B, Q, C)."""
        x, y = self.projects_x(x), self.projects_y(y)
        for block in self.blocks:
            x = block(x, y, x_by, y_by)
        return self.linear_out(x)


class Pi3XNet(Pi3Trunk):
    """pi3x without optional inputs."""

    full_precision = (*Pi3Trunk.full_precision, 'metric_head')

    def __init__(self, size: Pi3Size = LARGE):
        super().__init__(size)
        self.point_head, self.conf_head = (ConvHead(size.dim, size.conv_channels, outs)
                                           for outs in ((2, 1), (1,)))
        self.metric_token = nn.Parameter(torch.zeros(1, 1, 2 * size.dim))
        self.metric_decoder = MetricDecoder(2 * size.dim, size.metric_dim, size.head_depth,
                                            size.metric_heads)
        self.metric_head = Linear(size.metric_dim, 1)

    def decode(self, patches: Tensor, size: Tuple[int, int]) -> Pi3Output:
        """Return the result of encoded frames (B, N, h w, C); ``size`` is (H, W) px.

        Lengths are in m as far as the net can tell.
        """
        frames, (h, w) = patches.shape[:2], (side // PATCH for side in size)
        by = self.rotation(h, w, patches.device)
        tokens = self.mix(patches, by)
        xy, z = self._maps(self.point_head, self.point_decoder(tokens, by), h, w,
                           size).split([2, 1], dim=-1)
        depth = z.clamp(max=_MAX_LOG_DEPTH).exp()
        points = torch.cat([xy * depth, depth], dim=-1).unflatten(0, frames)
        confidence = self._maps(self.conf_head, self.conf_decoder(tokens, by), h, w, size)
        T = self.camera_head(self.camera_decoder(tokens, by)[:, N_SPECIAL:]).unflatten(0, frames)
        metric = self._metric(tokens.unflatten(0, frames).flatten(1, 2), by.repeat(frames[1]))
        scale = metric[:, None, None, None]
        T = torch.cat([T[..., :3], torch.cat([T[..., :3, 3:] * scale, T[..., 3:, 3:]], -2)], -1)
        return Pi3Output(points * scale[..., None], confidence.unflatten(0, frames), T, metric)

    def _maps(self, head: ConvHead, tokens: Tensor, h: int, w: int,
              size: Tuple[int, int]) -> Tensor:
        patches = tokens[:, N_SPECIAL:]
        return torch.cat([head(part, h, w, size) for part in patches.split(_N_AT_ONCE)])

    def _metric(self, tokens: Tensor, by: Rotation) -> Tensor:
        """Return m a unit (B,) of the tokens (B, N P, 2 C) of whole sequences."""
        origin = torch.zeros(1, 2, dtype=torch.int64, device=tokens.device)
        x = self.metric_token.expand(len(tokens), -1, -1)
        x_by = rotation(origin, self.size.metric_dim // self.size.metric_heads)
        found = self.metric_decoder(x, tokens, x_by, by)
        return self.metric_head(found).exp().flatten()
