"""Frames -> overlapping windows."""

from typing import Collection, List, Literal, Optional

from .types import Frame, Window


class Windower:
    """Collects frames and emits a window whenever one is full.

    The first window holds ``size`` new frames, every later one ``size - overlap``. With feed
    ``all`` a window begins with the last ``overlap`` frames of the one before; with ``new`` it
    holds the new frames only. Every frame is new in exactly one window, once `flush` was called.

    A stream that goes on after ``n_windows`` gives again the frames ``seen_ids``, the last ones
    of those: they are the shared ones of its first window, with feed ``new``, too.
    """

    def __init__(self, size: int, overlap: int, feed: Literal['all', 'new'] = 'all',
                 n_windows: int = 0, seen_ids: Collection[int] = ()):
        if size < 1 or not 0 <= overlap < size:
            raise ValueError(f'size, overlap: expected 0 <= overlap < size, got {size} and '
                             f'{overlap}')
        if feed not in ('all', 'new'):
            raise ValueError(f"feed: expected 'all' or 'new', got {feed!r}")
        self._size, self._overlap, self._feed = size, overlap, feed
        self._seen: List[Frame] = []
        self._new: List[Frame] = []
        self._n_windows, self._seen_ids = n_windows, frozenset(seen_ids)

    def push(self, frame: Frame) -> Optional[Window]:
        """Add one frame; return the window that it completes, if any."""
        if frame.index in self._seen_ids:
            self._seen.append(frame)
            return None
        self._new.append(frame)
        n_wanted = self._size if self._n_windows == 0 else self._size - self._overlap
        return self._emit() if len(self._new) == n_wanted else None

    def flush(self) -> Optional[Window]:
        """Return the last, short window with the frames that no window had yet, if any.

        More frames may follow: they continue the stream.
        """
        return self._emit() if self._new else None

    def _emit(self) -> Window:
        # a backbone that starts anew has seen none of the frames of `seen_ids`
        given = self._seen if self._feed == 'all' or self._seen_ids else []
        window = Window(self._n_windows, tuple(given + self._new), len(given), self._size,
                        self._overlap)
        keep = self._seen + self._new
        self._seen = keep[len(keep) - min(self._overlap, len(keep)):]
        self._new, self._seen_ids = [], frozenset()
        self._n_windows += 1
        return window
