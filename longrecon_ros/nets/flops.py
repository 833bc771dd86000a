"""How much the networks compute: closed forms of their matrix products and convolutions.

A multiplication with its addition counts as 2 FLOP. Norms, activations, softmax, resampling and
the 4 x 4 algebra of the poses are left out: together they are less than 1 %. Frames are of H x W
px, which are T = (H / 14) (W / 14) patches, and with special tokens L = T + 5 tokens.
"""

from dataclasses import dataclass
from typing import Tuple

from . import camera_head
from .blocks import MLP_RATIO
from .conv_head import BRANCH_CHANNELS
from .dpt import DptSize
from .pi3 import LARGE as PI3_LARGE, N_SPECIAL, Pi3Size
from .vggt import LARGE as VGGT_LARGE, VggtSize
from .vit import PATCH

Shape = Tuple[int, int]
"""(H, W), px."""


@dataclass(frozen=True)
class Cost:
    """FLOP of a window: frames are encoded one by one, and decoded all together."""

    encode_frame: int                       # one frame
    decode: int                             # all frames of the window
    n_frames: int                           # N of the window

    def window(self, n_kept: int = 0) -> int:
        """Return the FLOP of the window when the tokens of ``n_kept`` frames are at hand."""
        return self.encode_frame * (self.n_frames - n_kept) + self.decode

    def frame(self) -> float:
        """Return the FLOP a frame of a window of which nothing is at hand."""
        return self.window() / self.n_frames

    def new_frame(self, n_overlap: int, use_tokens: bool = True) -> float:
        """Return the FLOP a new frame where ``n_overlap`` frames are shared with another window.

        ``use_tokens``: the shared frames are not encoded again.
        """
        return self.window(n_overlap if use_tokens else 0) / (self.n_frames - n_overlap)


def pi3(shape: Shape, n_frames: int, size: Pi3Size = PI3_LARGE) -> Cost:
    """Return the cost of a window of pi3."""
    patches, d = _n_patches(shape), size.dim
    pixels = _linear(patches, d, (3 + 1) * PATCH**2)
    decode = n_frames * (_pi3_frame(shape, n_frames, size) + pixels)
    return Cost(_encoder(shape, d, size.encoder_depth), decode, n_frames)


def pi3x(shape: Shape, n_frames: int, size: Pi3Size = PI3_LARGE) -> Cost:
    """Return the cost of a window of pi3x."""
    pixels = _conv_head(shape, size, (2, 1)) + _conv_head(shape, size, (1,))
    decode = n_frames * (_pi3_frame(shape, n_frames, size) + pixels)
    decode += _metric(n_frames * (_n_patches(shape) + N_SPECIAL), size)
    return Cost(_encoder(shape, size.dim, size.encoder_depth), decode, n_frames)


def vggt(shape: Shape, n_frames: int, size: VggtSize = VGGT_LARGE,
         use_points: bool = False) -> Cost:
    """Return the cost of a window of VGGT; ``use_points``: with the head of world points."""
    tokens, d = _n_patches(shape) + N_SPECIAL, size.dim
    frame = size.depth * (_block(tokens, tokens, d) + _block(tokens, n_frames * tokens, d))
    frame += _dpt(shape, 2 * d, 2, size.dpt)
    if use_points:
        frame += _dpt(shape, 2 * d, 4, size.dpt)
    return Cost(_encoder(shape, d, size.encoder_depth),
                n_frames * frame + _cameras(n_frames, size), n_frames)


