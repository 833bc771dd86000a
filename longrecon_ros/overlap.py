"""Registration of a window beside the inference of the next one: one more thread, same results."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
import threading
import time
from typing import Callable, Deque, Iterable, Iterator, List, Optional, Tuple

import numpy as np

from .map_store import MapRecord
from .pipeline import Inferred, Pipeline
from .types import Frame, PointCloud, Submap, Trajectory, Update


class BusyTime:
    """Measures for how long at least one thread was inside its ``with`` block."""

    def __init__(self):
        self._lock = threading.Lock()
        self._n_inside, self._since_s, self._past_s = 0, 0.0, 0.0

    def __enter__(self) -> 'BusyTime':
        with self._lock:
            if self._n_inside == 0:
                self._since_s = time.perf_counter()
            self._n_inside += 1
        return self

    def __exit__(self, *problem) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._past_s += time.perf_counter() - self._since_s

    @property
    def total_s(self) -> float:
        """The time so far, s."""
        with self._lock:
            now_s = time.perf_counter() - self._since_s if self._n_inside else 0.0
            return self._past_s + now_s


class Overlapped:
    """A pipeline whose `Pipeline.register` runs in a thread of its own, in the order of windows.

    Inference stays in the caller's thread, and so do its errors. At most one window waits for
    registration, then `push` does. What a registration raises is raised by the next call of
    `push`, `flush`, `reset` or `close`; later windows are registered all the same, as after an
    error of `Pipeline.push`. With ``use_thread`` False everything runs in the caller's thread.

    ``on_update`` gets every update as soon as there is one, in the thread that made it, where it
    may ask ``pipeline`` for results. The methods are for one thread. ``busy`` measures the time
    in which any part of the pipeline works, since the last reset.
    """

    def __init__(self, pipeline: Pipeline, use_thread: bool = True,
                 on_update: Callable[[Update], None] = lambda update: None):
        self._pipeline, self._on_update = pipeline, on_update
        self._pool = ThreadPoolExecutor(1, 'registration') if use_thread else None
        self._pending: Deque[Future] = deque()      # windows in their order, finished or not
        self._finished: List[Update] = []           # not returned yet
        self.busy = BusyTime()

    def __enter__(self) -> 'Overlapped':
        return self

    def __exit__(self, kind, *problem) -> None:
        self._stop()
        if kind is None:
            self._finished = self._collect()

    def push(self, frame: Frame) -> List[Update]:
        """Take one frame; return the updates that were finished since the last call."""
        with self.busy:
            self._hand_over(self._pipeline.infer(frame))
        return self._collect()

    def flush(self) -> List[Update]:
        """Process the frames that no window had yet; return all updates not returned yet.

        After an error of a registration call it again for the updates of the other windows.
        """
        with self.busy:
            self._hand_over(self._pipeline.infer_rest())
            wait(self._pending)
        return self._collect()

    def push_all(self, frames: Iterable[Frame], folder: Path,
                 tell: Callable[[int, int], None] = lambda done, of: None) -> Iterator[Update]:
        """Take a whole recording and yield all updates; see `Pipeline.infer_all`."""
        windows = self._pipeline.infer_all(frames, folder, tell)
        is_over = False
        while not is_over:
            with self.busy:
                inferred = next(windows, None)
                is_over = inferred is None
                self._hand_over(inferred)
                if is_over:
                    wait(self._pending)
            yield from self._collect()

    def reset(self) -> None:
        """Finish the windows handed over, then forget everything, updates not returned, too."""
        wait(self._pending)
        try:
            self._collect()
        finally:
            self._pending.clear()
            self._finished.clear()
            self._pipeline.reset()
            self.busy = BusyTime()

    def close(self) -> None:
        """End the thread after the window it is at; one that waits is dropped."""
        self._stop()
        self._finished = self._collect()

    @property
    def needs_all(self) -> bool:
        """That of the pipeline."""
        return self._pipeline.needs_all

    @property
    def caveats(self) -> Tuple[str, ...]:
        """Those of the pipeline."""
        return self._pipeline.caveats

    @property
    def is_untrained(self) -> bool:
        """That of the pipeline."""
        return self._pipeline.is_untrained

    def settle(self) -> None:
        """Wait until all windows handed over are registered: the pipeline then stands still."""
        wait(self._pending)

    def trajectory(self) -> Trajectory:
        """Return that of the pipeline, with all windows handed over."""
        wait(self._pending)
        return self._pipeline.trajectory()

    def states(self) -> np.ndarray:
        """Return those of the pipeline, with all windows handed over."""
        wait(self._pending)
        return self._pipeline.states()

    @property
    def is_located(self) -> bool:
        """That of the pipeline's map, with all windows handed over."""
        wait(self._pending)
        return self._pipeline.mapper.is_located

    def odometry(self) -> Trajectory:
        """Return that of the pipeline, with all windows handed over."""
        wait(self._pending)
        return self._pipeline.odometry()

    def loops(self) -> np.ndarray:
        """Return those of the pipeline, with all windows handed over."""
        wait(self._pending)
        return self._pipeline.loops()

    def saved_map(self) -> Tuple[MapRecord, Callable[[int], Submap]]:
        """Return the pipeline's map as `map_store.save_map` takes it, all windows in it."""
        wait(self._pending)
        return self._pipeline.map_record(), self._pipeline.mapper.atlas.submap

    def cloud(self) -> PointCloud:
        """Return that of the pipeline, with all windows handed over."""
        wait(self._pending)
        return self._pipeline.cloud()

    def _hand_over(self, inferred: Optional[Inferred]) -> None:
        if inferred is None:
            return
        if self._pool is None:
            self._finished.append(self._register(inferred))
            return
        self._pending.append(self._pool.submit(self._register, inferred))
        # this one may wait for the one before, not for two
        wait(list(self._pending)[:-2])

    def _register(self, inferred: Inferred) -> Update:
        with self.busy:
            update = self._pipeline.register(inferred)
        self._on_update(update)
        return update

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pending = deque(future for future in self._pending if not future.cancelled())

    def _collect(self) -> List[Update]:
        """Return the finished updates; an error goes first and leaves them to the next call."""
        while self._pending and self._pending[0].done():
            self._finished.append(self._pending.popleft().result())
        updates, self._finished = self._finished, []
        return updates
