"""How far sightings of points are from what a pose makes them, in their deviations.

Depths are measurements, too. Each point may lie elsewhere on its ray, as far as the deviation of
its depth allows: the depth is an unknown of its own, eliminated as in bundle adjustment (Triggs et
al., Bundle Adjustment: A Modern Synthesis, 2000, 6.1).
"""

from typing import NamedTuple, Optional, Tuple

import numpy as np

from .settings import TrackingConfig

_NORMAL_MEDIAN = 0.6745
"""Median of the size of a normal value of unit variance."""
_MOST_NOISE = 10.0
_MIN_SHIFT = 0.5
"""Deviations in the image by which a depth's deviation moves a point that tells about it."""
_MOST_SHIFT, _MIN_DEPTH = 3.0, 0.2
"""Deviations by which a depth may be wrong, and what share must be left of it in any camera."""


class Sightings(NamedTuple):
    """What one image says: where it shows which points."""

    points: np.ndarray              # (n, 3) f64, odom
    uv: np.ndarray                  # (n, 2) f64 px of the rectified working image
    stretch: np.ndarray             # (n,) f64, rectified px per px of the image as it came
    centre: np.ndarray              # (3,) f64, the reference's camera, odom
    K: np.ndarray                   # (3, 3) f64 px
    deviation: Optional[np.ndarray] = None      # (n, 3) f64, odom; None: `sigma_log_depth`


class Terms(NamedTuple):
    """What each sighting says about a pose."""

    r: np.ndarray                   # (n, 2) whitened residuals
    J: np.ndarray                   # (n, 2, 6) their derivatives by the pose
    r_px: np.ndarray                # (n, 2) residuals with depths as measured
    linear_px: np.ndarray           # (n, 2) the same as far as the depth's shift is linear
    by_depth_px: np.ndarray         # (n, 2) what one deviation of the depth moves a point by
    depth: np.ndarray               # (n,)
    is_ahead: np.ndarray            # (n,) bool


def residuals(seen: Sightings, T: np.ndarray, config: TrackingConfig) -> Terms:
    """Return whitened residuals of a pose T_odom_camera, with their derivatives.

    Depths are linearised where they fit the pixels best. Linearised where they were measured, the
    pose is biased by several of its deviations as soon as the camera has moved on.
    """
    R, sigma_px = T[:3, :3], config.sigma_px * seen.stretch
    X, D = (seen.points - T[:3, 3]) @ R, _deviation(seen, config) @ R
    depth = X[:, 2]
    is_ahead = depth > 1e-9
    A, r_px = _projected(X, is_ahead, seen)
    linear, by_depth = r_px, np.einsum('nij,nj->ni', A, D)
    if D.any():
        most = np.minimum(_MOST_SHIFT, (1 - _MIN_DEPTH) * np.abs(depth)
                          / np.maximum(np.abs(D[:, 2]), 1e-300))
        shift = np.clip(-(by_depth * r_px).sum(axis=1)
                        / (sigma_px**2 + (by_depth**2).sum(axis=1)), -most, most)
        X = X + shift[:, None] * D
        A, r = _projected(X, is_ahead, seen)
        by_depth = np.einsum('nij,nj->ni', A, D)
        linear = r - shift[:, None] * by_depth
    white, J = _whitened(linear, _by_pose(A, X), sigma_px, by_depth)
    return Terms(np.where(is_ahead[:, None], white, 1e3), J, r_px, linear, by_depth, depth,
                 is_ahead)


def depth_noise(terms: Terms, sigma_px: np.ndarray, n_least: int) -> float:
    """Return how many times as large as expected the deviation of the depths is, 1 or more.

    Residuals along the shift by depth tell, once what ``sigma_px`` (n,) makes is taken off. It is
    a median over all points where the shift shows, whether they agree with the pose or not.
    """
    square = (terms.by_depth_px**2).sum(axis=1)
    shows = terms.is_ahead & (square > (_MIN_SHIFT * sigma_px) ** 2)
    if np.count_nonzero(shows) < n_least:
        return 1.0
    square = square[shows]
    along = (terms.by_depth_px[shows] * terms.linear_px[shows]).sum(axis=1) / square
    variance = (median(np.abs(along)) / _NORMAL_MEDIAN) ** 2 - median(sigma_px[shows]**2 / square)
    return float(np.clip(np.sqrt(max(variance, 0.0)), 1.0, _MOST_NOISE))


def with_deviation(seen: Sightings, factor: float, config: TrackingConfig) -> Sightings:
    """Return the sightings with so many times the deviations of the depths."""
    return seen._replace(deviation=factor * _deviation(seen, config))


def median(values: np.ndarray) -> float:
    """Return the upper median; several times as fast as numpy's on few values."""
    return float(np.sort(values)[len(values) // 2])


def _deviation(seen: Sightings, config: TrackingConfig) -> np.ndarray:
    return (config.sigma_log_depth * (seen.points - seen.centre) if seen.deviation is None
            else seen.deviation)


def _projected(X: np.ndarray, is_ahead: np.ndarray, seen: Sightings
               ) -> Tuple[np.ndarray, np.ndarray]:
    """Return the derivatives (n, 2, 3) of the pixels of points (n, 3) by them, and residuals, px.

    With x = X / Z: du/dX = fx / Z (1, s, -(x + s y)).
    """
    K = seen.K
    iz = 1.0 / np.where(is_ahead, X[:, 2], 1.0)
    flat = (X[:, :2] * iz[:, None]) @ K[:2, :2].T
    A = np.empty((len(X), 2, 3))
    A[:, :, :2] = K[:2, :2] * iz[:, None, None]
    A[:, :, 2] = -flat * iz[:, None]
    return A, flat + K[:2, 2] - seen.uv


def _by_pose(A: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Return the derivatives (n, 2, 6) by xi of T exp(xi): X moves by -v + X x w."""
    J = np.empty((len(X), 2, 6))
    J[:, :, :3] = -A
    x, y, z = X[:, 0, None], X[:, 1, None], X[:, 2, None]
    J[:, :, 3] = A[:, :, 1] * z - A[:, :, 2] * y
    J[:, :, 4] = A[:, :, 2] * x - A[:, :, 0] * z
    J[:, :, 5] = A[:, :, 0] * y - A[:, :, 1] * x
    return J


def _whitened(r: np.ndarray, J: np.ndarray, sigma: np.ndarray, b: np.ndarray
              ) -> Tuple[np.ndarray, np.ndarray]:
    """Multiply with the root of the inverse of sigma^2 I + b b^T (n, 2, 2), in closed form."""
    square = (b * b).sum(axis=1)
    shrink = 1 - sigma / np.sqrt(sigma**2 + square)
    factor = (shrink / np.maximum(square, 1e-300))[:, None] * b
    r = r - factor * (b * r).sum(axis=1, keepdims=True)
    J = J - factor[..., None] * np.einsum('ni,nij->nj', b, J)[:, None]
    return r / sigma[:, None], J / sigma[:, None, None]
