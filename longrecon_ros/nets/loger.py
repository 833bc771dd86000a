"""The network LoGeR (arXiv 2603.03269, 2026): pi3 with two memories that outlast a window.

After every second block a fast-weight layer (`ttt`) recalls what earlier windows stored and stores
this one; at four depths attention looks back at the tokens of the window before. Both are state,
handed in and out, so that a stream is worked through window by window. Written from the paper and
the names and shapes of the released checkpoints.
"""

from dataclasses import dataclass
from functools import partial
from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import nn, Tensor
from torch.nn import functional

from . import ttt
from .attention import attend, KeysValues, split_heads
from .blocks import alternate, Block
from .layers import Linear, RmsNorm
from .pi3 import Pi3Net, Pi3Output, Pi3Size
from .rope import Rotation
from .vit import EPS, PATCH

_BASE_RATE = 0.01
_NORM_EPS = 1e-5
_N_ROLES = 3


@dataclass(frozen=True)
class LogerSize(Pi3Size):
    """Widths and depths; the defaults are those of the released nets, `star` apart."""

    fast_after: Tuple[int, ...] = tuple(range(0, 36, 2))    # blocks with a fast-weight layer
    look_back_after: Tuple[int, ...] = (10, 18, 26, 34)
    fast_head_dim: int = 512
    fast_ratio: int = 4
    has_pre_norm: bool = True


LARGE = LogerSize()
LARGE_STAR = LogerSize(has_pre_norm=False)
TINY = LogerSize(dim=64, heads=2, encoder_depth=1, decoder_depth=4, head_depth=1, camera_dim=32,
                 fast_after=(0, 2), look_back_after=(2,), fast_head_dim=32, fast_ratio=2)
"""For trying the machinery; there are no published weights of this size."""

DEAD = 'to_qkv_stack.0.weight'
"""Ends the names of tensors in the released checkpoints that no code uses."""


class Roles(NamedTuple):
    """How many frames of a window play which role, in this order; the net has a token for each."""

    before: int                             # also in the last window
    between: int
    after: int                              # also in the next window


def roles_of(n: int, window: int, overlap: int) -> Roles:
    """Return the roles in a window of n frames where windows of a stream have ``window`` frames.

    As in the original the first window of a stream has frames that are "before", too, and what
    a short last window lacks is missing at its end.
    """
    before = min(overlap, n)
    between = min(max(window - 2 * overlap, 0), n - before)
    return Roles(before, between, n - before - between)


class Memory(NamedTuple):
    """What a stream has left behind; None in the place of what it has not."""

    fast: Optional[Tuple[ttt.FastWeights, ...]] = None
    past: Optional[Tuple[KeysValues, ...]] = None

    def without_fast(self) -> 'Memory':
        """Return the memory with the fast weights as they were learnt; the past window stays."""
        return self._replace(fast=None)


NOTHING = Memory()


class FastLayer(nn.Module):
    """Recalls by the tokens of a window, then stores them (large-chunk test-time training)."""

    def __init__(self, dim: int, head_dim: int, ratio: int, has_pre_norm: bool):
        super().__init__()
        self.heads, hidden = dim // head_dim, ratio * head_dim
        for name, shape in (('w0', (head_dim, hidden)), ('w1', (hidden, head_dim)),
                            ('w2', (head_dim, hidden))):
            setattr(self, name, nn.Parameter(torch.zeros(self.heads, *shape)))
        self.to_qkv, self.c_proj = (Linear(dim, out, bias=False) for out in (3 * dim, dim))
        self.lr_fc = Linear(dim, 3 * self.heads)
        self.o_norm = RmsNorm(head_dim, _NORM_EPS)
        self.pre_norm = RmsNorm(dim, _NORM_EPS) if has_pre_norm else nn.Identity()
        self._rate_bias = ttt.base_rate(_BASE_RATE)

    def initial(self, b: int) -> ttt.FastWeights:
        """Return the fast weights of B streams that have seen nothing."""
        return ttt.FastWeights(*(w.float().repeat(b, 1, 1) for w in (self.w0, self.w1, self.w2)))

    def forward(self, x: Tensor, weights: ttt.FastWeights, numerics: ttt.Numerics
                ) -> Tuple[Tensor, ttt.FastWeights]:
        """Return what tokens (B, L, C) recall, and the fast weights after storing them."""
        b = len(x)
        x = self.pre_norm(x)
        q, k, v = (self._fold(part) for part in functional.silu(self.to_qkv(x)).chunk(3, -1))
        q, k = (part / (part.float().norm(dim=-1, keepdim=True) + _NORM_EPS) for part in (q, k))
        recalled = ttt.apply(weights, q, numerics)
        rates = functional.softplus(self.lr_fc(x.float()).float() + self._rate_bias)
        etas = tuple(self._fold(rate) for rate in rates.chunk(3, -1))
        after = ttt.update(weights, ttt.gradients(weights, k, v, etas, numerics), numerics)
        recalled = self.o_norm(recalled).unflatten(0, (b, self.heads)).transpose(1, 2).flatten(2)
        return self.c_proj(recalled), after

    def _fold(self, x: Tensor) -> Tensor:
        """Return (B, L, heads n) as (B heads, L, n)."""
        return split_heads(x, self.heads).flatten(0, 1)


