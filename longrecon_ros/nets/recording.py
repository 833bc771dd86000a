"""CUDA graphs: calls that are recorded once and replayed, which spares the host's time.

A net makes some thousand small calls a frame; with one frame at a time the host is slower than
the GPU. A graph replays them at once, on the same memory: what goes in is copied to where it was
when it was recorded, and what comes out lies where it lay then.
"""

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .kv_cache import KvCache
from .runtime import TorchRuntime


def record(call: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """Record a call as a CUDA graph; the result replays it and returns the same tensors again."""
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        # libraries choose and allocate in the first calls, which a recording does not allow
        for _ in range(2):
            call()
    torch.cuda.current_stream(device).wait_stream(side)
    torch.cuda.empty_cache()                # a graph has a pool of its own
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()

    def replay():
        graph.replay()
        return output
    return replay


class _Recorded:
    """A call on one tensor, as it was recorded for the shape of that tensor."""

    def __init__(self, call: Callable[[Tensor], Any], example: Tensor, device: torch.device,
                 recorder: Callable[[Callable[[], Any], torch.device], Callable[[], Any]]):
        self._given = example.to(device, copy=True)
        self._replay = recorder(lambda: call(self._given), device)

    def __call__(self, given: Tensor) -> Any:
        self._given.copy_(given, non_blocking=True)
        return self._replay()


class RecordedRuntime:
    """A `TorchRuntime` of a net that takes frames one by one, on CUDA.

    The encoder is recorded for each number of frames, the decoder for the stream that is going
    on, once its cache is steady (`KvCache.is_steady`); before that, and without a cache that gets
    there, torch runs them as ever. **What is returned is written over by the next call**: use it
    before, or copy it.
    """

    _MOST_ENCODERS = 4                      # of other numbers of frames; each takes memory

    def __init__(self, runtime: TorchRuntime, recorder: Callable = record):
        self._runtime, self._recorder = runtime, recorder
        self._encoders: Dict[torch.Size, _Recorded] = {}
        self._decoder: Optional[_Recorded] = None
        self._decoded: Tuple[Any, ...] = ()     # shapes that it was recorded for
        self._cache: Optional[KvCache] = None   # of the stream that is going on

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Return the patch tokens (F, h w, C) of RGB images (F, H, W, 3) uint8."""
        known = self._encoders.get(images.shape)
        if known is None:
            if len(self._encoders) == self._MOST_ENCODERS:
                return self._runtime.encode(images)
            known = _Recorded(self._runtime.encode, images, self._runtime.device, self._recorder)
            self._encoders[images.shape] = known
        return known(images)

    @torch.inference_mode()
    def decode(self, tokens: Tensor, size: Tuple[int, int],
               cache: Optional[KvCache] = None) -> NamedTuple:
        """Return the net's result for the tokens (1, h w, C) of the next frame of a stream."""
        if cache is not self._cache:
            # another stream: the memory of the one before goes first
            self._cache, self._decoder = cache, None
        if cache is None or not cache.is_steady:
            return self._runtime.decode(tokens, size, *([] if cache is None else [cache]))
        if self._decoder is None or self._decoded != (tokens.shape, size):
            self._decoder, self._decoded = None, (tokens.shape, size)
            self._decoder = _Recorded(
                lambda given: self._runtime.decode(given, size, cache), tokens,
                self._runtime.device, self._recorder)
        return self._decoder(tokens)
