"""Progress of a long run: a bar on a terminal, a log line now and then elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
import logging
import sys
import time
from typing import Protocol

_LINE_EVERY_S = 5.0

_log = logging.getLogger(__name__)


class Progress(Protocol):
    """Is told how far a run is."""

    def update(self, n_done: int, remark: str) -> None:
        """Show that ``n_done`` of what is counted are done."""


@contextmanager
def show_progress(n_total: int, what: str = 'frames') -> Iterator[Progress]:
    """Yield a display for ``n_total`` frames (0: unknown) and take it away at the end.

    ``what`` says what is counted where it is not frames.
    """
    bar = _rich_bar() if sys.stderr.isatty() else None
    if bar is None:
        yield _LogProgress(n_total, what)
        return
    with bar:
        task = bar.add_task('', total=n_total or None)
        yield _BarProgress(bar, task)


def _rich_bar():
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress as RichProgress,
            TextColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        return None
    return RichProgress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                        TextColumn('{task.description}'), console=Console(stderr=True),
                        transient=True)


class _BarProgress:

    def __init__(self, bar, task):
        self._bar, self._task = bar, task

    def update(self, n_done: int, remark: str) -> None:
        self._bar.update(self._task, completed=n_done, description=remark)


class _LogProgress:

    def __init__(self, n_total: int, what: str):
        self._n_total, self._what = n_total, what
        self._last_s = time.monotonic()

    def update(self, n_done: int, remark: str) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s >= _LINE_EVERY_S:
            self._last_s = now_s
            of = f' of {self._n_total}' if self._n_total else ''
            _log.info('%d%s %s, %s', n_done, of, self._what, remark)
