"""Transformer blocks, and the alternation of attention inside frames and across them."""

from typing import Callable, Container, List, Optional, Sequence

import torch
from torch import nn, Tensor

from .attention import attend, Attention, CrossAttention, Mix
from .layers import LayerNorm, LayerScale, Mlp
from .rope import Rotation

MLP_RATIO = 4


class Block(nn.Module):
    """A pre-norm block: x += scale1 attention(norm1 x); x += scale2 mlp(norm2 x)."""

    def __init__(self, dim: int, heads: int, eps: float, qk_norm: bool = False,
                 use_scale: bool = True):
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(dim, eps=eps), LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, qk_norm)
        self.mlp = Mlp(dim, MLP_RATIO * dim, dim)
        self.ls1 = LayerScale(dim) if use_scale else nn.Identity()
        self.ls2 = LayerScale(dim) if use_scale else nn.Identity()

    def forward(self, x: Tensor, by: Optional[Rotation] = None, mix: Mix = attend) -> Tensor:
        """Return the tokens (B, P, C) after the block."""
        x = x + self.ls1(self.attn(self.norm1(x), by, mix))
        return x + self.ls2(self.mlp(self.norm2(x)))


class CrossBlock(nn.Module):
    """A block whose tokens look at another sequence only, not at each other."""

    def __init__(self, dim: int, heads: int, eps: float):
        super().__init__()
        self.norm2, self.norm_y, self.norm3 = (LayerNorm(dim, eps=eps) for _ in range(3))
        self.cross_attn = CrossAttention(dim, heads)
        self.mlp = Mlp(dim, MLP_RATIO * dim, dim)

    def forward(self, x: Tensor, y: Tensor, x_by: Rotation, y_by: Rotation) -> Tensor:
        """Return x (B, P, C) after it has looked at y (B, Q, C)."""
        x = x + self.cross_attn(self.norm2(x), self.norm_y(y), x_by, y_by)
        return x + self.mlp(self.norm3(x))


def alternate(frame_blocks: Sequence[Block], global_blocks: Sequence[Block], tokens: Tensor,
              by: Rotation, keep: Container[int],
              after: Callable[[int, Tensor], Tensor] = lambda _number, x: x,
              mix_of: Callable[[int], Mix] = lambda _pair: attend) -> List[Tensor]:
    """Run tokens (B, N, P, C) through pairs of a frame block and a global block.

    A frame block mixes the P tokens of each frame, a global block all N P of a sequence; ``by`` is
    the rotation of one frame. After each block, ``after`` gets its number (frame blocks are even)
    and the tokens (B, N P, C), and returns what goes on. ``mix_of`` gets the number of a pair and
    returns how its global block attends. Returns for the pairs in ``keep`` the outputs of both
    blocks side by side, (B, N, P, 2 C) (VGGT, Wang et al., CVPR 2025, section 3.2; pi3 likewise).
    """
    b, n, p, c = tokens.shape
    by_all, kept, x = by.repeat(n), [], tokens
    for i, (frame_block, global_block) in enumerate(zip(frame_blocks, global_blocks)):
        inside = after(2 * i, frame_block(x.reshape(b * n, p, c), by).reshape(b, n * p, c))
        x = after(2 * i + 1, global_block(inside, by_all, mix_of(i)))
        if i in keep:
            kept.append(torch.cat([inside.reshape(b, n, p, c), x.reshape(b, n, p, c)], dim=-1))
    return kept
