"""Keys and values of the frames of a stream: who looks at whom when frames come one by one.

Every attention across frames has a layer of the cache, which it fills itself: `KvCache.mix`. A
layer is a pair of buffers with a place for each frame. A new frame is written into its place, and
its queries look at all places in use, so that nothing is concatenated. Tokens have no code for
time (`rope`): the order of the places means nothing, and a frame leaves when another one takes its
place.
"""

from functools import partial
from typing import Dict, Hashable, List, Optional, Tuple

import torch
from torch import Tensor

from .attention import attend, KeysValues, Mix

_FEWEST = 8
"""Frames for which a cache that grows has room at first."""


class KvCache:
    """What a stream remembers: its first frame, and the last ``n_recent`` ones or all (None).

    A frame goes through the net, where each layer writes it down; `advance` then keeps it. Without
    that the next frame is written over it, as if it had never been. Types and devices are those of
    the keys and values; no gradient flows back through them. With ``n_recent`` all memory is taken
    at the first frame; without it doubles as frames come, up to ``max_frames`` (None: without
    end). Raises ValueError for a frame more than these, and for one of another size.
    """

    def __init__(self, n_recent: Optional[int] = None, max_frames: Optional[int] = None):
        for name, value, least in (('n_recent', n_recent, 0), ('max_frames', max_frames, 1)):
            if value is not None and value < least:
                raise ValueError(f'{name}: expected {least} or more, got {value}')
        self.n_recent, self.max_frames = n_recent, max_frames
        self.n_frames = 0                   # that were kept, since the stream began
        self._layers: Dict[Hashable, KeysValues] = {}   # (B, heads, places, P, D)
        self._next: Optional[Tensor] = None     # (1,) i64 on the device: place of the next frame

    @property
    def frames(self) -> Tuple[int, ...]:
        """Numbers of the frames that the next one will look at, ascending; the first is 0."""
        if not self.n_frames:
            return ()
        recent = self.n_frames if self.n_recent is None else self.n_recent
        return (0, *range(max(1, self.n_frames - recent), self.n_frames))

    @property
    def is_steady(self) -> bool:
        """True once every further frame makes the same calls on the same memory.

        Then no place is empty any more; what changes is on the device, so the calls can be
        recorded (`recording`).
        """
        return self.n_recent is not None and self.n_frames > self.n_recent

    @property
    def n_bytes(self) -> int:
        """Size of all buffers."""
        return sum(buffer.numel() * buffer.element_size()
                   for layer in self._layers.values() for buffer in layer)

    def mix(self, layer: Hashable) -> Mix:
        """Return how the attention called ``layer`` mixes the tokens of the next frame."""
        return partial(self._mix, layer)

    def advance(self) -> None:
        """Keep the frame that went through last."""
        self.n_frames += 1
        if self._next is not None:
            self._next.fill_(self._place(self.n_frames))

    def kept(self, layer: Hashable) -> KeysValues:
        """Return copies of what a layer holds of `frames`, (B, heads, frames P, D) each."""
        places = [self._place(frame) for frame in self.frames]
        return KeysValues(*(buffer[:, :, places].flatten(2, 3)
                            for buffer in self._layers[layer]))

    def _mix(self, layer: Hashable, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write down keys and values of the next frame, and mix it with all in use."""
        buffers = self._room(layer, k, v)
        if self._next is None:
            with torch.inference_mode(False):       # else nobody could write to it outside of that
                self._next = torch.tensor([self._place(self.n_frames)], device=k.device)
        for buffer, new in zip(buffers, (k, v)):
            buffer.index_copy_(2, self._next, new.detach()[:, :, None])
        # places that no frame has had yet come last; to leave them out copies nothing
        return attend(q, *(buffer[:, :, :self.n_frames + 1].flatten(2, 3) for buffer in buffers))

    def _place(self, frame: int) -> int:
        """Return the place of a frame: the first has its own, the others share a ring."""
        if self.n_recent is None or frame == 0:
            return frame
        # the ring has one place more than frames that stay: for the one that goes through
        return 1 + (frame - 1) % (self.n_recent + 1)

    def _room(self, layer: Hashable, k: Tensor, v: Tensor) -> KeysValues:
        """Return the buffers of a layer, with a place for the next frame."""
        old, places = self._layers.get(layer), self._n_places()
        shapes = [(*x.shape[:2], places, *x.shape[2:]) for x in (k, v)]
        if old is not None and [b.shape for b in old] == shapes:
            return old
        new = KeysValues(*(x.new_empty(shape) for x, shape in zip((k, v), shapes)))
        for kept, buffer in zip(old or (), new):
            if kept.shape[:2] + kept.shape[3:] != buffer.shape[:2] + buffer.shape[3:]:
                raise ValueError(f'cache: holds {tuple(kept[:, :, 0].shape)} (B, heads, P, D) a '
                                 f'frame, got {tuple(k.shape)}')
            buffer[:, :, :kept.shape[2]] = kept
        self._layers[layer] = new
        return new

    def _n_places(self) -> int:
        """Return for how many frames buffers have room while the next one goes through."""
        if self.n_recent is not None:
            return self.n_recent + 2
        n, most = self.n_frames + 1, self.max_frames
        if most is not None and n > most:
            raise ValueError(f'cache: full, it has room for {most} frames')
        # twice as many each time, so that a frame is copied about once
        n = max(_FEWEST, 2 ** (n - 1).bit_length())
        return n if most is None else min(n, most)


class Looks:
    """The same for all frames of a sequence at once: no mask, but a call of `attend` a frame.

    Each frame looks at itself, at the first, and at the ``n_recent`` ones before it or at all
    before it (None), as it would with a `KvCache`.
    """

    def __init__(self, n_frames: int, n_recent: Optional[int] = None):
        self._n_frames, self._n_recent = n_frames, n_recent

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Mix the tokens (B, heads, N P, D) of N frames."""
        p = q.shape[2] // self._n_frames
        parts: List[Tensor] = []
        for i in range(self._n_frames):
            parts.append(attend(q[:, :, i * p:(i + 1) * p],
                                *(self._seen(x, i, p) for x in (k, v))))
        return torch.cat(parts, dim=1)

    def _seen(self, x: Tensor, i: int, p: int) -> Tensor:
        """Return the part of keys or values that frame i looks at."""
        start = 0 if self._n_recent is None else max(0, i - self._n_recent)
        if start <= 1:
            return x[:, :, :(i + 1) * p]
        return torch.cat([x[:, :, :p], x[:, :, start * p:(i + 1) * p]], dim=2)
