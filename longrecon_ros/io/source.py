"""Where frames come from: the protocol of a source, and how a path becomes one."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import InputError
from ..types import Frame, Trajectory
from .bag import BagSource
from .bag_reader import is_bag
from .calibration import read_calibration
from .folder import FolderSource
from .truth import TrueFrames
from .video import SUFFIXES as VIDEO_SUFFIXES, VideoSource


class FrameSource(Protocol):
    """A finite stream of frames with what is known about them.

    Frames have indices 0, 1, 2, ... and ascending stamps. Iterating again starts again.
    """

    warnings: list[str]
    """Plain sentences for the user about assumptions that were made; may grow while iterating."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order; raises ``InputError`` at the first that cannot be used."""

    def __len__(self) -> int:
        """Return the number of frames; 0 when it is not known in advance."""

    def describe(self) -> str:
        """Return one line: kind, place, and topic or files."""

    def groundtruth(self) -> Trajectory | None:
        """Return the true camera-to-world poses [m] that came with the frames, or None."""

    def depth(self, index: int) -> np.ndarray | None:
        """Return the true depth (H, W) f32 [m] of a frame, 0 where unmeasured, or None."""


class SelectedFrames:
    """Every n-th frame of a source, up to a number of frames, renumbered from 0."""

    def __init__(self, source: FrameSource, every: int = 1, max_frames: int | None = None):
        if every < 1 or (max_frames is not None and max_frames < 1):
            raise ValueError(f'every, max_frames: expected 1 or more, got {every}, {max_frames}')
        self._source = source
        self._every = every
        self._max_frames = max_frames
        self.warnings = source.warnings

    def __iter__(self) -> Iterator[Frame]:
        stop = None if self._max_frames is None else (self._max_frames - 1) * self._every + 1
        chosen = islice(self._source, 0, stop, self._every)
        return (replace(frame, index=index) for index, frame in enumerate(chosen))

    def __len__(self) -> int:
        n = -(-len(self._source) // self._every)
        return min(n, self._max_frames or n)

    def describe(self) -> str:
        parts = [self._source.describe()]
        if self._every > 1:
            parts.append(f'every {self._every}th frame' if self._every > 3 else
                         f'every {("second", "third")[self._every - 2]} frame')
        if self._max_frames is not None:
            parts.append(f'at most {self._max_frames} frames')
        return ', '.join(parts)

    def groundtruth(self) -> Trajectory | None:
        return self._source.groundtruth()

    def depth(self, index: int) -> np.ndarray | None:
        return self._source.depth(index * self._every)


def open_source(path: Path, *, topic: str | None = None, gt_topic: str | None = None,
                fps: float | None = None, every: int = 1, max_frames: int | None = None,
                calib: Path | None = None, allow_truncated: bool = False,
                use_truth: bool = False) -> FrameSource:
    """Return the source of a path: a ROS bag, a folder of images, or a video file.

    ``topic`` and ``gt_topic`` are for bags, ``fps`` is for folders without times and videos,
    ``allow_truncated`` for videos and bags that break off; ``calib`` is a ``calib.json`` that goes
    before what the input says. With ``use_truth`` every frame carries its true depth and pose
    (`types.FrameTruth`), which only folders have. Frames are taken ``every`` so many, at most
    ``max_frames``.

    Raises
    ------
    InputError
        The path is missing or of no known kind, an option does not go with it, the truth that was
        asked for is not there, or what the source itself raises.

    """
    path = Path(path)
    if not path.exists():
        raise InputError(f'{path}: there is no such file or folder')
    calibration = None if calib is None else read_calibration(calib)
    if fps is not None and not 0 < fps < 1e6:
        raise InputError(f'--fps must be a number above 0, got {fps:g}')
    if is_bag(path):
        _refuse('bags, whose images carry stamps', **{'--fps': fps})
        source = BagSource(path, topic, gt_topic, allow_truncated, calibration)
    else:
        _refuse('what is not a bag', **{'--topic': topic, '--gt-topic': gt_topic})
        if path.is_dir():
            source = FolderSource(path, fps, calibration)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            source = VideoSource(path, fps, allow_truncated, calibration)
        else:
            raise InputError(f'{path}: not a folder of images, a bag (.bag, .mcap, .db3 or '
                             f'folder) or a video ({" ".join(VIDEO_SUFFIXES)})')
    return SelectedFrames(TrueFrames(source) if use_truth else source, every, max_frames)


def _refuse(what: str, **options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise InputError(f'{name} does not go with {what}: leave it out')
