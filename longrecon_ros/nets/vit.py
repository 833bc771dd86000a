"""The image encoder: DINOv2 with registers (Oquab et al. 2024; Darcet et al. 2024), patch 14."""

import torch
from torch import nn, Tensor
from torch.nn import functional

from .blocks import Block
from .layers import LayerNorm

PATCH = 14
EPS = 1e-6
_GRID = 37
"""Patches a side of the 518 px images that the position embedding was trained on."""
_N_REGISTERS = 4


class PatchEmbedding(nn.Module):
    """One linear map a patch, as a convolution."""

    def __init__(self, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """Return (F, h w, C), row by row, of images (F, 3, H, W)."""
        return self.proj(images.to(self.proj.weight.dtype)).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Encodes each image by itself. ``has_mask_token``: the checkpoint holds one (unused here)."""

    def __init__(self, dim: int, depth: int, heads: int, has_mask_token: bool = False):
        super().__init__()
        self.patch_embed = PatchEmbedding(dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _GRID**2, dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, _N_REGISTERS, dim))
        if has_mask_token:
            self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, EPS) for _ in range(depth))
        self.norm = LayerNorm(dim, eps=EPS)

    def position_embedding(self, h: int, w: int) -> Tensor:
        """Return the embedding (1, 1 + h w, C) of the class token and of h x w patches."""
        if self.pos_embed.shape[1] == 1 + h * w:
            # of this size already: as trained, or as `export` resampled it
            return self.pos_embed
        table = self.pos_embed[:, 1:].reshape(1, _GRID, _GRID, -1).permute(0, 3, 1, 2)
        table = functional.interpolate(table.float(), size=(h, w), mode='bicubic',
                                       antialias=True)
        table = table.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)
        return torch.cat([self.pos_embed[:, :1], table], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the patch tokens (F, h w, C) of normalised images (F, 3, H, W)."""
        f, _, height, width = images.shape
        x = torch.cat([self.cls_token.expand(f, -1, -1), self.patch_embed(images)], dim=1)
        x = x + self.position_embedding(height // PATCH, width // PATCH)
        x = torch.cat([x[:, :1], self.register_tokens.expand(f, -1, -1), x[:, 1:]], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 1 + _N_REGISTERS:]
