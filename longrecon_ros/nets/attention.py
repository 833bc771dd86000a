"""Multi-head attention; the one place that calls scaled_dot_product_attention."""

from typing import Callable, NamedTuple, Optional, Tuple

from torch import nn, Tensor
from torch.nn import functional

from .layers import LayerNorm, Linear
from .rope import rotate, Rotation

QK_NORM_EPS = 1e-5


class KeysValues(NamedTuple):
    """What tokens are looked up by and what they say, (B, heads, P, D) each, as compared."""

    keys: Tensor
    values: Tensor


Mix = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What takes queries, keys and values to mixed values, as `attend` does: who looks at whom."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(D)) v of (B, heads, P, D) as (B, P, heads D)."""
    mixed = functional.scaled_dot_product_attention(q, k, v)
    return mixed.transpose(1, 2).flatten(2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (B, P, C) as (B, heads, P, C / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention; queries and keys may be normalised a head and rotated by position."""

    def __init__(self, dim: int, heads: int, qk_norm: bool = False):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = Linear(dim, 3 * dim), Linear(dim, dim)
        if qk_norm:
            self.q_norm = LayerNorm(dim // heads, eps=QK_NORM_EPS)
            self.k_norm = LayerNorm(dim // heads, eps=QK_NORM_EPS)
        self.qk_norm = qk_norm

    def project(self, x: Tensor, by: Optional[Rotation] = None) -> Tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (B, heads, P, D) each, as they are compared."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if by is not None:
            q, k = rotate(q, by), rotate(k, by)
        return q, k, v

    def forward(self, x: Tensor, by: Optional[Rotation] = None, mix: Mix = attend) -> Tensor:
        """Mix the tokens (B, P, C) of each sequence."""
        return self.proj(mix(*self.project(x, by)))


class CrossAttention(nn.Module):
    """Attention of the tokens of one sequence to those of another."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = Linear(dim, dim), Linear(dim, dim)
        self.v_proj, self.proj = Linear(dim, dim), Linear(dim, dim)

    def forward(self, x: Tensor, y: Tensor, x_by: Rotation, y_by: Rotation) -> Tensor:
        """Return for queries x (B, P, C) what they find among y (B, Q, C)."""
        q = rotate(split_heads(self.q_proj(x), self.heads), x_by)
        k = rotate(split_heads(self.k_proj(y), self.heads), y_by)
        return self.proj(attend(q, k, split_heads(self.v_proj(y), self.heads)))