def _n_patches(shape: Shape) -> int:
    return (shape[0] // PATCH) * (shape[1] // PATCH)


def _linear(n: int, n_in: int, out: int) -> int:
    return 2 * n * n_in * out


def _attention(n: int, context: int, dim: int) -> int:
    """Return the FLOP of both products, n queries with ``context`` keys, all heads together."""
    return 4 * n * context * dim


def _block(n: int, context: int, dim: int) -> int:
    """Return the FLOP of a transformer block of n tokens that look at ``context`` ones."""
    linear = _linear(n, dim, (3 + 1 + 2 * MLP_RATIO) * dim)
    return linear + _attention(n, context, dim)


def _conv(area: int, n_in: int, out: int, side: int = 3) -> int:
    """Return the FLOP of a convolution at ``area`` places: outputs, or inputs if transposed."""
    return 2 * area * n_in * out * side**2


def _encoder(shape: Shape, dim: int, depth: int) -> int:
    patches = _n_patches(shape)
    tokens = patches + N_SPECIAL            # here a class token and 4 registers
    return _linear(patches, 3 * PATCH**2, dim) + depth * _block(tokens, tokens, dim)


def _pi3_frame(shape: Shape, n_frames: int, size: Pi3Size) -> int:
    """Return what pi3 and pi3x share, a frame: mixing, three decoders, the pose."""
    patches, d, c = _n_patches(shape), size.dim, size.camera_dim
    tokens = patches + N_SPECIAL
    inside, across = _block(tokens, tokens, d), _block(tokens, n_frames * tokens, d)
    total = size.decoder_depth // 2 * (inside + across)
    for out in (d, d, c):
        total += size.head_depth * inside + _linear(tokens, 2 * d, d) + _linear(tokens, d, out)
    return total + 2 * 3 * _linear(patches, c, c) + 2 * _linear(1, c, c) + _linear(1, c, 3 + 9)


def _conv_head(shape: Shape, size: Pi3Size, outs: Tuple[int, ...]) -> int:
    """Return the FLOP of pi3x's `ConvHead`, a frame."""
    n_uv, area, total, n_in = 2, _n_patches(shape), 0, size.dim
    for out in size.conv_channels:
        total += _conv(area, n_in + n_uv, out, 2)
        area, n_in = 4 * area, out
        total += _conv(area, out, out) + 2 * 2 * _conv(area, out, 2 * out)
    pixels, branch = shape[0] * shape[1], BRANCH_CHANNELS
    return total + sum(_conv(pixels, n_in + n_uv, branch) + _conv(pixels, branch, out, 1)
                       for out in outs)


def _metric(tokens: int, size: Pi3Size) -> int:
    """Return the FLOP of pi3x's `MetricDecoder`: one token looks at all of a window."""
    d, m = size.dim, size.metric_dim
    block = _linear(tokens, m, 2 * m) + _attention(1, tokens, m)
    block += _linear(1, m, (2 + 2 * MLP_RATIO) * m)
    return _linear(1 + tokens, 2 * d, m) + size.head_depth * block + _linear(1, m, m + 1)


def _cameras(n_frames: int, size: VggtSize) -> int:
    """Return the FLOP of VGGT's `CameraHead`, all rounds: one token a frame, twice as wide."""
    d, code = 2 * size.dim, camera_head.ENCODING
    one_round = _linear(n_frames, code, d) + _linear(n_frames, d, 3 * d)
    one_round += size.camera_depth * _block(n_frames, n_frames, d)
    one_round += _linear(n_frames, d, d // 2) + _linear(n_frames, d // 2, code)
    return camera_head.N_ITERATIONS * one_round


def _dpt(shape: Shape, dim: int, out: int, size: DptSize) -> int:
    """Return the FLOP of VGGT's `DptHead`, a frame."""
    h, w = (side // PATCH for side in shape)
    c, f, area = size.channels, size.features, h * w
    areas = (16 * area, 4 * area, area, -(-h // 2) * -(-w // 2))    # of the levels, finest first
    total = sum(_linear(area, dim, channels) for channels in c)
    total += _conv(area, c[0], c[0], 4) + _conv(area, c[1], c[1], 2) + _conv(areas[3], c[3], c[3])
    total += sum(_conv(at, channels, f) for at, channels in zip(areas, c))
    n_units = (2, 2, 2, 1)                  # the coarsest level has nothing to be added to
    total += sum(n * 2 * _conv(at, f, f) for n, at in zip(n_units, areas))
    total += sum(_conv(at, f, f, 1) for at in (64 * area, *areas[:3]))  # after each enlargement
    total += _conv(64 * area, f, f // 2)
    pixels = shape[0] * shape[1]
    return total + _conv(pixels, f // 2, size.last_channels) + _conv(pixels, size.last_channels,
                                                                     out, 1)
