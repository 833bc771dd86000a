"""Which points of a reference are followed: corners where its depth is known and smooth."""

from dataclasses import dataclass
from typing import Optional, Tuple

import cv2
import numpy as np

from ..geometry import se3
from ..geometry.camera import resize_K, unproject
from .flow import is_inside
from .lens import Lens
from .records import Reference
from .settings import TrackingConfig

_SPARE = 4
"""Corners that are kept for each one that is followed: others leave the view."""
_QUALITY = 0.003
"""Weakest corner kept, relative to the strongest."""
_BLOCK_PX = 5
_SMOOTH = 1.15
"""Largest over smallest depth around a point; more is an edge. A floor far away has less."""
_SMOOTH_PX = 5
BESIDE_PX = 5.0
"""Over which the slope of the surface is taken."""
_MAX_SLOPE = 0.1
_CELL_SHARE = 0.08
"""Side of the cells over which points are spread, as a share of the image's width."""


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """Points in odom, with their place in one image, the reference's; best corners first.

    New ones were triangulated on the way (`renewing`), and then the image is a later one.
    """

    uv: np.ndarray                  # (n, 2) f32 px of the reference's working image
    points: np.ndarray              # (n, 3) f64, odom
    beside: np.ndarray              # (n, 2, 3) f64, odom: the surface a few px right and below
    centre: np.ndarray              # (3,) f64, where the reference's camera is, odom
    K: np.ndarray                   # (3, 3) f64 px, the pinhole at the working size
    deviation: np.ndarray           # (n, 3) f64, odom: by one sigma of the depth
    is_new: np.ndarray              # (n,) bool
    T_new: Optional[np.ndarray] = None          # (4, 4) f64, of the image of the newest points
    inherited: Optional[np.ndarray] = None      # (6, 6) f64, covariance of that pose, and theirs

    def __len__(self) -> int:
        return len(self.uv)


