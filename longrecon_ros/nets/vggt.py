"""The network VGGT (Wang et al., VGGT: Visual Geometry Grounded Transformer, CVPR 2025).

DINOv2 encodes each frame; 24 pairs of blocks alternate between attention inside frames and across
them; a camera head and two dense heads read the result. The first frame is the reference. Written
from the paper and the names and shapes of the released checkpoint, without its point tracker.
"""

from dataclasses import dataclass
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import nn, Tensor

from . import rotation as rotations
from .attention import attend, Mix
from .blocks import alternate, Block
from .camera_head import CameraHead
from .dpt import DptHead, DptSize
from .layers import ImageNorm
from .rope import grid_positions, rotation
from .vit import PATCH, VisionTransformer

N_SPECIAL = 5
_EPS = 1e-5


@dataclass(frozen=True)
class VggtSize:
    """Widths and depths; the defaults are those of the released net."""

    dim: int = 1024
    heads: int = 16
    encoder_depth: int = 24
    encoder_heads: int = 16
    depth: int = 24                         # pairs of a frame and a global block
    levels: Tuple[int, int, int, int] = (4, 11, 17, 23)     # pairs that the dense heads read
    dpt: DptSize = DptSize()
    camera_depth: int = 4
    camera_heads: int = 16


LARGE = VggtSize()
TINY = VggtSize(dim=64, heads=2, encoder_depth=1, encoder_heads=2, depth=2, levels=(0, 0, 1, 1),
                dpt=DptSize(16, (16, 16, 16, 16), 8), camera_depth=1, camera_heads=2)
"""For trying the machinery; there are no weights of this size."""


class VggtOutput(NamedTuple):
    """What the net says of B sequences; the unit of length is its own."""

    encoding: Tensor                        # (B, N, 9) f32, see CameraHead
    depth: Tensor                           # (B, N, H, W, 1) f32, along the optical axis
    depth_confidence: Tensor                # (B, N, H, W) f32, 1 or more
    points: Optional[Tensor] = None         # (B, N, H, W, 3) f32, frame of the first camera
    points_confidence: Optional[Tensor] = None      # (B, N, H, W) f32, 1 or more


class Sight(NamedTuple):
    """Which frames a frame looks at, where VGGT looks at all of the sequence."""

    tokens: Callable[[int], Mix] = lambda _pair: attend
    """How the global block of a pair attends."""
    cameras: Callable[[int, int], Mix] = lambda _round, _block: attend
    """How a block of the camera head attends in one of its rounds."""
    is_start: bool = True                   # the first frame is the first of the sequence


ALL = Sight()


