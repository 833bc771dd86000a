"""The network Scal3R (arXiv 2604.08542, CVPR 2026): VGGT on many windows with one memory.

After some of the blocks across frames a memory unit stores the tokens of every window into one set
of fast weights (`ttt`), and each window recalls from it: the windows go through the net in lock
step (`lockstep`), since a unit needs all of them before the first can go on. A window's reference
is its first frame. Written from the paper and the names and shapes of the released checkpoint.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

import torch
from torch import nn, Tensor
from torch.nn import functional

from . import ttt
from .layers import Linear, RmsNorm
from .rope import grid_positions, rotate, Rotation, rotation
from .vggt import (
    N_SPECIAL,
    TINY as VGGT_TINY,
    VggtNet,
    VggtOutput,
    VggtSize,
)
from .vit import PATCH

_BASE_RATE = 0.01
_QK_EPS = torch.finfo(torch.float32).eps
_O_EPS = 1e-5
_MODULATION_EPS = 1e-6

_RENAMED = (('aggregator.', 'agg_regator.'), ('camera_head.', 'cam_decoder.'),
            ('point_head.', 'xyz_decoder.'), ('depth_head.', 'dpt_decoder.'))


@dataclass(frozen=True)
class Scal3rSize(VggtSize):
    """Widths and depths; the defaults are those of the released net."""

    memory_after: Tuple[int, ...] = (14, 17, 20, 23)    # pairs of blocks with a memory unit
    memory_ratio: int = 4


LARGE = Scal3rSize()
TINY = Scal3rSize(**{name: getattr(VGGT_TINY, name) for name in VggtSize.__dataclass_fields__},
                  memory_after=(0, 1), memory_ratio=2)
"""For trying the machinery; there are no weights of this size."""


def middle_first(n: int) -> List[int]:
    """Return the order in which the original takes the n frames of a window: its reference first.

    That is the middle one; the others keep their order.
    """
    order, middle = list(range(n)), -(-n // 2) - 1
    return [order.pop(middle), *order]


def official_name(name: str) -> str:
    """Return what the released checkpoint calls one of our parameters."""
    for ours, theirs in _RENAMED:
        if name.startswith(ours):
            return theirs + name[len(ours):]
    return name


class MemoryUnit(nn.Module):
    """Fast weights of one head as wide as the net; tokens of patches only, always in float32."""

    def __init__(self, dim: int, ratio: int):
        super().__init__()
        hidden = ratio * dim
        for name, shape in (('w0', (dim, hidden)), ('w1', (hidden, dim)), ('w2', (dim, hidden))):
            setattr(self, name, nn.Parameter(torch.zeros(1, *shape)))
        self.qkv, self.proj, self.lrs = (Linear(dim, out) for out in (3 * dim, 3 * dim, 3))
        self.q_norm, self.k_norm = RmsNorm(dim, _QK_EPS), RmsNorm(dim, _QK_EPS)
        self.o_norm = RmsNorm(dim, _O_EPS)
        self._rate_bias = ttt.base_rate(_BASE_RATE)

    @property
    def learnt(self) -> ttt.FastWeights:
        """The fast weights before anything is stored."""
        return ttt.FastWeights(*(w.float() for w in (self.w0, self.w1, self.w2)))

    def gradient(self, x: Tensor, by: Rotation) -> ttt.FastWeights:
        """Return the direction that stores patch tokens (1, L, C) at the rotations of a window."""
        _, k, v = self.qkv(x).chunk(3, dim=-1)
        k = _turned(self.k_norm(k), by)
        rates = functional.softplus(self.lrs(x.float()).float() + self._rate_bias)
        return ttt.gradients(self.learnt, k, v.float(), rates.split(1, dim=-1), _EXACT)

    def forward(self, x: Tensor, by: Rotation, weights: ttt.FastWeights) -> Tensor:
        """Return what patch tokens (1, L, C) recall from fast weights, to be added to them."""
        q = _turned(self.q_norm(self.qkv(x).chunk(3, dim=-1)[0]), by)
        recalled = self.o_norm(ttt.apply(weights, q, _EXACT))
        shift, scale, gate = self.proj(recalled).chunk(3, dim=-1)
        plain = functional.layer_norm(recalled, recalled.shape[-1:], eps=_MODULATION_EPS)
        return gate * (plain * (1 + scale) + shift)


_EXACT = ttt.Numerics()


def _turned(x: Tensor, by: Rotation) -> Tensor:
    """Rotate tokens (1, L, C) that are one head."""
    return rotate(x[:, None], by)[:, 0]


class Place(NamedTuple):
    """Where the tokens of one frame are."""

    by: Rotation                            # all of them, for heads of the net's blocks
    wide: Rotation                          # patches, for the one head of a memory unit


class Window(NamedTuple):
    """A window on its way through the net."""

    tokens: Tensor                          # (1, N, 5 + h w, C)
    levels: Dict[int, Tensor]               # of pairs that heads read: (1, N, 5 + h w, 2 C)


class Scal3rNet(VggtNet):
    """VGGT with memory units after some of its pairs of blocks."""

    orthogonal = torch.bfloat16
    """Type in which updates are orthogonalised; set on an object (`ttt.Numerics`)."""

    def __init__(self, size: Scal3rSize = LARGE):
        super().__init__(size)
        for i in size.memory_after:
            self.aggregator.global_blocks[i].ttt = MemoryUnit(size.dim, size.memory_ratio)

    @property
    def units(self) -> Tuple[int, ...]:
        """Pairs of blocks with a memory unit, ascending: one ends each stage but the last."""
        return tuple(sorted(self.size.memory_after))

    def decode(self, patches: Tensor, size: Tuple[int, int],
               stored: Mapping[int, ttt.FastWeights] = MappingProxyType({})
               ) -> Tuple[VggtOutput, Dict[int, ttt.FastWeights]]:
        """Return the result of one window of encoded frames, (1, N, h w, C), and what is stored.

        The causal form, which is ours: units get the directions of this window and of all that
        came before, ``stored`` by pair, and earlier windows do not go through the net again.
        ``size`` is (H, W) px.
        """
        after: Dict[int, ttt.FastWeights] = {}
        h, w = (side // PATCH for side in size)
        place, window, weights = self.place(h, w, patches.device), self.begin(patches[0]), None
        for stage, i in enumerate(self.units):
            window = self.through(stage, window, place, weights)
            direction = self.gradient(i, window, place)
            after[i] = ttt.plus(stored[i], direction) if i in stored else direction
            weights = self.store(i, after[i])
        return self.read(self.through(len(self.units), window, place, weights), size), after

    def begin(self, patches: Tensor) -> Window:
        """Return a window before the first pair of blocks, of encoded frames (N, h w, C)."""
        special = self.aggregator.special_tokens(1, len(patches))
        return Window(torch.cat([special, patches[None]], dim=2), {})

    def through(self, stage: int, window: Window, place: Place,
                weights: Optional[ttt.FastWeights] = None) -> Window:
        """Return a window after a stage: what lies between two memory units, of `units`.

        It recalls from the weights of the unit before, which the first stage has not, and is mixed
        as far as the unit that ends the stage, which is to store it next; the last stage leads to
        the heads (`read`).
        """
        start = 0
        if stage:
            start = self.units[stage - 1] + 1
            window = self.recall(start - 1, window, place, weights)
        is_last = stage == len(self.units)
        for i in range(start, self.size.depth if is_last else self.units[stage] + 1):
            window = self.mix(i, window, place)
        return window

    def mix(self, i: int, window: Window, place: Place) -> Window:
        """Return a window after the i-th pair of blocks, before its memory unit."""
        _, n, p, c = window.tokens.shape
        inside = self.aggregator.frame_blocks[i](window.tokens.reshape(n, p, c), place.by)
        across = self.aggregator.global_blocks[i](inside.reshape(1, n * p, c),
                                                  place.by.repeat(n))
        levels = dict(window.levels)
        if i in self.size.levels or i == self.size.depth - 1:
            # the second half is put in once the memory unit has had its say
            levels[i] = torch.cat([inside.reshape(1, n, p, c), across.reshape(1, n, p, c)], -1)
        return Window(across.reshape(1, n, p, c), levels)

    def gradient(self, i: int, window: Window, place: Place) -> ttt.FastWeights:
        """Return the direction that stores a window in the memory unit after the i-th pair."""
        return self._unit(i).gradient(*self._patches(window, place))

    def store(self, i: int, direction: ttt.FastWeights) -> ttt.FastWeights:
        """Return the fast weights after the i-th pair that a sum of directions gives."""
        numerics = ttt.Numerics(orthogonal=self.orthogonal)
        return ttt.update(self._unit(i).learnt, direction, numerics)

    def learnt(self, stage: int) -> ttt.FastWeights:
        """Return the fast weights of the unit at the end of a stage before anything is stored."""
        return self._unit(self.units[stage]).learnt

    def recall(self, i: int, window: Window, place: Place,
               weights: ttt.FastWeights) -> Window:
        """Return a window with what it recalls from fast weights added to its patches."""
        x, by_all = self._patches(window, place)
        special, patches = window.tokens[:, :, :N_SPECIAL], window.tokens[:, :, N_SPECIAL:]
        recalled = self._unit(i)(x, by_all, weights).reshape(patches.shape)
        tokens = torch.cat([special, patches + recalled], dim=2)
        levels = dict(window.levels)
        if i in levels:
            c = tokens.shape[-1]
            levels[i] = torch.cat([levels[i][..., :c], tokens], dim=-1)
        return Window(tokens, levels)

    def read(self, window: Window, size: Tuple[int, int], use_points: bool = False) -> VggtOutput:
        """Return the result of a window after the last pair; ``size`` is (H, W) px."""
        return self._heads([window.levels[i] for i in self.size.levels],
                           window.levels[self.size.depth - 1], size, use_points)

    def place(self, h: int, w: int, device: torch.device) -> Place:
        """Return where the tokens of a frame of h x w patches are."""
        positions, dim = grid_positions(h, w, N_SPECIAL, device), self.size.dim
        return Place(rotation(positions, dim // self.size.heads),
                     rotation(positions[N_SPECIAL:], dim))

    def _unit(self, i: int) -> MemoryUnit:
        return self.aggregator.global_blocks[i].ttt

    def _patches(self, window: Window, place: Place) -> Tuple[Tensor, Rotation]:
        """Return the patch tokens of a window, (1, L, C), and their rotations in one wide head."""
        _, n, p, c = window.tokens.shape
        patches = window.tokens[:, :, N_SPECIAL:].reshape(1, n * (p - N_SPECIAL), c)
        return patches, place.wide.repeat(n)
