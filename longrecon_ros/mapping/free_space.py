"""Points in space that other views found free: a view that sees what is behind a point denies it.

Every view of a point confirms it, denies it, or says nothing (Merrell et al. 2007, "Real-time
visibility-based fusion of depth maps"; the free space of occupancy maps such as OctoMap is the
same idea on a grid). Nothing is said where the point is out of view, or hidden by something
nearer: that is how every surface looks from the other side.
"""

import cv2
import numpy as np

from ..geometry import se3

_KERNEL = np.ones((3, 3), np.uint8)


def votes(points: np.ndarray, T_map_camera: np.ndarray, K: np.ndarray, depth: np.ndarray,
          tolerance: float = 0.1) -> np.ndarray:
    """Return what one view says of points: (P,) int8, 1 confirmed, -1 denied, 0 nothing.

    ``points`` (P, 3) in the frame of ``T_map_camera`` (4, 4), which is rigid and in the unit of
    ``depth`` (H, W), along the optical axis, 0 or not finite where undefined; ``K`` (3, 3) px at
    H x W. The view confirms a point whose depth is within ``tolerance``, relative, of that of its
    pixel. It denies a point that is nearer by more than that than all 3 x 3 pixels around,
    which must be defined: beside an edge nothing is denied.
    """
    said = np.zeros(len(points), np.int8)
    pixels, z, seen = _seen(points, T_map_camera, K, depth.shape)
    depth = np.where(depth > 0, depth, 0).astype(np.float32)
    depth[~np.isfinite(depth)] = 0
    nearest = cv2.erode(depth, _KERNEL, borderType=cv2.BORDER_REPLICATE)
    depth, nearest = depth.ravel()[pixels], nearest.ravel()[pixels]
    is_denied = z < (1 - tolerance) * nearest
    is_confirmed = np.abs(z - depth) <= tolerance * depth
    said[seen] = is_confirmed.astype(np.int8) - is_denied.astype(np.int8)
    return said


def is_contradicted(n_for: np.ndarray, n_against: np.ndarray,
                    min_against: int = 1) -> np.ndarray:
    """Return (P,) bool: which points more views deny than confirm, and at least so many."""
    return (n_against >= min_against) & (n_against > n_for)


def _seen(points: np.ndarray, T_map_camera: np.ndarray, K: np.ndarray, shape):
    """Return flat pixels (Q,) and depths (Q,) of the points in view, and their indices (Q,)."""
    h, w = shape
    # poses are exact in f64; what is left fits f32 at any distance from the origin
    local = se3.apply(se3.inverse(T_map_camera), points).astype(np.float32)
    seen = np.flatnonzero(local[:, 2] > 0)
    z = local[seen, 2]
    u = (np.float32(K[0, 0]) * local[seen, 0] + np.float32(K[0, 1]) * local[seen, 1]) / z
    v = np.float32(K[1, 1]) * local[seen, 1] / z
    u, v = u + np.float32(K[0, 2]), v + np.float32(K[1, 2])
    inside = (u > -0.5) & (u < w - 0.5) & (v > -0.5) & (v < h - 0.5)
    u, v = (np.rint(x[inside]).astype(np.int64) for x in (u, v))
    return v * w + u, z[inside], seen[inside]
