"""Dense maps from tokens of four levels (DPT, Ranftl et al., ICCV 2021), as VGGT uses it."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import torch
from torch import nn, Tensor
from torch.nn import functional

from .layers import LayerNorm
from .uv import uv_waves
from .vit import PATCH

_EPS = 1e-5
_UV_WEIGHT = 0.1


@dataclass(frozen=True)
class DptSize:
    """Channels; the defaults are those of the released VGGT."""

    features: int = 256
    channels: Tuple[int, int, int, int] = (256, 512, 1024, 1024)
    last_channels: int = 32


class ResidualUnit(nn.Module):
    """Two convolutions beside the rectified input: the skip carries relu(x), not x."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(features, features, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map (F, C, h, w) to the same shape."""
        x = functional.relu(x)
        return self.conv2(functional.relu(self.conv1(x))) + x


class Fusion(nn.Module):
    """Adds a finer level to the coarser ones and enlarges the sum."""

    def __init__(self, features: int, is_coarsest: bool = False):
        super().__init__()
        if not is_coarsest:
            self.resConfUnit1 = ResidualUnit(features)
        self.resConfUnit2 = ResidualUnit(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, x: Tensor, finer: Optional[Tensor], size: Sequence[int]) -> Tensor:
        """Return (F, C, *size) of x (F, C, h, w) and a level of the same shape."""
        if finer is not None:
            x = x + self.resConfUnit1(finer)
        return self.out_conv(_enlarge(self.resConfUnit2(x), size))


class Scratch(nn.Module):
    """All that comes after the levels have their sizes; named as in the checkpoint."""

    def __init__(self, size: DptSize, out: int):
        super().__init__()
        f = size.features
        for i, channels in enumerate(size.channels, 1):
            setattr(self, f'layer{i}_rn', nn.Conv2d(channels, f, 3, padding=1, bias=False))
            setattr(self, f'refinenet{i}', Fusion(f, is_coarsest=i == 4))
        self.output_conv1 = nn.Conv2d(f, f // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(f // 2, size.last_channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(size.last_channels, out, 1))

    def forward(self, levels: List[Tensor]) -> Tensor:
        """Return (F, features / 2, 8 h, 8 w) of four levels, finest first."""
        fine = [getattr(self, f'layer{i}_rn')(level) for i, level in enumerate(levels, 1)]
        x = self.refinenet4(fine[3], None, fine[2].shape[-2:])
        x = self.refinenet3(x, fine[2], fine[1].shape[-2:])
        x = self.refinenet2(x, fine[1], fine[0].shape[-2:])
        x = self.refinenet1(x, fine[0], [2 * side for side in fine[0].shape[-2:]])
        return self.output_conv1(x)


class DptHead(nn.Module):
    """Maps of ``out`` channels at image size from the tokens of four levels; in float32."""

    def __init__(self, dim: int, out: int, size: DptSize = DptSize()):
        super().__init__()
        c = size.channels
        self.norm = LayerNorm(dim, eps=_EPS)
        self.projects = nn.ModuleList(nn.Conv2d(dim, channels, 1) for channels in c)
        self.resize_layers = nn.ModuleList([
            nn.ConvTranspose2d(c[0], c[0], 4, 4), nn.ConvTranspose2d(c[1], c[1], 2, 2),
            nn.Identity(), nn.Conv2d(c[3], c[3], 3, 2, 1)])
        self.scratch = Scratch(size, out)

    def forward(self, levels: Sequence[Tensor], h: int, w: int, n_at_once: int = 8) -> Tensor:
        """Return maps (F, out, H, W) of patch tokens (F, h w, dim) of four levels.

        ``n_at_once`` frames are worked on together: memory, not the result, depends on it.
        """
        n = len(levels[0])
        return torch.cat([self._maps([level[i:i + n_at_once] for level in levels], h, w)
                          for i in range(0, n, n_at_once)])

    def _maps(self, levels: Sequence[Tensor], h: int, w: int) -> Tensor:
        sized = []
        for tokens, project, resize in zip(levels, self.projects, self.resize_layers):
            x = self.norm(tokens).transpose(1, 2).unflatten(2, (h, w))
            sized.append(resize(_with_uv(project(x), w / h)))
        size = (PATCH * h, PATCH * w)
        x = _enlarge(self.scratch(sized), size)
        return self.scratch.output_conv2(_with_uv(x, w / h))


def _with_uv(x: Tensor, aspect: float) -> Tensor:
    return x + _UV_WEIGHT * uv_waves(*x.shape[-2:], aspect, x)


def _enlarge(x: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(x, size=tuple(size), mode='bilinear', align_corners=True)
