"""Metres from depth images: how many times deeper they are than the predicted points."""

from collections import deque
import math
from typing import Deque, List, NamedTuple, Optional, Sequence

import numpy as np

from .records import Measurement, WindowEvidence
from .settings import ScaleConfig
from .sources import NOTHING, ScaleSource

_ROWS, _COLUMNS = 48, 64                    # samples of an image
_MAX_DEPTHS, _MAX_FRAMES = 600, 100         # kept while the other stream is late
_CONFIDENT_SHARE = 0.5                      # of the predicted pixels, those that count
_MIN_SHARE = 0.03                           # of the samples, so many are needed
_MAX_SPREAD = 0.5                           # of ln ratio; more is no match
_N_INDEPENDENT = 25.0                       # at most: errors of neighbouring pixels are alike
_FRAME_SIGMA = 0.01


class _Samples(NamedTuple):
    """Depths of one image on a grid; 0: none."""

    stamp_ns: int
    depth: np.ndarray                       # (rows * columns,) f32


class DepthSource(ScaleSource):
    """Compares each new frame of the windows' tails with the depth image of its time.

    The depth image covers what the (rectified) image covers, at any size. The scale is the median
    ratio of pixels whose points are confident.
    """

    def __init__(self, config: ScaleConfig):
        self._min_m, self._max_m = config.min_depth_m, config.max_depth_m
        self._tolerance_ns = round(config.depth_tolerance_s * 1e9)
        self._depths: Deque[_Samples] = deque(maxlen=_MAX_DEPTHS)
        self._frames: Deque[_Samples] = deque(maxlen=_MAX_FRAMES)
        self._last_frame_ns: Optional[int] = None

    def add_depth(self, stamp_ns: int, depth_m: np.ndarray) -> Sequence[Measurement]:
        """Take a depth image (H, W), m; 0, NaN and what is out of range are undefined."""
        depth_m = np.asarray(depth_m)
        if depth_m.ndim != 2 or 0 in depth_m.shape:
            raise ValueError(f'depth_m: expected shape (H, W), got {depth_m.shape}')
        samples = _sampled(depth_m).astype(np.float32)
        is_good = (samples >= self._min_m) & (samples <= self._max_m)       # False for NaN
        self._depths.append(_Samples(stamp_ns, np.where(is_good, samples, np.float32(0.0))))
        return self._advance()

    def add_window(self, window: WindowEvidence) -> Sequence[Measurement]:
        """Take the frames of the tail that are newer than all before."""
        for i, stamp_ns in enumerate(window.tail_stamps_ns.tolist()):
            if self._last_frame_ns is not None and stamp_ns <= self._last_frame_ns:
                continue
            self._last_frame_ns = stamp_ns
            depth = _confident_depth(_sampled(window.local_points[i, ..., 2]),
                                     _sampled(window.confidence[i]))
            self._frames.append(_Samples(stamp_ns, depth))
        return self._advance()

    def _advance(self) -> List[Measurement]:
        """Compare the frames for which no better depth image can come any more."""
        newest_ns = max((depth.stamp_ns for depth in self._depths), default=None)
        measurements = []
        while self._frames and newest_ns is not None and self._frames[0].stamp_ns <= newest_ns:
            frame = self._frames.popleft()
            near = min(self._depths, key=lambda depth: abs(depth.stamp_ns - frame.stamp_ns))
            if abs(near.stamp_ns - frame.stamp_ns) <= self._tolerance_ns:
                measurements += _compare(frame, near)
        return measurements


def _compare(frame: _Samples, depth: _Samples) -> Sequence[Measurement]:
    """Return the measurement of one frame, if there is enough in it."""
    both = (frame.depth > 0) & (depth.depth > 0)
    n = np.count_nonzero(both)
    if n < _MIN_SHARE * both.size:
        return NOTHING
    ratio = np.log(depth.depth[both].astype(np.float64) / frame.depth[both])
    median = float(np.median(ratio))
    spread = 1.4826 * float(np.median(np.abs(ratio - median)))
    if spread > _MAX_SPREAD:
        return NOTHING
    # the median of normal errors is 1.25 times less certain than the mean
    sigma = math.hypot(_FRAME_SIGMA, 1.25 * spread / math.sqrt(min(n, _N_INDEPENDENT)))
    return (Measurement(frame.stamp_ns, median, sigma),)


def _confident_depth(depth: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Return depths (S,) f32, 0 where they are not among the more confident ones."""
    is_defined = (confidence > 0) & (depth > 0) & np.isfinite(depth)
    if not is_defined.any():
        return np.zeros(depth.shape, np.float32)
    least = np.quantile(confidence[is_defined], 1 - _CONFIDENT_SHARE)
    return np.where(is_defined & (confidence >= least), depth, np.float32(0.0))


def _sampled(image: np.ndarray) -> np.ndarray:
    """Return the pixels (rows * columns,) of an image (H, W) at the middles of a grid's cells.

    No interpolation: between two surfaces there is nothing.
    """
    rows, columns = (((np.arange(n) + 0.5) * size / n).astype(np.intp)
                     for n, size in zip((_ROWS, _COLUMNS), image.shape))
    return np.ascontiguousarray(image[rows[:, None], columns]).ravel()
