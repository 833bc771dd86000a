"""Points that other views contradict: where one sees what is behind a point, there is no point.

Every view of a point confirms it, denies it, hides it, or says nothing (Merrell et al. 2007,
"Real-time visibility-based fusion of depth maps": violations of free space, and occlusions; the
free space of occupancy maps such as OctoMap is the same idea on a grid). To be hidden by something
nearer is how every surface looks from its other side; but what is hidden from all views beside the
one that found it was never seen.
"""

from typing import NamedTuple

import cv2
import numpy as np

from ..geometry import se3

_KERNEL = np.ones((3, 3), np.uint8)
_OVER_DISAGREEMENT = 4.0


class Evidence:
    """What views say in sum of points (P, 3) that share most of their error, as in a submap.

    ``tolerance`` is relative to depth. Where points and view disagree by about as much on the
    whole, because one of them is misplaced or of another scale, it rises to 4 times the median
    disagreement, so that a surface is not cleared away for being in two places. Views from nearby
    tell most, such as those of the same submap and of two to each side.
    """

    def __init__(self, points: np.ndarray, tolerance: float = 0.05):
        self._points, self._tolerance = points, _checked(tolerance)
        self.n_for, self.n_against, self.n_hidden = np.zeros((3, len(points)), np.int32)

    def add(self, T_map_camera: np.ndarray, K: np.ndarray, depth: np.ndarray) -> None:
        """Take what one view says; its arguments are as for `votes`."""
        seen = _look(self._points, T_map_camera, K, depth)
        if not len(seen.index):
            return
        usual = float(np.median(np.abs(seen.z / seen.depth - 1)))
        tolerance = max(self._tolerance, _OVER_DISAGREEMENT * usual)
        self.n_for[seen.index] += seen.is_confirmed(tolerance)
        self.n_against[seen.index] += seen.is_denied(tolerance)
        self.n_hidden[seen.index] += seen.is_hidden(tolerance)

    def is_contradicted(self, min_against: int = 1, min_hidden: int = 2) -> np.ndarray:
        """Return (P,) bool: points that more views deny than confirm, and at least so many.

        Also those that ``min_hidden`` views hide and none confirms; 0: these stay.
        """
        denied = is_contradicted(self.n_for, self.n_against, min_against)
        if not min_hidden:
            return denied
        return denied | ((self.n_for == 0) & (self.n_hidden >= min_hidden))


def votes(points: np.ndarray, T_map_camera: np.ndarray, K: np.ndarray, depth: np.ndarray,
          tolerance: float = 0.05) -> np.ndarray:
    """Return what one view says of points: (P,) int8, 1 confirmed, -1 denied, 0 nothing.

    ``points`` (P, 3) in the frame of ``T_map_camera`` (4, 4), which is rigid and in the unit of
    ``depth`` (H, W), along the optical axis, 0 or not finite where undefined; ``K`` (3, 3) px at
    H x W. The view confirms a point whose depth is within ``tolerance``, relative, of that of its
    pixel. It denies a point that is nearer, by more than that, than all of the 3 x 3 pixels
    around, which must all be defined: beside an edge nothing is denied. Raises ValueError for
    other shapes.
    """
    said = np.zeros(len(points), np.int8)
    seen = _look(points, T_map_camera, K, depth)
    said[seen.index] = seen.is_confirmed(_checked(tolerance)).astype(np.int8)
    said[seen.index] -= seen.is_denied(tolerance)
    return said


def is_contradicted(n_for: np.ndarray, n_against: np.ndarray,
                    min_against: int = 1) -> np.ndarray:
    """Return (P,) bool: points that more views deny than confirm, and at least so many."""
    return (n_against >= min_against) & (n_against > n_for)


class _Seen(NamedTuple):
    """Points on defined pixels of a view, and the depths there."""

    index: np.ndarray                       # (Q,) of the points
    z: np.ndarray                           # (Q,) f32, their own depths
    depth: np.ndarray                       # (Q,) f32, of their pixels, above 0
    nearest: np.ndarray                     # (Q,) f32, of 3 x 3 pixels; 0 with an undefined one
    farthest: np.ndarray                    # (Q,) f32

    def is_confirmed(self, tolerance: float) -> np.ndarray:
        return np.abs(self.z - self.depth) <= tolerance * self.depth

    def is_denied(self, tolerance: float) -> np.ndarray:
        return self.z < (1 - tolerance) * self.nearest

    def is_hidden(self, tolerance: float) -> np.ndarray:
        return (self.z > (1 + tolerance) * self.farthest) & (self.nearest > 0)


def _look(points: np.ndarray, T_map_camera: np.ndarray, K: np.ndarray,
          depth: np.ndarray) -> _Seen:
    if depth.ndim != 2 or np.shape(points)[1:] != (3,):
        raise ValueError(f'depth, points: expected shapes (H, W) and (P, 3), got {depth.shape} '
                         f'and {np.shape(points)}')
    h, w = depth.shape
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
    # once in the camera's frame f32 is enough, however far it is from the origin
    x, y, z = se3.apply(se3.inverse(T_map_camera), points).astype(np.float32).T
    z = np.where(z > 0, z, np.nan)
    K = np.asarray(K, np.float32)
    with np.errstate(over='ignore', invalid='ignore'):
        u = (K[0, 0] * x + K[0, 1] * y) / z + K[0, 2]
        v = K[1, 1] * y / z + K[1, 2]
    index = np.flatnonzero((u > -0.5) & (u < w - 0.5) & (v > -0.5) & (v < h - 0.5))
    pixels = np.rint(v[index]).astype(np.int64) * w + np.rint(u[index]).astype(np.int64)
    is_defined = depth.ravel()[pixels] > 0
    index, pixels = index[is_defined], pixels[is_defined]
    nearest, farthest = (f(depth, _KERNEL, borderType=cv2.BORDER_REPLICATE).ravel()[pixels]
                         for f in (cv2.erode, cv2.dilate))
    return _Seen(index, z[index], depth.ravel()[pixels], nearest, farthest)


def _checked(tolerance: float) -> float:
    if not 0 < tolerance < 1:
        raise ValueError(f'tolerance: expected above 0 and below 1, got {tolerance}')
    return tolerance
