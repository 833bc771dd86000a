"""From pixels of the image as it came to those of the image without distortion, and back."""

from typing import Tuple

import cv2
import numpy as np

from ..geometry.camera import resize_K
from .records import Camera

_N_NEWTON = 4
_STEP_PX = 1e-3
_MISMATCH_PX = 0.02
_LEAST_SHRINK = 1e-3
"""A pixel whose ray does not come back to it to within the first, or where the image shrinks to
less than the second of its area, lies where the model folds over or has no plane to go to."""
_MAX_TANGENT = 20.0
"""Rays further off the axis have no place in a plane: a pinhole's image ends before."""


class Lens:
    """The lens of one camera for images of one size; points are (n, 2) px of that size.

    Both images have the same K, as in `preprocess.rectify`. The inverse of the distortion is
    OpenCV's, polished by Newton steps: alone it is off by up to 0.5 px in the corners.
    """

    def __init__(self, camera: Camera, size0: Tuple[int, int], size: Tuple[int, int]):
        """Take the calibration of images of ``size0`` for work on them at ``size`` (w, h)."""
        self.size = size
        is_fisheye = camera.distortion_model == 'equidistant'
        self._is_plain = camera.distortion is None or not (camera.distortion.any() or is_fisheye)
        if self._is_plain:
            return
        self._K, self._distortion = resize_K(camera.K, size0, size), camera.distortion
        self._is_fisheye = is_fisheye
        edge = self.rectify(_border(size))[0]
        edge = edge[np.isfinite(edge).all(axis=1)]
        self._low, self._high = ((edge.min(axis=0), edge.max(axis=0)) if len(edge)
                                 else (np.zeros(2), np.zeros(2)))

    def rectify(self, uv: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return pixels of the rectified image (n, 2) f64, and how far it is stretched there (n,).

        NaN where the lens model has no inverse.
        """
        uv = np.asarray(uv, np.float64)
        if self._is_plain or not len(uv):
            return uv.copy(), np.ones(len(uv))
        flat = self._undistort(uv)
        for _ in range(_N_NEWTON):
            there, J = self._linear(flat)
            flat = flat + _solved(J, uv - there)
        there, J = self._linear(flat)
        with np.errstate(invalid='ignore'):
            shrink = J[:, 0, 0] * J[:, 1, 1] - J[:, 0, 1] * J[:, 1, 0]
            is_true = (np.abs(there - uv).max(axis=1) < _MISMATCH_PX) & (shrink > _LEAST_SHRINK)
        return (np.where(is_true[:, None], flat, np.nan),
                1 / np.sqrt(np.where(is_true, shrink, np.nan)))

    def distort(self, uv: np.ndarray) -> np.ndarray:
        """Return pixels of the image as it came (n, 2) f64; NaN where the lens does not look."""
        uv = np.asarray(uv, np.float64)
        if self._is_plain or not len(uv):
            return uv.copy()
        with np.errstate(invalid='ignore'):
            is_seen = ((uv >= self._low) & (uv <= self._high)).all(axis=1)
        return np.where(is_seen[:, None], self._distort(uv), np.nan)

    def _linear(self, flat: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Distorted pixels (n, 2), and their derivatives (n, 2, 2) by the rectified ones."""
        places = flat + np.array([(0, 0), (_STEP_PX, 0), (0, _STEP_PX)])[:, None]
        there = self._distort(places.reshape(-1, 2)).reshape(3, -1, 2)
        return there[0], np.stack([there[1] - there[0], there[2] - there[0]], axis=2) / _STEP_PX

    def _undistort(self, uv: np.ndarray) -> np.ndarray:
        undistort = cv2.fisheye.undistortPoints if self._is_fisheye else cv2.undistortPoints
        flat = undistort(uv[:, None], self._K, self._distortion)[:, 0]
        is_near = (np.abs(flat) < _MAX_TANGENT).all(axis=1)
        return _pixels(np.where(is_near[:, None], flat, np.nan), self._K)

    def _distort(self, uv: np.ndarray) -> np.ndarray:
        K, n = self._K, len(uv)
        y = (uv[:, 1] - K[1, 2]) / K[1, 1]
        x = (uv[:, 0] - K[0, 2] - K[0, 1] * y) / K[0, 0]
        if self._is_fisheye:
            return _pixels(_equidistant(np.stack([x, y], axis=1), self._distortion), K)
        rays = np.stack([x, y, np.ones(n)], axis=1)
        flat = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), self._distortion)[0]
        return _pixels(flat.reshape(n, 2), K)


def _equidistant(xy: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Kannala and Brandt (PAMI 2006): the radius is a polynomial of the angle off the axis."""
    r = np.hypot(xy[:, 0], xy[:, 1])
    angle = np.arctan(r)
    s = angle * angle
    bent = angle * (1 + s * (k[0] + s * (k[1] + s * (k[2] + s * k[3]))))
    return xy * np.where(r > 1e-9, bent / np.maximum(r, 1e-9), 1.0)[:, None]


def _solved(J: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return x (n, 2) of J x = b; large or no numbers where J (n, 2, 2) is singular."""
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        det = J[:, 0, 0] * J[:, 1, 1] - J[:, 0, 1] * J[:, 1, 0]
        x = np.stack([J[:, 1, 1] * b[:, 0] - J[:, 0, 1] * b[:, 1],
                      J[:, 0, 0] * b[:, 1] - J[:, 1, 0] * b[:, 0]], axis=1) / det[:, None]
    return np.where(np.abs(x) < 1e6, x, np.nan)


def _pixels(xy: np.ndarray, K: np.ndarray) -> np.ndarray:
    return xy @ K[:2, :2].T + K[:2, 2]


def _border(size: Tuple[int, int]) -> np.ndarray:
    """Return pixels (n, 2) along the four sides of an image."""
    w, h = size
    x, y = np.linspace(0, w - 1, 33), np.linspace(0, h - 1, 33)
    return np.concatenate([np.stack(np.broadcast_arrays(*side), axis=1) for side in
                           ((x, 0.0), (x, h - 1.0), (0.0, y), (w - 1.0, y))])
