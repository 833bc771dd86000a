"""The pose of one camera from points in odom, and how sure it is.

Gauss-Newton on whitened residuals with redescending weights (Geman and McClure 1985), on inliers
alone at the end. The covariance is the inverse of the information that the inliers give, times
the variance of their residuals (Hartley and Zisserman, Multiple View Geometry, 5.2).
"""

from dataclasses import dataclass
from typing import NamedTuple, Optional

import cv2
import numpy as np

from ..geometry import se3
from .settings import TrackingConfig

_N_ROBUST, _N_FINAL = 8, 3
_SMALL_STEP = 2e-4
"""In radians, or median depths: the next one would be far smaller."""
_GATE = 3.0
"""Inliers are within this many deviations."""
_RAYLEIGH_MEDIAN = 1.1774
"""Median of the length of a 2-D normal vector of unit variance."""
_MIN_RAW = 0.5
"""Share of inliers below which the guess is not trusted and the pose sought anew."""
_LEAST_VARIANCE = 0.04
"""Of whitened residuals: fewer points than needed to tell may agree better by chance."""
_CORRELATION = 2.0
"""Neighbouring patches err alike: the information counts this many times less."""


class Sightings(NamedTuple):
    """What one image says: where it shows which points."""

    points: np.ndarray              # (n, 3) f64, odom
    uv: np.ndarray                  # (n, 2) f64 px of the rectified working image
    stretch: np.ndarray             # (n,) f64, rectified px per px of the image as it came
    centre: np.ndarray              # (3,) f64, the reference's camera, odom
    K: np.ndarray                   # (3, 3) f64 px
    deviation: Optional[np.ndarray] = None      # (n, 3) f64, odom; None: `sigma_log_depth`


@dataclass(frozen=True, slots=True, eq=False)
class PoseFit:
    """A pose with what speaks for it."""

    T_odom_camera: np.ndarray       # (4, 4) f64
    covariance: np.ndarray          # (6, 6) f64, see `records.TrackedPose`
    is_inlier: np.ndarray           # (n,) bool
    rmse_px: float                  # of the inliers
    misfit_px: float                # as rmse_px, but of what the depths' deviations do not explain
    depth: float                    # median over the inliers, odom units


class _Terms(NamedTuple):
    r: np.ndarray                   # (n, 2) whitened residuals
    J: np.ndarray                   # (n, 2, 6) their derivatives by the pose
    error_px: np.ndarray            # (n,)
    depth: np.ndarray               # (n,)
    is_ahead: np.ndarray            # (n,) bool


def locate(seen: Sightings, guess: np.ndarray, config: TrackingConfig) -> Optional[PoseFit]:
    """Return the pose (T_odom_camera) that most sightings agree with, near ``guess`` or anywhere.

    None where there is none or it is not determined.
    """
    if len(seen.points) < config.min_inliers:
        return None
    fit = _refined(seen, guess, config)
    if fit is None or fit.is_inlier.mean() < _MIN_RAW or fit.misfit_px > config.max_rmse_px:
        other = _anew(seen, config)
        again = None if other is None else _refined(seen, other, config)
        if again is not None and (fit is None
                                  or again.misfit_px <= config.max_rmse_px < fit.misfit_px
                                  or again.is_inlier.sum() > fit.is_inlier.sum()):
            fit = again
    return fit


def _refined(seen: Sightings, T: np.ndarray, config: TrackingConfig) -> Optional[PoseFit]:
    terms, width = _terms(seen, T, config), np.inf
    for _ in range(_N_ROBUST):
        length = np.hypot(terms.r[:, 0], terms.r[:, 1])
        width = max(_GATE, min(width, 1.5 * _median(length)))
        weight = np.where(terms.is_ahead, (1 + (length / width) ** 2) ** -2, 0.0)
        T, step = _stepped(T, terms, weight)
        if T is None:
            return None
        terms = _terms(seen, T, config)
        if step < _SMALL_STEP and width == _GATE:
            break
    for _ in range(_N_FINAL):
        is_inlier = _inliers(terms)
        if np.count_nonzero(is_inlier) < config.min_inliers:
            return None
        T, step = _stepped(T, terms, is_inlier.astype(np.float64))
        if T is None:
            return None
        terms = _terms(seen, T, config)
        if step < _SMALL_STEP:
            break
    return _judged(seen, T, terms, config)


def _judged(seen: Sightings, T: np.ndarray, terms: _Terms, config: TrackingConfig
            ) -> Optional[PoseFit]:
    is_inlier = _inliers(terms)
    n = int(is_inlier.sum())
    if n < config.min_inliers:
        return None
    J = terms.J[is_inlier].reshape(-1, 6)
    variance = float((terms.r[is_inlier] ** 2).sum() / (2 * n - 6))
    try:
        covariance = np.linalg.inv(J.T @ J) * max(variance, _LEAST_VARIANCE) * _CORRELATION
    except np.linalg.LinAlgError:
        return None
    if not (np.diag(covariance) > 0).all():
        return None
    # a common factor on all depths scales the way from the reference, and changes nothing else
    way = T[:3, :3].T @ (T[:3, 3] - seen.centre) * config.sigma_log_scale
    covariance[:3, :3] += np.outer(way, way)
    return PoseFit(T, (covariance + covariance.T) / 2, is_inlier,
                   float(np.sqrt((terms.error_px[is_inlier] ** 2).mean())),
                   config.sigma_px * float(np.sqrt((terms.r[is_inlier] ** 2).sum() / n)),
                   _median(terms.depth[is_inlier]))


def _inliers(terms: _Terms) -> np.ndarray:
    length = np.hypot(terms.r[:, 0], terms.r[:, 1])
    deviation = max(1.0, _median(length) / _RAYLEIGH_MEDIAN)
    return terms.is_ahead & (length < _GATE * deviation)


def _stepped(T: np.ndarray, terms: _Terms, weight: np.ndarray):
    """One Gauss-Newton step: the pose, and the largest part of the step; None where it fails."""
    J, r = terms.J.reshape(-1, 6), terms.r.ravel()
    JW = J * np.repeat(weight, 2)[:, None]
    H = JW.T @ J
    H[np.diag_indices(6)] *= 1 + 1e-9
    try:
        step = -np.linalg.solve(H, JW.T @ r)
    except np.linalg.LinAlgError:
        return None, np.inf
    if not np.isfinite(step).all() or not terms.is_ahead.any() or np.abs(step[3:]).max() > 1.0:
        return None, np.inf
    way = np.abs(step[:3]).max() / _median(terms.depth[terms.is_ahead])
    # equal to exp(step) to first order, and many times as fast
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = cv2.Rodrigues(step[3:])[0], step[:3]
    return T @ moved, max(float(way), float(np.abs(step[3:]).max()))


def _median(values: np.ndarray) -> float:
    """The upper median; several times as fast as numpy's on few values."""
    return float(np.sort(values)[len(values) // 2])


def _terms(seen: Sightings, T: np.ndarray, config: TrackingConfig) -> _Terms:
    """Whitened residuals of a pose, with their derivatives by xi of T exp(xi).

    With x = X / Z: du/dX_c = fx / Z (1, s, -(x + s y)), and X_c moves by -v + X_c x w.
    """
    R, K = T[:3, :3], seen.K
    X = (seen.points - T[:3, 3]) @ R
    is_ahead = X[:, 2] > 1e-9
    iz = 1.0 / np.where(is_ahead, X[:, 2], 1.0)
    xy = X[:, :2] * iz[:, None]
    r = xy @ K[:2, :2].T + K[:2, 2] - seen.uv
    A = np.empty((len(X), 2, 3))
    A[:, :, :2] = K[:2, :2] * iz[:, None, None]
    A[:, :, 2] = -(xy @ K[:2, :2].T) * iz[:, None]
    J = np.empty((len(X), 2, 6))
    J[:, :, :3] = -A
    x, y, z = X[:, 0, None], X[:, 1, None], X[:, 2, None]
    J[:, :, 3] = A[:, :, 1] * z - A[:, :, 2] * y
    J[:, :, 4] = A[:, :, 2] * x - A[:, :, 0] * z
    J[:, :, 5] = A[:, :, 0] * y - A[:, :, 1] * x
    error_px = np.hypot(r[:, 0], r[:, 1])
    # of the depth along the ray of the camera that measured it
    deviation = (config.sigma_log_depth * (seen.points - seen.centre)
                 if seen.deviation is None else seen.deviation)
    by_depth = np.einsum('nij,nj->ni', A, deviation @ R)
    r, J = _whitened(r, J, config.sigma_px * seen.stretch, by_depth)
    return _Terms(np.where(is_ahead[:, None], r, 1e3), J, error_px, X[:, 2], is_ahead)


def _whitened(r: np.ndarray, J: np.ndarray, sigma: np.ndarray, b: np.ndarray):
    """Multiply with the root of the inverse of sigma^2 I + b b^T (n, 2, 2), in closed form."""
    square = (b * b).sum(axis=1)
    shrink = 1 - sigma / np.sqrt(sigma**2 + square)
    factor = (shrink / np.maximum(square, 1e-300))[:, None] * b
    r = r - factor * (b * r).sum(axis=1, keepdims=True)
    J = J - factor[..., None] * np.einsum('ni,nij->nj', b, J)[:, None]
    return r / sigma[:, None], J / sigma[:, None, None]


def _anew(seen: Sightings, config: TrackingConfig) -> Optional[np.ndarray]:
    """The pose from nothing: P3P (Gao et al., PAMI 2003) in RANSAC, a fourth of EPnP's time."""
    K = seen.K
    y = (seen.uv[:, 1] - K[1, 2]) / K[1, 1]
    x = (seen.uv[:, 0] - K[0, 2] - K[0, 1] * y) / K[0, 0]
    # large coordinates cost digits
    origin = np.median(seen.points, axis=0)
    try:
        found, rvec, tvec, _ = cv2.solvePnPRansac(
            seen.points - origin, np.stack([x, y], axis=1), np.eye(3), None, iterationsCount=100,
            reprojectionError=2 * _GATE * config.sigma_px / K[0, 0], flags=cv2.SOLVEPNP_P3P)
    except cv2.error:                   # degenerate points: some versions fail by assertion
        return None
    if not found or not np.isfinite(tvec).all() or not np.isfinite(rvec).all():
        return None
    T_camera_odom = se3.from_parts(cv2.Rodrigues(rvec)[0], tvec[:, 0])
    T = se3.inverse(T_camera_odom)
    T[:3, 3] += origin
    return T
