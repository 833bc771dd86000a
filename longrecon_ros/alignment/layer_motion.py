"""Where the layers of one frame are seen in the next: overlap counted along the motion.

LASER compares layers at the same pixels of both frames. Here a pixel of the later frame is first
taken, with its depth and both poses, to where the earlier camera saw it.
"""

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..geometry import se3
from .segments import overlap_counts

_SAME_DEPTH = 0.15          # log: further apart it is another surface
_LEAST_SEEN = 0.2           # share of pixels; below, the motion is not believed


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One frame of a window on the grid of its layers."""

    T_window_camera: np.ndarray             # (4, 4) f64
    points: np.ndarray                      # (h, w, 3) f32, camera frame, NaN where unknown
    labels: np.ndarray                      # (h, w) int32
    log_depth: np.ndarray                   # (h, w) f32
    n_layers: int


def shared_pixels(before: View, after: View, K: Optional[np.ndarray]) -> np.ndarray:
    """Return counts (n_before, n_after) i64 of the pixels of ``after`` that both frames see.

    ``K`` (3, 3) is in px of the grid. When hardly anything is seen again by the motion (or there
    is no K), pixels are compared where they are.
    """
    if K is not None:
        row, column, log_depth, inside = _project(before, after, K)
        with np.errstate(invalid='ignore'):
            found = inside & (np.abs(before.log_depth[row, column] - log_depth) < _SAME_DEPTH)
        if np.count_nonzero(found) >= _LEAST_SEEN * found.size:
            return _counts(before, before.labels[row, column], found, after)
    with np.errstate(invalid='ignore'):
        found = np.abs(before.log_depth - after.log_depth) < _SAME_DEPTH
    return _counts(before, before.labels, found, after)


def _counts(before: View, labels: np.ndarray, found: np.ndarray, after: View) -> np.ndarray:
    return overlap_counts(np.where(found, labels, -1), after.labels, before.n_layers,
                          after.n_layers)


def _project(before: View, after: View, K: np.ndarray):
    """Return where before sees the pixels of after: row, column (h, w), log depth, if inside."""
    T = se3.relative(before.T_window_camera, after.T_window_camera).astype(np.float32)
    K = K.astype(np.float32)
    x, y, z = np.moveaxis(after.points @ T[:3, :3].T + T[:3, 3], -1, 0)
    h, w = before.labels.shape
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        u, v = K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]
        inside = (z > 0) & (u > -0.5) & (u < w - 0.5) & (v > -0.5) & (v < h - 0.5)
        log_depth = np.log(z)
    return (np.where(inside, np.rint(v), 0).astype(np.int32),
            np.where(inside, np.rint(u), 0).astype(np.int32), log_depth, inside)