class LogerNet(Pi3Net):
    """pi3 with fast weights and a look back at the last window."""

    n_special = 6                           # pi3's registers, and one token for the frame's role
    numerics = ttt.Numerics()
    """How the fast weights are computed; set on an object, `ttt.Numerics` says what there is."""

    def __init__(self, size: LogerSize):
        super().__init__(size)
        for role in range(_N_ROLES):
            setattr(self, f'pe_token_{role}', nn.Parameter(torch.zeros(1, 1, 1, size.dim)))
        self.ttt_layers = nn.ModuleList(
            FastLayer(size.dim, size.fast_head_dim, size.fast_ratio, size.has_pre_norm)
            for _ in size.fast_after)
        self.swa_layers = nn.ModuleList(Block(size.dim, size.heads, EPS, qk_norm=True)
                                        for _ in size.look_back_after)
        self.ttt_gate_projs = nn.ModuleList(Linear(size.dim, 1) for _ in size.fast_after)
        self.swa_gate_projs = nn.ModuleList(Linear(size.dim, 1) for _ in size.look_back_after)

    def forward(self, images: Tensor, memory: Memory = NOTHING,
                roles: Optional[Roles] = None) -> Tuple[Pi3Output, Memory]:
        """Return the result of RGB images (B, N, 3, H, W) in [0, 1], and the memory after."""
        b, n = images.shape[:2]
        patches = self.encode(images.flatten(0, 1)).unflatten(0, (b, n))
        return self.decode(patches, images.shape[-2:], memory, roles)

    def decode(self, patches: Tensor, size: Tuple[int, int], memory: Memory = NOTHING,
               roles: Optional[Roles] = None) -> Tuple[Pi3Output, Memory]:
        """Return the result of a window of encoded frames, (B, N, h w, C), and the memory after.

        ``size`` is (H, W) px; ``roles`` counts the frames of each role (default: all are new).
        """
        h, w = (side // PATCH for side in size)
        by = self.rotation(h, w, patches.device)
        tokens, memory = self._recall(patches, by, memory, roles or Roles(0, patches.shape[1], 0))
        return self.read(tokens, by, patches.shape[:2], h, w), memory

    def _recall(self, patches: Tensor, by: Rotation, memory: Memory,
                roles: Roles) -> Tuple[Tensor, Memory]:
        """Return tokens (F, 6 + h w, 2 C) that know of all frames and of what was before."""
        b, n = patches.shape[:2]
        special = torch.cat([self.register_token.expand(b, n, -1, -1),
                             self._role_tokens(roles).expand(b, -1, -1, -1)], dim=2)
        insert = _Insertion(self, memory, by.repeat(n), b)
        last = len(self.decoder) // 2 - 1
        mixed = alternate(self.decoder[0::2], self.decoder[1::2],
                          torch.cat([special, patches], dim=2), by, (last,), insert)
        return mixed[0].flatten(0, 1), Memory(tuple(insert.fast), tuple(insert.past))

    def _role_tokens(self, roles: Roles) -> Tensor:
        """Return the role tokens of the frames of a window, (1, N, 1, C)."""
        return torch.cat([getattr(self, f'pe_token_{role}').expand(-1, n, -1, -1)
                          for role, n in enumerate(roles)], dim=1)


class _Insertion:
    """What comes between the blocks while one window goes through, and what it leaves behind."""

    def __init__(self, net: LogerNet, memory: Memory, by: Rotation, b: int):
        self._net, self._memory, self._by, self._b = net, memory, by, b
        self.fast: List[ttt.FastWeights] = []
        self.past: List[KeysValues] = []

    def __call__(self, number: int, x: Tensor) -> Tensor:
        net, size = self._net, self._net.size
        if number in size.fast_after:
            j = len(self.fast)
            layer = net.ttt_layers[j]
            weights = self._memory.fast[j] if self._memory.fast else layer.initial(self._b)
            recalled, after = layer(x, weights, net.numerics)
            self.fast.append(after)
            x = x + functional.silu(net.ttt_gate_projs[j](x)) * recalled
        if number in size.look_back_after:
            j = len(self.past)
            past = self._memory.past[j] if self._memory.past else None
            z = net.swa_layers[j](x, self._by, partial(self._look_back, past))
            x = x + functional.silu(net.swa_gate_projs[j](z)) * z
        return x

    def _look_back(self, past: Optional[KeysValues], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to the tokens of the window before as well, and keep those of this one."""
        self.past.append(KeysValues(k, v))
        if past is not None:
            k, v = torch.cat([past.keys, k], dim=2), torch.cat([past.values, v], dim=2)
        return attend(q, k, v)
