"""Normals of surfaces in depth maps, by cross products of differences between points."""

from typing import Optional

import cv2
import numpy as np

_JUMP = 0.03            # of inverse depth off the mean of both neighbours, relative to itself


def normals(local_points: np.ndarray, is_defined: Optional[np.ndarray] = None,
            reach_px: int = 2) -> np.ndarray:
    """Return the normals (H, W, 3) f32 of a pointmap, of length 1, towards the camera.

    ``local_points`` (H, W, 3) in the camera's frame, in any unit (for a depth map see
    `geometry.camera.pointmap_from_depth`); ``is_defined`` (H, W) bool. The normal is the cross
    product of two central differences over ``reach_px`` to each side, each a mean over as many
    rows, or columns: exact on planes, and little changed by the noise of single pixels. It is 0
    where that square holds an undefined pixel or a depth edge, or sees the surface from its edge.
    At the border of the image the square ends with it. Raises ValueError for other shapes.
    """
    points = np.asarray(local_points, np.float32)
    if points.ndim != 3 or points.shape[2] != 3 or reach_px < 1:
        raise ValueError(f'local_points, reach_px: expected shape (H, W, 3) and 1 or more, got '
                         f'{points.shape} and {reach_px}')
    with np.errstate(invalid='ignore'):
        used = np.isfinite(np.einsum('hwc->hw', points)) & (points[..., 2] > 0)
    if is_defined is not None:
        used &= is_defined
    points = np.where(used[..., None], points, 0)
    right, left = _sides(points, reach_px, 1)
    below, above = _sides(points, reach_px, 0)
    normal = np.cross(below - above, right - left)
    length = np.sqrt(np.einsum('hwc,hwc->hw', normal, normal))
    # noise alone can turn it away from the camera: the surface is then seen from its edge
    is_front = np.einsum('hwc,hwc->hw', normal, points) < 0
    is_good = _is_whole(points[..., 2], used, reach_px) & is_front & (length > 0)
    normal *= np.divide(1, length, out=np.zeros_like(length), where=is_good)[..., None]
    return normal


def _sides(points: np.ndarray, reach: int, axis: int):
    """Return the means (H, W, 3) of points after and before each along an axis of the image."""
    size = (1, 2 * reach + 1) if axis else (2 * reach + 1, 1)
    mean = cv2.blur(points, size, borderType=cv2.BORDER_REPLICATE)
    margin = np.zeros((2, 2), int)
    margin[axis] = reach
    padded = cv2.copyMakeBorder(mean, *margin.ravel().tolist(), cv2.BORDER_REPLICATE)
    n = points.shape[axis]
    return (padded[:, 2 * reach:], padded[:, :n]) if axis else (padded[2 * reach:], padded[:n])


def _is_whole(depth: np.ndarray, used: np.ndarray, reach: int) -> np.ndarray:
    """Return (H, W) bool: pixels whose square is all of one surface."""
    inverse = np.divide(1, depth, out=np.zeros_like(depth), where=used)
    off = np.zeros(depth.shape, np.float32)
    for a, b, middle in ((inverse[:, :-2], inverse[:, 2:], np.s_[:, 1:-1]),
                         (inverse[:-2], inverse[2:], np.s_[1:-1])):
        bend = np.abs((a + b) / 2 - inverse[middle])
        off[middle] = np.maximum(off[middle], np.where((a > 0) & (b > 0), bend, 0))
    is_smooth = used & (off <= _JUMP * inverse)
    square = np.ones((2 * reach + 1,) * 2, np.uint8)
    return cv2.erode(is_smooth.astype(np.uint8), square) > 0
