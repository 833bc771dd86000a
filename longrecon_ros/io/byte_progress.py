"""Progress of reading or downloading one large file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import logging
import sys
import time

from ..backbones._weights import size_text

_LINE_EVERY_S = 5.0

_log = logging.getLogger(__name__)


@contextmanager
def show_bytes(n_total: int, label: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many bytes are done: a bar on a terminal, or log lines."""
    bar_class = _bar_class() if sys.stderr.isatty() else None
    if bar_class is None:
        yield LogLines(n_total, label)
        return
    with bar_class(total=n_total, unit='B', unit_scale=True, desc=label, leave=False) as bar:
        yield lambda n_done: bar.update(n_done - bar.n)


class LogLines:
    """Is told how many bytes are done, and logs a line every few seconds."""

    def __init__(self, n_total: int, label: str, n_before: int = 0):
        """Set the goal; ``n_before`` bytes were done before, which is no measure of speed."""
        self._n_total, self._label, self._n_before = n_total, label, n_before
        self._start_s = self._last_s = time.monotonic()

    def __call__(self, n_done: int) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s < _LINE_EVERY_S:
            return
        self._last_s = now_s
        per_s = round(max(0, n_done - self._n_before) / (now_s - self._start_s))
        _log.info('%s: %s of %s, %s/s', self._label, size_text(n_done),
                  size_text(self._n_total), size_text(per_s))


def _bar_class():
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm
