"""Which images the worker gets: whole windows, as many as it can keep up with.

Images are left out between windows, or evenly from a whole window (a longer stride), never from
one that has begun; what two windows share is never touched. Everything the worker has not answered
yet, and what the next window shares with it, stays in the ring: a worker that was started anew is
fed from there.
"""

from collections import deque
from dataclasses import dataclass, replace
import math
import threading
from typing import Any, Deque, Dict, List, Literal, Optional, Tuple

import numpy as np

from .ring import Ring

_MAX_EVERY = 30             # images for one that is taken, at most
_MOST_AHEAD = 4             # whole windows that wait for the backbone, at most
_MARGIN = 1.1               # the worker should have a little time left
_SMOOTH = 0.3               # weight of the newest measurement


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How images are cut into windows, and how late an answer may come."""

    size: int                               # frames a window
    overlap: int                            # of them shared with the one before
    policy: Literal['latest', 'keep_all'] = 'latest'
    budget_s: float = 1.0                   # from the last image of a window to its answer

    @property
    def stride(self) -> int:
        """New frames of a window but the first."""
        return self.size - self.overlap

    @property
    def n_slots(self) -> int:
        """Images that the ring has to hold."""
        return self.size + (_MOST_AHEAD + 2) * self.stride + self.overlap


@dataclass
class StreamCounts:
    """What became of the images that were offered."""

    taken: int = 0                          # handed to the worker
    skipped: int = 0                        # left out evenly: the stride is longer than one image
    dropped: int = 0                        # left out between windows


@dataclass(frozen=True, slots=True)
class _Held:
    """An image in the ring."""

    index: int
    stamp_ns: int
    slot: int
    shape: Tuple[int, ...]
    name: str

    def message(self) -> Dict[str, Any]:
        """Return what tells the worker of it."""
        return {'kind': 'frame', 'index': self.index, 'stamp_ns': self.stamp_ns,
                'slot': self.slot, 'shape': list(self.shape), 'name': self.name}


class Stream:
    """The images of one segment on their way to the worker; its methods are for any thread.

    `offer` puts an image into the ring and returns the message that tells the worker of it, or
    None. `answered` is told which frames have a pose now. With policy ``keep_all`` nothing is left
    out as long as images are offered only while it `has_room`.
    """

    def __init__(self, config: StreamConfig, ring: Ring):
        self._config, self._ring = config, ring
        self._lock = threading.Lock()
        self.counts = StreamCounts()
        self._window_s: Optional[float] = None      # the worker's time for a window
        self._period_s: Optional[float] = None      # of the camera
        self._restart()

    def _restart(self) -> None:
        self._held: Deque[_Held] = deque()
        self._free = list(range(self._ring.n_slots))
        self._index, self._answered = 0, -1
        self._ends: List[int] = []          # last frames of the windows without an answer
        self._n_in_window = 0               # frames of the window that is being filled
        self._is_first = True
        self.every, self._since = 1, 0
        self._last_ns: Optional[int] = None

    @property
    def n_waiting(self) -> int:
        """Images that the worker was told of and has not answered."""
        with self._lock:
            return self._index - 1 - self._answered

    @property
    def window_s(self) -> float:
        """What the worker takes for a window, s; 0 as long as it is not known."""
        return self._window_s or 0.0

    def reset(self) -> None:
        """Forget all images: a new segment begins."""
        with self._lock:
            self._restart()

    @property
    def has_room(self) -> bool:
        """Whether the next image would be taken if it is wanted."""
        with self._lock:
            return self._has_room()

    def offer(self, stamp_ns: int, image: np.ndarray, name: str) -> Optional[Dict[str, Any]]:
        """Take or leave an (H, W, 3) uint8 image; see the class.

        Raises ValueError for an image that is larger than a slot of the ring.
        """
        with self._lock:
            self._see(stamp_ns)
            if not self._is_wanted():
                return None
            held = _Held(self._index, stamp_ns, self._free[-1], image.shape, name)
            self._ring.write(held.slot, image)
            self._free.pop()
            self._held.append(held)
            self._index += 1
            self.counts.taken += 1
            self._n_in_window += 1
            if self._n_in_window == self._n_wanted():
                self._end_window()
            return held.message()

    def flushed(self) -> None:
        """Take note that the worker ends the window that is being filled."""
        with self._lock:
            if self._n_in_window:
                self._end_window()

    def answered(self, last_index: int, window_s: float) -> None:
        """Take note that all frames up to ``last_index`` have poses; make room in the ring."""
        with self._lock:
            before = self._window_s
            self._window_s = window_s if before is None else (
                before + _SMOOTH * (window_s - before))
            self._answered = max(self._answered, last_index)
            self._ends = [end for end in self._ends if end > self._answered]
            keep = self._answered - max(1, self._config.overlap)
            while self._held and self._held[0].index <= keep:
                self._free.append(self._held.popleft().slot)

    def again(self, size: int, overlap: int, n_seen: int) -> List[Dict[str, Any]]:
        """Return the messages that feed a new worker, which knows ``n_seen`` answered frames.

        These are the newest answered ones; windows are ``size`` long from now on and share
        ``overlap``. Neither may be above what the ring was made for.
        """
        with self._lock:
            self._config = replace(self._config, size=size, overlap=overlap)
            self._window_s = None
            first = self._answered - n_seen
            while self._held and self._held[0].index <= first:
                self._free.append(self._held.popleft().slot)
            self._ends, self._n_in_window, self._is_first = [], 0, n_seen == 0
            for held in self._held:
                if held.index > self._answered:
                    self._n_in_window += 1
                    if self._n_in_window == self._n_wanted():
                        self._end_window(held.index)
            return [held.message() for held in self._held]

    def _n_wanted(self) -> int:
        return self._config.size if self._is_first else self._config.stride

    def _end_window(self, last_index: Optional[int] = None) -> None:
        self._ends.append(self._index - 1 if last_index is None else last_index)
        self._n_in_window, self._is_first = 0, False

    def _see(self, stamp_ns: int) -> None:
        """Learn the period of the camera; a gap is none."""
        last, self._last_ns = self._last_ns, stamp_ns
        if last is None or stamp_ns <= last:
            return
        period_s, before = (stamp_ns - last) * 1e-9, self._period_s
        if before is None:
            self._period_s = period_s
        elif period_s < 10 * before:
            self._period_s = before + 0.1 * (period_s - before)

    def _is_wanted(self) -> bool:
        """Say whether the next image goes to the worker, and count it if not."""
        if self._n_in_window == 0:
            if not self._has_room():
                self.counts.dropped += 1
                return False
            self.every, self._since = self._stride_in_images(), 0
            return True
        self._since += 1
        if self._since < self.every:
            self.counts.skipped += 1
            return False
        self._since = 0
        return True

    def _has_room(self) -> bool:
        """Say whether a window may begin, or go on."""
        if self._n_in_window:
            return True
        if len(self._free) < self._n_wanted():
            return False
        return self._config.policy == 'keep_all' or len(self._ends) <= 1 + self._n_ahead()

    def _n_ahead(self) -> int:
        """Return how many windows may wait for the one that the worker is at."""
        if not self._window_s:
            return 1
        return min(_MOST_AHEAD, max(0, int(self._config.budget_s / self._window_s) - 1))

    def _stride_in_images(self) -> int:
        """Return of how many images one is taken, so that the worker keeps up."""
        if self._config.policy == 'keep_all' or not self._window_s or not self._period_s:
            return 1
        wanted = _MARGIN * self._window_s / (self._config.stride * self._period_s)
        return min(_MAX_EVERY, max(1, math.ceil(wanted)))
