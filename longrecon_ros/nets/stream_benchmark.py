"""Measures STream3R frame by frame, with random weights: does time or memory grow with a stream?

Each frame goes through as in the backbone: encoded, decoded, and its camera brought to the host,
which waits for the device; that is what is timed. Images are noise and lie on the device. Encoding
is the same work for every frame: decoding is compared with it, which holds on a busy machine, too.
"""

from dataclasses import dataclass
import statistics
import time
from typing import Iterator, Optional, Tuple

import torch
from torch import Tensor

from .benchmark import forget_peaks, peak_bytes
from .kv_cache import KvCache
from .policy import fill_randomly, n_bytes, Policy
from .recording import RecordedRuntime
from .runtime import Runtime, TorchRuntime
from .stream3r import Stream3rNet
from .vggt import LARGE, TINY

_N_WARM_UP, _N_IMAGES = 2, 8


@dataclass(frozen=True)
class Block:
    """What some frames in a row took."""

    n_frames: int                           # of the stream, at the end of the block
    ms_frame: float                         # median
    decode_to_encode: Optional[float]       # ratio of times, median; None where they overlap
    n_cached: int                           # frames that the next one will look at
    cache_bytes: int
    peak_bytes: Optional[int]               # of the block, see `benchmark.MEMORY`


class Stream:
    """A net with a stream of its own. ``n_recent`` None is mode ``causal``, else ``window``.

    ``use_graph`` replays recorded CUDA graphs where the stream allows it (`recording`).
    """

    def __init__(self, shape: Tuple[int, int], n_recent: Optional[int], policy: Policy,
                 use_tiny: bool, use_graph: bool):
        with torch.device('meta'):
            net = Stream3rNet(TINY if use_tiny else LARGE)
            del net.point_head              # as in the backbone: nothing uses it
        self.weight_bytes = n_bytes(fill_randomly(net, policy))
        self._policy, self._shape, self._n_recent = policy, shape, n_recent
        runtime = TorchRuntime(net, policy)
        self._runtime = RecordedRuntime(runtime) if use_graph else runtime

    def run(self, n_frames: int, n_block: int) -> Iterator[Block]:
        """Yield the blocks of a stream of so many frames, after one of a few to warm up."""
        device = self._policy.device
        for _ in self._spent_ms(KvCache(self._n_recent), _N_WARM_UP):
            pass
        cache, block = KvCache(self._n_recent), []
        forget_peaks(device)
        for i, spent_ms in enumerate(self._spent_ms(cache, n_frames)):
            block.append(spent_ms)
            if len(block) == n_block or i == n_frames - 1:
                ratio = statistics.median(decode / encode for encode, decode in block)
                yield Block(i + 1, statistics.median(map(sum, block)),
                            ratio if device.type == 'cpu' else None, len(cache.frames),
                            cache.n_bytes, peak_bytes(device)[0])
                block = []
                forget_peaks(device)

    def _spent_ms(self, cache: KvCache, n_frames: int) -> Iterator[Tuple[float, float]]:
        """Yield what encoding and decoding of each frame of a stream take."""
        device = self._policy.device
        images = torch.randint(0, 256, (_N_IMAGES, *self._shape, 3), dtype=torch.uint8,
                               generator=torch.Generator().manual_seed(0)).to(device)
        for i in range(n_frames):
            yield _step(self._runtime, images[i % _N_IMAGES], cache)


def _step(runtime: Runtime, image: Tensor, cache: KvCache) -> Tuple[float, float]:
    """Take one frame; return the times, ms. On CUDA their sum alone means something."""
    start_s = time.perf_counter()
    tokens = runtime.encode(image[None])
    middle_s = time.perf_counter()
    result = runtime.decode(tokens, tuple(image.shape[:2]), cache)
    if bool(result.encoding.isfinite().all()):
        cache.advance()
    return 1e3 * (middle_s - start_s), 1e3 * (time.perf_counter() - middle_s)
