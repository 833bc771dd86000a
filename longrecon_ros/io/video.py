"""A video file as a source of frames."""

from collections.abc import Iterator
import logging
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..types import Frame, Trajectory
from .calibration import Calibration
from .frame_maker import FrameMaker

SUFFIXES = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.ts')

_DEFAULT_FPS = 30.0
_MISSING_FRAMES, _MISSING_SHARE = 2, 0.02     # the count of some containers is an estimate

_log = logging.getLogger(__name__)


class VideoSource:
    """Frames of a video, as far as OpenCV reads it; times count from the first frame.

    Times come from the container (so variable frame rates are right), or are ``fps`` a second when
    given. A video that ends before its header says is an ``InputError`` at its end, so that no
    result is made of half a recording by mistake; ``allow_truncated`` takes what is there.
    """

    def __init__(self, path: Path, fps: float | None = None, allow_truncated: bool = False,
                 calibration: Calibration | None = None):
        self._path = Path(path)
        self._allow_truncated = allow_truncated
        self._calibration = calibration
        capture = self._open()
        self._n = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        header_fps = _plausible_fps(capture.get(cv2.CAP_PROP_FPS))
        capture.release()
        self._is_clocked = fps is None
        self._step_ns = round(1e9 / (fps or header_fps or _DEFAULT_FPS))
        self.warnings: list[str] = []
        if fps is None and header_fps is None:
            self.warnings.append(f'The video does not say its frame rate: {_DEFAULT_FPS:g} frames '
                                 'a second are assumed; give the rate with --fps.')

    def __iter__(self) -> Iterator[Frame]:
        maker = FrameMaker(self._calibration, 'the calibration given')
        capture = self._open()
        index, start_ns, stamp_ns = 0, 0, 0
        try:
            while True:
                is_read, image = capture.read()
                if not is_read:
                    break
                clock_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                if index == 0:
                    start_ns = clock_ns
                elif self._is_clocked and clock_ns - start_ns > stamp_ns:
                    stamp_ns = clock_ns - start_ns
                else:
                    stamp_ns += self._step_ns
                yield maker.make(index, stamp_ns, cv2.cvtColor(image, cv2.COLOR_BGR2RGB),
                                 f'{self._path}, frame {index}')
                index += 1
        finally:
            capture.release()
        self._check_end(index)

    def __len__(self) -> int:
        return self._n

    def describe(self) -> str:
        return f'video {self._path}'

    def groundtruth(self) -> Trajectory | None:
        return None

    def depth(self, index: int) -> np.ndarray | None:
        return None

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise InputError(f'{self._path}: not a video that OpenCV can open; it may be cut '
                             'short (an MP4 without its end cannot be read) or of an odd codec')
        return capture

    def _check_end(self, n_read: int) -> None:
        if n_read and self._n - n_read <= max(_MISSING_FRAMES, _MISSING_SHARE * self._n):
            return
        text = f'{self._path}: the video breaks off: {n_read} of {self._n} frames can be read'
        if not n_read:
            raise InputError(text)
        if not self._allow_truncated:
            raise InputError(f'{text}; add --allow-truncated to use them')
        self.warnings.append(f'The video breaks off: {n_read} of {self._n} frames can be read.')
        _log.warning('%s', text)


def _plausible_fps(fps: float) -> float | None:
    return fps if np.isfinite(fps) and 0.1 <= fps <= 1000 else None
