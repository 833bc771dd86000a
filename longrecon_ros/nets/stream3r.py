"""The network STream3R (Lan et al., arXiv 2508.10893, 2025): VGGT that sees its frames in order.

The tensors are those of VGGT; only who looks at whom differs. Blocks across frames and the camera
head let a frame look at itself and at frames before: at all (``causal``, the way it was trained),
or at the first and the last few (``window``); with ``full`` it is VGGT. Frame by frame, what
earlier frames have left is in a `KvCache`. Written from the paper and the names and shapes of the
released checkpoint.

Of the original's two forms of ``window`` we follow the one frame by frame: a frame sees the first,
the ``n_recent`` ones before it, and itself. The original's batch form sees one frame less; it is
had with ``n_recent`` 4.
"""

from typing import Literal, Optional, Tuple

from torch import Tensor

from .kv_cache import KvCache, Looks
from .vggt import ALL, Sight, VggtNet, VggtOutput

N_RECENT = 5

Mode = Literal['causal', 'window', 'full']


class Stream3rNet(VggtNet):
    """VGGT whose frames look back only."""

    def decode(self, patches: Tensor, size: Tuple[int, int], cache: Optional[KvCache] = None,
               use_points: bool = False) -> VggtOutput:
        """Return the result of the next encoded frame of B streams, (B, 1, h w, C).

        ``size`` is (H, W) px. The cache takes the frame in; `KvCache.advance` keeps it. Without a
        cache all frames (B, N, h w, C) look at each other (mode ``full``).
        """
        if cache is None:
            return self._decode(patches, size, use_points, ALL)
        if patches.shape[1] != 1:
            raise ValueError(f'patches: one frame at a time, got {patches.shape[1]}')
        sight = Sight(lambda pair: cache.mix(tokens_layer(pair)),
                      lambda number, block: cache.mix(camera_layer(number, block)),
                      is_start=not cache.n_frames)
        return self._decode(patches, size, use_points, sight)

    def decode_all(self, patches: Tensor, size: Tuple[int, int], mode: Mode = 'causal',
                   n_recent: int = N_RECENT, use_points: bool = False) -> VggtOutput:
        """Return the results of whole sequences of encoded frames (B, N, h w, C) at once.

        They are those of frame by frame. Memory grows with N, not with its square.
        """
        if mode not in ('causal', 'window', 'full'):
            raise ValueError(f'mode: expected causal, window or full, got {mode!r}')
        if mode == 'full':
            return self._decode(patches, size, use_points, ALL)
        looks = Looks(patches.shape[1], n_recent if mode == 'window' else None)
        sight = Sight(lambda _pair: looks, lambda _round, _block: looks)
        return self._decode(patches, size, use_points, sight)

    def forward(self, images: Tensor, use_points: bool = False, mode: Mode = 'causal',
                n_recent: int = N_RECENT) -> VggtOutput:
        """Return the results of RGB images (B, N, 3, H, W) in [0, 1]; H, W multiples of 14."""
        b, n = images.shape[:2]
        patches = self.encode(images.flatten(0, 1)).unflatten(0, (b, n))
        return self.decode_all(patches, images.shape[-2:], mode, n_recent, use_points)


def tokens_layer(pair: int) -> Tuple:
    """Return what the cache calls the global block of a pair."""
    return 'tokens', pair


def camera_layer(number: int, block: int) -> Tuple:
    """Return what the cache calls a block of the camera head in one of its rounds."""
    return 'camera', number, block
