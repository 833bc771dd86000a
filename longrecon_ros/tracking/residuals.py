"""How far sightings of points are from what a pose makes them, in their deviations.

Depths are measurements, too. Each point may lie elsewhere on its ray, as far as the deviation of
its depth allows: the depth is an unknown of its own, eliminated as in bundle adjustment (Triggs et
al., Bundle Adjustment: A Modern Synthesis, 2000, 6.1).
"""

from typing import NamedTuple, Optional, Tuple

import numpy as np

from .settings import TrackingConfig

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
    depth: np.ndarray               # (n,)
    is_ahead: np.ndarray            # (n,) bool


def residuals(seen: Sightings, T: np.ndarray, config: TrackingConfig) -> Terms:
    """Return whitened residuals of a pose T_odom_camera, with their derivatives.

    Depths are linearised where they fit the pixels best. Linearised where they were measured, the
    pose is biased by several of its deviations as soon as the camera has moved on.
    """
    R, K, sigma_px = T[:3, :3], seen.K[:2, :2], config.sigma_px * seen.stretch
    deviation = (config.sigma_log_depth * (seen.points - seen.centre) if seen.deviation is None
                 else seen.deviation)
    X, D = (seen.points - T[:3, 3]) @ R, deviation @ R
    depth = X[:, 2]
    is_ahead = depth > 1e-9
    target = seen.uv - seen.K[:2, 2]
    flat, by_depth, iz = _projected(X, D, is_ahead, K)
    linear = r_px = flat - target
    if D.any():
        most = np.minimum(_MOST_SHIFT, (1 - _MIN_DEPTH) * np.abs(depth)
                          / np.maximum(np.abs(D[:, 2]), 1e-300))
        shift = np.clip(-_dot(by_depth, r_px) / (sigma_px**2 + _dot(by_depth, by_depth)),
                        -most, most)
        X = X + shift[:, None] * D
        flat, by_depth, iz = _projected(X, D, is_ahead, K)
        linear = flat - target - shift[:, None] * by_depth
    white, J = _whitened(linear, _by_pose(X, flat, iz, K), sigma_px, by_depth)
    return Terms(np.where(is_ahead[:, None], white, 1e3), J, r_px, depth, is_ahead)


def median(values: np.ndarray) -> float:
    """Return the upper median; several times as fast as numpy's on few values."""
    return float(np.sort(values)[len(values) // 2])


def _projected(X: np.ndarray, D: np.ndarray, is_ahead: np.ndarray, K: np.ndarray
               ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels (n, 2) of points (n, 3), off the centre, and their derivatives along D (n, 3).

    Comes with the inverse depths (n, 1). ``K`` (2, 2) is the camera matrix without its last row
    and column.
    """
    iz = 1.0 / np.where(is_ahead, X[:, 2], 1.0)[:, None]
    flat = (X[:, :2] * iz) @ K.T
    return flat, (D[:, :2] @ K.T - flat * D[:, 2:]) * iz, iz


def _by_pose(X: np.ndarray, flat: np.ndarray, iz: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return the derivatives (n, 2, 6) of pixels by xi of T exp(xi).

    With x = X / Z: du/dX = fx / Z (1, s, -(x + s y)), and X moves by -v + X x w.
    """
    J = np.empty((len(X), 2, 6))
    J[:, :, :2] = -K * iz[:, :, None]
    J[:, :, 2] = flat * iz
    x, y, z = X[:, 0, None], X[:, 1, None], X[:, 2, None]
    J[:, :, 3] = J[:, :, 2] * y - J[:, :, 1] * z
    J[:, :, 4] = J[:, :, 0] * z - J[:, :, 2] * x
    J[:, :, 5] = J[:, :, 1] * x - J[:, :, 0] * y
    return J


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1]


def _whitened(r: np.ndarray, J: np.ndarray, sigma: np.ndarray, b: np.ndarray
              ) -> Tuple[np.ndarray, np.ndarray]:
    """Multiply with the root of the inverse of sigma^2 I + b b^T (n, 2, 2), in closed form."""
    square = _dot(b, b)
    shrink = 1 - sigma / np.sqrt(sigma**2 + square)
    factor = (shrink / np.maximum(square, 1e-300))[:, None] * b
    r = r - factor * _dot(b, r)[:, None]
    J = J - factor[:, :, None] * (b[:, :1] * J[:, 0] + b[:, 1:] * J[:, 1])[:, None]
    return r / sigma[:, None], J / sigma[:, None, None]
