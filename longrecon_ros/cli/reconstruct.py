"""From a source of frames to the updates of a pipeline, with progress and counts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
import time

import numpy as np

from ..errors import InputError
from ..io.source import FrameSource
from ..overlap import Overlapped
from ..preprocess import fit_depth
from ..report.recorder import RunRecorder
from ..types import Frame
from .progress import show_progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reconstruction counted."""

    recorder: RunRecorder
    n_frames: int
    elapsed_s: float                        # reading and reconstructing, not measuring depth
    warnings: tuple[str, ...]


def reconstruct(source: FrameSource, pipeline: Overlapped) -> Outcome:
    """Push all frames of a source through a pipeline, recording every update.

    Raises ``InputError`` from the source, and when there was no frame.
    """
    reading = _Reading(source, pipeline)
    with show_progress(len(source)) as progress:
        for frame in reading:
            updates = pipeline.push(frame)
            for update in updates:
                reading.recorder.add(update)
            if updates:
                progress.update(reading.n_frames, reading.speed())
        for update in pipeline.flush():
            reading.recorder.add(update)
    return reading.outcome()


def reconstruct_all(source: FrameSource, pipeline: Overlapped, folder: Path) -> Outcome:
    """Do the same for a pipeline that needs the whole recording (`Pipeline.infer_all`).

    ``folder`` is where it keeps what it has reached.
    """
    reading = _Reading(source, pipeline)
    with show_progress(0, 'steps') as steps:
        updates = pipeline.push_all(_shown(reading), folder,
                                    lambda n, of: steps.update(n, f'of {of}'))
        for update in updates:
            reading.recorder.add(update)
    return reading.outcome()


def _shown(reading: '_Reading') -> Iterator[Frame]:
    with show_progress(len(reading)) as progress:
        for frame in reading:
            yield frame
            progress.update(reading.n_frames, f'read, {reading.speed()}')


class _Reading:
    """The frames of a source, counted and timed as they are read, and what is made of them."""

    def __init__(self, source: FrameSource, pipeline: Overlapped):
        self._source, self._busy = source, pipeline.busy
        self._first: Frame | None = None
        self.n_frames = 0
        self.recorder = RunRecorder(self._true_depth)

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Frame]:
        frames = iter(self._source)
        while True:
            start_s = time.perf_counter()
            with self._busy:
                frame = next(frames, None)
            self.recorder.add_time('read', 1e3 * (time.perf_counter() - start_s))
            if frame is None:
                return
            self.n_frames += 1
            if self._first is None:
                self._first = replace(frame)
            yield frame

    def speed(self) -> str:
        """Return how fast it goes, for a display."""
        return f'{self.n_frames / self._busy.total_s:.1f} a second'

    def outcome(self) -> Outcome:
        """Return the counts at the end; raises InputError when there was no frame."""
        if self._first is None:
            raise InputError(f'{self._source.describe()}: there are no frames')
        warnings = () if self._first.K is not None else (
            'There is no calibration: the intrinsics are estimated, and lens distortion stays. '
            'Give them with --calib.',)
        return Outcome(self.recorder, self.n_frames, self._busy.total_s, warnings)

    def _true_depth(self, index: int, size: tuple[int, int]) -> np.ndarray | None:
        depth = self._source.depth(index)
        return None if depth is None else fit_depth(depth, self._first, size)
