"""The network pi3 (Wang et al., pi^3: Permutation-Equivariant Visual Geometry Learning, 2025).

DINOv2 encodes each frame; 36 blocks alternate between attention inside frames and across all of
them, with no reference frame; three decoders a frame give points, confidence and pose. Written
from the paper and the names and shapes of the released checkpoint.
"""

from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

import torch
from torch import nn, Tensor

from .blocks import alternate, Block
from .layers import ImageNorm
from .pi3_heads import FrameDecoder, PixelHead, PoseHead
from .rope import grid_positions, Rotation, rotation
from .vit import EPS, PATCH, VisionTransformer

N_SPECIAL = 5


@dataclass(frozen=True)
class Pi3Size:
    """Widths and depths; the defaults are those of the released net."""

    dim: int = 1024
    heads: int = 16
    encoder_depth: int = 24
    decoder_depth: int = 36                 # frame and global blocks in turn
    head_depth: int = 5
    camera_dim: int = 512
    conv_channels: Tuple[int, int, int] = (256, 128, 64)        # pi3x only, as what follows
    metric_dim: int = 512
    metric_heads: int = 8


LARGE = Pi3Size()
TINY = Pi3Size(dim=64, heads=2, encoder_depth=1, decoder_depth=4, head_depth=1, camera_dim=32,
               conv_channels=(32, 32, 32), metric_dim=64, metric_heads=2)
"""For trying the machinery; there are no weights of this size."""


class Pi3Output(NamedTuple):
    """What the net says of B sequences; one unknown similarity a sequence is free."""

    local_points: Tensor                    # (B, N, H, W, 3) f32, camera frame, z > 0
    confidence: Tensor                      # (B, N, H, W, 1) f32, logits
    T_world_camera: Tensor                  # (B, N, 4, 4) f32
    metric: Optional[Tensor] = None         # (B,) f32, m a unit; pi3x, already applied


class Pi3Trunk(nn.Module):
    """What pi3 and its descendants share: encoder, alternating blocks, decoders, pose head."""

    full_precision: Tuple[str, ...] = ('point_head', 'conf_head', 'camera_head')
    """Parts that the authors run in float32."""
    n_special = N_SPECIAL
    """Tokens of a frame that come before those of its patches."""
    angle_type = torch.float32
    """See `rope.rotation`; set on an object."""

    def __init__(self, size: Pi3Size = LARGE):
        super().__init__()
        self.size = size
        d = size.dim
        self.encoder = VisionTransformer(d, size.encoder_depth, size.heads)
        self.register_token = nn.Parameter(torch.zeros(1, 1, N_SPECIAL, d))
        self.decoder = nn.ModuleList(Block(d, size.heads, EPS, qk_norm=True)
                                     for _ in range(size.decoder_depth))
        outs = {'point': d, 'conf': d, 'camera': size.camera_dim}
        for name, out in outs.items():
            setattr(self, f'{name}_decoder',
                    FrameDecoder(2 * d, d, out, size.head_depth, size.heads))
        self.camera_head = PoseHead(size.camera_dim)
        mean, std = ImageNorm.constants()
        self.register_buffer('image_mean', mean)
        self.register_buffer('image_std', std)

    def encode(self, images: Tensor) -> Tensor:
        """Return the patch tokens (F, h w, C) of RGB images (F, 3, H, W) in [0, 1]."""
        return self.encoder((images - self.image_mean) / self.image_std)

    def mix(self, patches: Tensor, by: Rotation) -> Tensor:
        """Return tokens (F, 5 + h w, 2 C) that know of all frames, of patches (B, N, h w, C)."""
        b, n = patches.shape[:2]
        tokens = torch.cat([self.register_token.expand(b, n, -1, -1), patches], dim=2)
        last = len(self.decoder) // 2 - 1
        return alternate(self.decoder[0::2], self.decoder[1::2], tokens, by,
                         (last,))[0].flatten(0, 1)

    def rotation(self, h: int, w: int, device: torch.device) -> Rotation:
        """Return the rotation of the tokens of one frame."""
        positions = grid_positions(h, w, self.n_special, device)
        return rotation(positions, self.size.dim // self.size.heads, angle_type=self.angle_type)

    def decode(self, patches: Tensor, size: Tuple[int, int]) -> Pi3Output:
        """Return the result of encoded frames (B, N, h w, C); ``size`` is (H, W) px."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Pi3Output:
        """Return the result of RGB images (B, N, 3, H, W) in [0, 1]; H, W multiples of 14."""
        b, n = images.shape[:2]
        return self.decode(self.encode(images.flatten(0, 1)).unflatten(0, (b, n)),
                           images.shape[-2:])


class Pi3Net(Pi3Trunk):
    """pi3 itself: points and confidence by a linear map a patch."""

    def __init__(self, size: Pi3Size = LARGE):
        super().__init__(size)
        self.point_head, self.conf_head = PixelHead(size.dim, 3), PixelHead(size.dim, 1)

    def decode(self, patches: Tensor, size: Tuple[int, int]) -> Pi3Output:
        """Return the result of encoded frames (B, N, h w, C); ``size`` is (H, W) px."""
        h, w = (side // PATCH for side in size)
        by = self.rotation(h, w, patches.device)
        return self.read(self.mix(patches, by), by, patches.shape[:2], h, w)

    def read(self, tokens: Tensor, by: Rotation, frames: Tuple[int, int], h: int,
             w: int) -> Pi3Output:
        """Return the result of mixed tokens (F, n_special + h w, 2 C); ``frames`` is (B, N)."""
        points, confidence, camera = (
            decoder(tokens, by)[:, self.n_special:]
            for decoder in (self.point_decoder, self.conf_decoder, self.camera_decoder))
        xy, z = self.point_head(points, h, w).split([2, 1], dim=-1)
        depth, confidence = z.exp(), self.conf_head(confidence, h, w)
        poses = self.camera_head(camera)
        return Pi3Output(torch.cat([xy * depth, depth], dim=-1).unflatten(0, frames),
                         confidence.unflatten(0, frames), poses.unflatten(0, frames))
