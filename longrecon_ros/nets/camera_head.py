"""VGGT's camera head: the pose encoding of each frame, refined four times."""

from typing import Callable

import torch
from torch import nn, Tensor
from torch.nn import functional

from .attention import attend, Mix
from .blocks import Block
from .layers import LayerNorm, Linear, Mlp

N_ITERATIONS = 4
EPS = 1e-5
_MODULATION_EPS = 1e-6
ENCODING = 9


class CameraHead(nn.Module):
    """Camera tokens to encodings [t, quaternion xyzw, vertical FoV, horizontal FoV].

    World to camera; FoV in rad. Each round looks at the encoding so far through a modulation of
    the tokens (adaptive layer norm with a gate; Peebles and Xie, ICCV 2023) and adds a correction.
    """

    def __init__(self, dim: int, heads: int, depth: int):
        super().__init__()
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, ENCODING))
        self.token_norm, self.trunk_norm = LayerNorm(dim, eps=EPS), LayerNorm(dim, eps=EPS)
        self.embed_pose = Linear(ENCODING, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), Linear(dim, 3 * dim))
        self.trunk = nn.ModuleList(Block(dim, heads, EPS) for _ in range(depth))
        self.pose_branch = Mlp(dim, dim // 2, ENCODING)

    def modulation_norm(self, x: Tensor) -> Tensor:
        """Return x (..., C) normalised without learnt factors."""
        return functional.layer_norm(x, x.shape[-1:], eps=_MODULATION_EPS)

    def forward(self, tokens: Tensor,
                mix_of: Callable[[int, int], Mix] = lambda _round, _block: attend) -> Tensor:
        """Return the encodings after each round, (4, B, N, 9), of camera tokens (B, N, C).

        ``mix_of`` gets the numbers of a round and of a block, and returns how that attends.
        """
        x = self.token_norm(tokens)
        base = self.modulation_norm(x)
        encoding = self.empty_pose_tokens.expand(*x.shape[:2], -1)
        total, rounds = torch.zeros_like(encoding), []
        for number in range(N_ITERATIONS):
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(encoding)).chunk(3, -1)
            y = gate * (base * (1 + scale) + shift) + x
            for i, block in enumerate(self.trunk):
                y = block(y, mix=mix_of(number, i))
            total = encoding = total + self.pose_branch(self.trunk_norm(y))
            rounds.append(torch.cat([total[..., :7], functional.relu(total[..., 7:])], dim=-1))
        return torch.stack(rounds)
