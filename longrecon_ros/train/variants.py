"""Sizes of the nets that are trained, how long, and the four memories that are compared."""

from dataclasses import dataclass, replace
import math
from types import MappingProxyType
from typing import Optional, Tuple

import torch
from torch import nn, Tensor

from ..nets import ttt
from ..nets.loger import LogerSize
from .stream import StreamNet

VARIANTS = MappingProxyType({
    'none': 'neither', 'past': 'SWA alone', 'fast': 'TTT alone', 'both': 'TTT and SWA'})
"""Names of the memories and what they are: fast weights (TTT), a look back at the window before
(SWA)."""


@dataclass(frozen=True)
class Setting:
    """Everything a training depends on, apart from the variant and the seed."""

    size: LogerSize
    image: Tuple[int, int]                  # width, height, px
    window: int                             # frames
    overlap: int                            # frames shared with the window before
    n_windows: int                          # through which gradients pass
    n_before: int                           # most windows driven before these, without gradients
    steps: Tuple[int, int]                  # places between frames: least, most
    dark: Optional[Tuple[int, int]]         # frames of a blackout: least, most
    n_rooms: int
    batch: int                              # sequences
    n_pretrain: int                         # steps without memory, which all variants begin with
    pretrain_rate: float
    n_steps: int                            # steps of each variant
    rate: float
    n_warm_up: int = 50
    weight_decay: float = 0.01
    max_gradient: float = 1.0               # norm, above which gradients are shortened

    @property
    def longest(self) -> int:
        """Return the windows of the longest training sequence."""
        return self.n_before + self.n_windows

    def frames_of(self, n_windows: int) -> int:
        """Return the frames of a sequence of so many windows."""
        return self.window + (n_windows - 1) * (self.window - self.overlap)


TINY = Setting(
    LogerSize(dim=64, heads=4, encoder_depth=1, decoder_depth=4, head_depth=1, camera_dim=64,
              fast_after=(0, 2), look_back_after=(2,), fast_head_dim=32, fast_ratio=2),
    image=(56, 28), window=4, overlap=1, n_windows=4, n_before=4, steps=(4, 14), dark=(3, 9),
    n_rooms=72, batch=8, n_pretrain=860, pretrain_rate=2e-3, n_steps=220, rate=2e-3)
"""For one core of a CPU."""
SMALL = Setting(
    LogerSize(dim=128, heads=4, encoder_depth=2, decoder_depth=8, head_depth=1, camera_dim=128,
              fast_after=(0, 2, 4, 6), look_back_after=(2, 6), fast_head_dim=64, fast_ratio=2),
    image=(56, 42), window=6, overlap=1, n_windows=4, n_before=12, steps=(4, 14), dark=(3, 9),
    n_rooms=128, batch=32, n_pretrain=3000, pretrain_rate=1e-3, n_steps=3000, rate=5e-4)
"""For a GPU."""


def size_of(size: LogerSize, variant: str) -> LogerSize:
    """Return a size without the layers of the memories that a variant lacks."""
    if variant not in VARIANTS:
        raise ValueError(f'variant: expected one of {", ".join(VARIANTS)}, got {variant!r}')
    return replace(size, fast_after=size.fast_after if variant in ('fast', 'both') else (),
                   look_back_after=size.look_back_after if variant in ('past', 'both') else ())


def pretraining(setting: Setting) -> Setting:
    """Return the setting of the first stage, in which there are no memory and no blackouts."""
    return replace(setting, n_before=0, dark=None, n_steps=setting.n_pretrain,
                   rate=setting.pretrain_rate)


def new_net(setting: Setting, variant: str, seed: int) -> StreamNet:
    """Return a net to be trained, on the CPU, with random weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = StreamNet(size_of(setting.size, variant))
        with torch.no_grad():
            _begin(net)
    # bfloat16 would round the gradients of the fast weights, too
    net.numerics = ttt.Numerics(orthogonal=torch.float32)
    return net


def _begin(net: StreamNet) -> None:
    """Set what torch leaves at zero, and heads that begin at plausible depths and rotations."""
    for token in (net.register_token, net.encoder.cls_token, net.encoder.register_tokens,
                  net.pe_token_0, net.pe_token_1, net.pe_token_2):
        nn.init.normal_(token, std=0.5)
    net.encoder.pos_embed.copy_(_smooth_positions(net.encoder.pos_embed))
    for layer in net.ttt_layers:
        for w in (layer.w0, layer.w1, layer.w2):
            nn.init.normal_(w, std=math.sqrt(2 / w.shape[1]))
    for gate in (*net.ttt_gate_projs, *net.swa_gate_projs):
        # half open: nothing is learnt behind a gate that is shut
        nn.init.zeros_(gate.weight)
        nn.init.constant_(gate.bias, 0.5)
    n = net.point_head.proj.out_features // 3
    net.point_head.proj.weight.mul_(0.1)
    net.point_head.proj.bias[2 * n:] = math.log(3.0)
    net.camera_head.fc_rot.weight.mul_(0.1)
    net.camera_head.fc_rot.bias.copy_(torch.eye(3).flatten())


def _smooth_positions(table: Tensor) -> Tensor:
    """Return waves over the grid: noise would vanish when the table is reduced to few patches."""
    side = math.isqrt(table.shape[1] - 1)
    at = (torch.arange(side) + 0.5) / side
    places = torch.stack(torch.meshgrid(at, at, indexing='ij'), -1).reshape(-1, 2)
    waves = torch.sin(places @ torch.randn(2, table.shape[2]) * 4
                      + 2 * math.pi * torch.rand(table.shape[2]))
    return torch.cat([torch.zeros_like(table[:, :1]), 0.5 * waves[None]], 1)