class Aggregator(nn.Module):
    """Frames to tokens that know of all frames."""

    def __init__(self, size: VggtSize):
        super().__init__()
        d, self._size = size.dim, size
        self.patch_embed = VisionTransformer(d, size.encoder_depth, size.encoder_heads,
                                             has_mask_token=True)
        # slot 0 is for the first frame of a sequence, slot 1 for the others
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, d))
        self.register_token = nn.Parameter(torch.zeros(1, 2, N_SPECIAL - 1, d))
        for name in ('frame_blocks', 'global_blocks'):
            setattr(self, name, nn.ModuleList(Block(d, size.heads, _EPS, qk_norm=True)
                                              for _ in range(size.depth)))
        mean, std = ImageNorm.constants()
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('std', std, persistent=False)

    def encode(self, images: Tensor) -> Tensor:
        """Return the patch tokens (F, h w, C) of RGB images (F, 3, H, W) in [0, 1]."""
        return self.patch_embed((images - self.mean) / self.std)

    def special_tokens(self, b: int, n: int, is_start: bool = True) -> Tensor:
        """Return camera and register tokens (B, N, 5, C)."""
        slots = torch.cat([self.camera_token, self.register_token], dim=2)
        first, others = slots[:, :1], slots[:, 1:]
        if not is_start:
            return others.expand(b, n, -1, -1)
        return torch.cat([first, others.expand(-1, n - 1, -1, -1)], dim=1).expand(b, -1, -1, -1)

    def forward(self, patches: Tensor, h: int, w: int, sight: Sight = ALL) -> List[Tensor]:
        """Return the levels, (B, N, 5 + h w, 2 C) each, of patch tokens (B, N, h w, C).

        Those that the dense heads read, in their order, and last the one of the camera head.
        """
        special = self.special_tokens(*patches.shape[:2], sight.is_start)
        tokens = torch.cat([special, patches], dim=2)
        by = rotation(grid_positions(h, w, N_SPECIAL, patches.device),
                      self._size.dim // self._size.heads)
        wanted = sorted({*self._size.levels, self._size.depth - 1})
        kept = dict(zip(wanted, alternate(self.frame_blocks, self.global_blocks, tokens, by,
                                          wanted, mix_of=sight.tokens)))
        return [kept[level] for level in (*self._size.levels, self._size.depth - 1)]


class VggtNet(nn.Module):
    """VGGT without its point tracker."""

    full_precision = ('camera_head', 'point_head', 'depth_head')
    """Parts that the authors run in float32."""

    def __init__(self, size: VggtSize = LARGE):
        super().__init__()
        self.size = size
        self.aggregator = Aggregator(size)
        self.camera_head = CameraHead(2 * size.dim, size.camera_heads, size.camera_depth)
        self.point_head = DptHead(2 * size.dim, 4, size.dpt)
        self.depth_head = DptHead(2 * size.dim, 2, size.dpt)

    def encode(self, images: Tensor) -> Tensor:
        """Return the patch tokens (F, h w, C) of RGB images (F, 3, H, W) in [0, 1]."""
        return self.aggregator.encode(images)

    def decode(self, patches: Tensor, size: Tuple[int, int],
               use_points: bool = False) -> VggtOutput:
        """Return the result of encoded frames (B, N, h w, C); ``size`` is (H, W) px."""
        return self._decode(patches, size, use_points, ALL)

    def _decode(self, patches: Tensor, size: Tuple[int, int], use_points: bool,
                sight: Sight) -> VggtOutput:
        *levels, last = self.aggregator(patches, *(side // PATCH for side in size), sight)
        return self._heads(levels, last, size, use_points, sight)

    def _heads(self, levels: Sequence[Tensor], last: Tensor, size: Tuple[int, int],
               use_points: bool, sight: Sight = ALL) -> VggtOutput:
        """Return what the heads say of the levels for the dense ones and of the last one."""
        h, w = (side // PATCH for side in size)
        encoding = self.camera_head(last[:, :, 0], sight.cameras)[-1]
        dense = [level[:, :, N_SPECIAL:].flatten(0, 1) for level in levels]
        frames = last.shape[:2]
        depth, depth_confidence = (part.unflatten(0, frames) for part in depth_and_confidence(
            self.depth_head(dense, h, w)))
        if not use_points:
            return VggtOutput(encoding, depth, depth_confidence)
        points, points_confidence = (part.unflatten(0, frames) for part in points_and_confidence(
            self.point_head(dense, h, w)))
        return VggtOutput(encoding, depth, depth_confidence, points, points_confidence)

    def forward(self, images: Tensor, use_points: bool = False) -> VggtOutput:
        """Return the result of RGB images (B, N, 3, H, W) in [0, 1]; H, W multiples of 14."""
        b, n = images.shape[:2]
        return self.decode(self.encode(images.flatten(0, 1)).unflatten(0, (b, n)),
                           images.shape[-2:], use_points)


def depth_and_confidence(maps: Tensor) -> Tuple[Tensor, Tensor]:
    """Return depth (F, H, W, 1) and confidence (F, H, W) of raw maps (F, 2, H, W)."""
    return maps[:, 0, ..., None].exp(), 1 + maps[:, 1].exp()


def points_and_confidence(maps: Tensor) -> Tuple[Tensor, Tensor]:
    """Return points (F, H, W, 3) and confidence (F, H, W) of raw maps (F, 4, H, W)."""
    xyz = maps[:, :3].permute(0, 2, 3, 1)
    return xyz.sign() * xyz.abs().expm1(), 1 + maps[:, 3].exp()


def cameras(encodings: Tensor, size: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
    """Return T_camera_world (..., 3, 4) and K (..., 3, 3), px, of encodings (..., 9).

    ``size`` is (H, W) px; the principal point is (W / 2, H / 2), as in the original.
    """
    T = torch.cat([rotations.from_quaternion(encodings[..., 3:7]), encodings[..., :3, None]], -1)
    h, w = size
    zero, one = torch.zeros_like(encodings[..., 0]), torch.ones_like(encodings[..., 0])
    fy, fx = (side / 2 / (fov / 2).tan() for side, fov in zip(size, encodings[..., 7:].unbind(-1)))
    K = torch.stack([fx, zero, one * (w / 2), zero, fy, one * (h / 2), zero, zero, one], dim=-1)
    return T, K.unflatten(-1, (3, 3))
