"""What one frame of a window knows, seen from another: maps carried along the motion.

LASER compares layers at the same pixels of two frames. Here a pixel of the later frame is first
taken, with its depth and both poses, to where the other camera saw it.
"""

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from ..geometry import se3

_SAME_DEPTH = 0.15          # log: further apart it is another surface
_LEAST_SEEN = 0.2           # share of pixels; below, the motion is not believed


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One frame of a window on the grid of its layers."""

    T_window_camera: np.ndarray             # (4, 4) f64
    points: np.ndarray                      # (h, w, 3) f32, camera frame, NaN where unknown
    log_depth: np.ndarray                   # (h, w) f32, NaN where unknown


@dataclass(frozen=True, slots=True, eq=False)
class Correspondence:
    """Where the pixels of one frame are seen in another one."""

    index: np.ndarray                       # (h, w) i64, flat position in the other frame
    is_seen: np.ndarray                     # (h, w) bool

    def carry(self, values: np.ndarray) -> np.ndarray:
        """Return a map (h, w) of the other frame as this one sees it, NaN where it does not."""
        return np.where(self.is_seen, values.ravel()[self.index], np.float32(np.nan))

    def carry_labels(self, labels: np.ndarray) -> np.ndarray:
        """Return labels (h, w) of the other frame as this one sees them, -1 where it does not."""
        return np.where(self.is_seen, labels.ravel()[self.index], -1)


def find_again(seen_from: View, other: View, K: Optional[np.ndarray]) -> Correspondence:
    """Return where the pixels of ``seen_from`` are in ``other``.

    ``K`` (3, 3) is in px of the grid. When hardly anything is seen again by the motion (or there
    is no K), pixels are compared where they are.
    """
    h, w = other.log_depth.shape
    if K is not None:
        index, log_depth, inside = _project(seen_from, other, K)
        with np.errstate(invalid='ignore'):
            found = inside & (np.abs(other.log_depth.ravel()[index] - log_depth) < _SAME_DEPTH)
        if np.count_nonzero(found) >= _LEAST_SEEN * found.size:
            return Correspondence(index, found)
    with np.errstate(invalid='ignore'):
        found = np.abs(other.log_depth - seen_from.log_depth) < _SAME_DEPTH
    return Correspondence(np.arange(h * w).reshape(h, w), found)


def _project(seen_from: View, other: View,
             K: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return flat position in other, log depth there and if it is inside, (h, w) each."""
    T = se3.relative(other.T_window_camera, seen_from.T_window_camera).astype(np.float32)
    K = K.astype(np.float32)
    x, y, z = np.moveaxis(seen_from.points @ T[:3, :3].T + T[:3, 3], -1, 0)
    h, w = other.log_depth.shape
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        u, v = K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]
        inside = (z > 0) & (u > -0.5) & (u < w - 0.5) & (v > -0.5) & (v < h - 0.5)
        log_depth = np.log(z)
    row, column = (np.where(inside, np.rint(a), 0).astype(np.int64) for a in (v, u))
    return row * w + column, log_depth, inside