def choose(gray: np.ndarray, reference: Reference, lens: Lens, config: TrackingConfig
           ) -> Landmarks:
    """Return the corners of an image (h, w) uint8 whose depth a reference knows; maybe none.

    A point lies on the ray of its corner, so that it fits the image whatever the pinhole.
    """
    size = gray.shape[1], gray.shape[0]
    map_size = reference.confidence.shape[1], reference.confidence.shape[0]
    K = resize_K(reference.K, map_size, size)
    inverse = _smooth_inverse(reference, config.min_confidence)

    def surface(uv):
        flat, _ = lens.rectify(uv)
        return flat, _sampled(inverse, (flat + 0.5) * map_size / np.array(size) - 0.5)
    uv = corners(gray, _SPARE * config.n_points)
    uv = uv[is_inside(uv, gray.shape, config.patch_px // 2 + 2)]
    flat, own = surface(uv)
    known = own > 0
    uv, flat, own = uv[known], flat[known], own[known]
    places = [(flat, own)]
    for step in BESIDE_PX * np.eye(2):
        (ahead, after), (_, before) = surface(uv + step), surface(uv - step)
        slope = np.where((after > 0) & (before > 0), (after - before) / 2, 0)
        places.append((ahead, own + np.clip(slope, -_MAX_SLOPE * own, _MAX_SLOPE * own)))
    points, *beside = (se3.apply(reference.T_odom_camera, unproject(at, 1 / value, K))
                       for at, value in places)
    centre = reference.T_odom_camera[:3, 3]
    return Landmarks(uv, points, np.stack(beside, axis=1), centre, K,
                     config.sigma_log_depth * (points - centre), np.zeros(len(uv), bool))


def spread(uv: np.ndarray, size: Tuple[int, int], n: int, n_taken: int = 0) -> np.ndarray:
    """Return which of some pixels (m, 2), best first, to take so that they cover an image.

    Cells of a grid get one point each, then a second one, and so on, until ``n`` are taken. The
    first ``n_taken`` pixels are taken already and count. Returns indices into the others.
    """
    side = _CELL_SHARE * size[0]
    cell = (np.floor(uv[:, 1] / side) * 1e6 + np.floor(uv[:, 0] / side)).astype(np.int64)
    by_cell = np.argsort(cell, kind='stable')
    first = np.searchsorted(cell[by_cell], cell[by_cell])
    rank = np.empty(len(uv), np.int64)
    rank[by_cell] = np.arange(len(uv)) - first
    fresh = np.argsort(rank[n_taken:], kind='stable')
    return fresh[:max(0, n - n_taken)]


def corners(gray: np.ndarray, n: int, free: Optional[np.ndarray] = None) -> np.ndarray:
    """Return corners (m, 2) f32 after Shi and Tomasi (CVPR 1994), best first.

    Where ``free`` (h, w) uint8 is 0, there are none.
    """
    distance = 0.5 * np.sqrt(gray.size / n)
    found = cv2.goodFeaturesToTrack(gray, n, _QUALITY, max(3.0, distance), mask=free,
                                    blockSize=_BLOCK_PX)
    return np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)


def _sampled(inverse: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Inverse depth (n,) f64 at pixels (n, 2) of the pointmap, 0 where it is unsure.

    It is linear in the image on a plane, so it can be interpolated.
    """
    value = np.zeros(len(at))
    h, w = inverse.shape
    inside = np.flatnonzero(is_inside(at, inverse.shape, 0))
    if not len(inside):
        return value
    at = at[inside].astype(np.float32)
    x, y = np.floor(at).astype(int).T
    corners = [inverse[np.minimum(y + j, h - 1), np.minimum(x + i, w - 1)]
               for j in (0, 1) for i in (0, 1)]
    is_known = np.min(corners, axis=0) > 0
    between = cv2.remap(inverse, at[:, :1], at[:, 1:], cv2.INTER_LINEAR,
                        borderMode=cv2.BORDER_REPLICATE)[:, 0]
    value[inside[is_known]] = between[is_known]
    return value


def _smooth_inverse(reference: Reference, min_confidence: float) -> np.ndarray:
    """Inverse depth (H, W) f32 of a pointmap, 0 where it is unsure or near an edge."""
    z = reference.local_points[..., 2]
    with np.errstate(invalid='ignore'):
        sure = (reference.confidence >= max(min_confidence, 1e-6)) & (z > 0) & (z < np.inf)
    inverse = np.divide(1, z, out=np.zeros(z.shape, np.float32), where=sure)
    kernel = np.ones((_SMOOTH_PX, _SMOOTH_PX), np.uint8)
    low, high = cv2.erode(inverse, kernel), cv2.dilate(inverse, kernel)
    return np.where(high < _SMOOTH * low, inverse, np.float32(0))


def predicted(landmarks: Landmarks, T_odom_camera: np.ndarray, lens: Lens,
              which: Optional[np.ndarray] = None) -> np.ndarray:
    """Return where a camera sees landmarks: px (n, 2) of its working image, NaN where it cannot.
    """
    points = landmarks.points if which is None else landmarks.points[which]
    return _seen_at(points, landmarks.K, T_odom_camera, lens)


def predicted_warp(landmarks: Landmarks, T_odom_camera: np.ndarray, lens: Lens,
                   which: np.ndarray) -> np.ndarray:
    """Return how a camera sees the surroundings of landmarks: the derivative (n, 2, 2) of its
    pixels by those of the reference's image, both as they come; NaN where it cannot.
    """
    places = np.concatenate([landmarks.points[which, None], landmarks.beside[which]], axis=1)
    at = _seen_at(places.reshape(-1, 3), landmarks.K, T_odom_camera, lens).reshape(-1, 3, 2)
    return np.swapaxes(at[:, 1:] - at[:, :1], 1, 2) / BESIDE_PX


def _seen_at(points: np.ndarray, K: np.ndarray, T_odom_camera: np.ndarray, lens: Lens
             ) -> np.ndarray:
    at = se3.apply(se3.inverse(T_odom_camera), points)
    with np.errstate(divide='ignore', invalid='ignore'):
        flat = at[:, :2] / np.where(at[:, 2:] > 0, at[:, 2:], np.nan)
    return lens.distort(flat @ K[:2, :2].T + K[:2, 2])
