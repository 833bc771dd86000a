"""The pose of one camera from points in odom, and how sure it is.

Gauss-Newton on whitened residuals with redescending weights (Geman and McClure 1985), on inliers
alone at the end. The covariance is the inverse of the information that the inliers give, times
the variance of their residuals (Hartley and Zisserman, Multiple View Geometry, 5.2).

Points far away, all about as far, hardly tell a way from a turn: small errors that they share
move the pose by many of its deviations. There the expected place has a say (`Prior`).
"""

from dataclasses import dataclass
from typing import NamedTuple, Optional

import cv2
import numpy as np

from ..geometry import se3
from .residuals import median, residuals, Sightings, Terms
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


class Prior(NamedTuple):
    """Where the camera should be: a pose whose place is known to about ``sigma``."""

    T_odom_camera: np.ndarray       # (4, 4) f64
    sigma: float                    # deviation along each axis, median depths


@dataclass(frozen=True, slots=True, eq=False)
class PoseFit:
    """A pose with what speaks for it."""

    T_odom_camera: np.ndarray       # (4, 4) f64
    covariance: np.ndarray          # (6, 6) f64, see `records.TrackedPose`
    is_inlier: np.ndarray           # (n,) bool
    rmse_px: float                  # of the inliers
    misfit_px: float                # as rmse_px, but of what the depths' deviations do not explain
    depth: float                    # median over the inliers, odom units


def locate(seen: Sightings, guess: np.ndarray, config: TrackingConfig,
           prior: Optional[Prior] = None) -> Optional[PoseFit]:
    """Return the pose (T_odom_camera) that most sightings agree with, near ``guess`` or anywhere.

    None where there is none or it is not determined. The covariance is that of the sightings,
    without the ``prior``.
    """
    if len(seen.points) < config.min_inliers:
        return None
    fit = _refined(seen, guess, config, prior)
    if fit is None or fit.is_inlier.mean() < _MIN_RAW or fit.misfit_px > config.max_rmse_px:
        other = _anew(seen, config)
        again = None if other is None else _refined(seen, other, config, prior)
        if again is not None and (fit is None
                                  or again.misfit_px <= config.max_rmse_px < fit.misfit_px
                                  or again.is_inlier.sum() > fit.is_inlier.sum()):
            fit = again
    return fit


def _refined(seen: Sightings, T: np.ndarray, config: TrackingConfig, prior: Optional[Prior]
             ) -> Optional[PoseFit]:
    terms, width = residuals(seen, T, config), np.inf
    for _ in range(_N_ROBUST):
        length = np.hypot(terms.r[:, 0], terms.r[:, 1])
        width = max(_GATE, min(width, 1.5 * median(length)))
        weight = np.where(terms.is_ahead, (1 + (length / width) ** 2) ** -2, 0.0)
        T, step = _stepped(T, terms, weight, prior)
        if T is None:
            return None
        terms = residuals(seen, T, config)
        if step < _SMALL_STEP and width == _GATE:
            break
    for _ in range(_N_FINAL):
        is_inlier = _inliers(terms)
        if np.count_nonzero(is_inlier) < config.min_inliers:
            return None
        T, step = _stepped(T, terms, is_inlier.astype(np.float64), prior)
        if T is None:
            return None
        terms = residuals(seen, T, config)
        if step < _SMALL_STEP:
            break
    return _judged(seen, T, terms, config)


def _judged(seen: Sightings, T: np.ndarray, terms: Terms, config: TrackingConfig
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
                   float(np.sqrt((terms.r_px[is_inlier] ** 2).sum(axis=1).mean())),
                   config.sigma_px * float(np.sqrt((terms.r[is_inlier] ** 2).sum() / n)),
                   median(terms.depth[is_inlier]))


def _inliers(terms: Terms) -> np.ndarray:
    length = np.hypot(terms.r[:, 0], terms.r[:, 1])
    deviation = max(1.0, median(length) / _RAYLEIGH_MEDIAN)
    return terms.is_ahead & (length < _GATE * deviation)


def _stepped(T: np.ndarray, terms: Terms, weight: np.ndarray, prior: Optional[Prior]):
    """One Gauss-Newton step: the pose, and the largest part of the step; None where it fails."""
    J, r = terms.J.reshape(-1, 6), terms.r.ravel()
    JW = J * np.repeat(weight, 2)[:, None]
    H, g = JW.T @ J, JW.T @ r
    H[np.diag_indices(6)] *= 1 + 1e-9
    if not terms.is_ahead.any():
        return None, np.inf
    depth = median(terms.depth[terms.is_ahead])
    if prior is not None:
        information = 1 / (prior.sigma * depth) ** 2
        H[[0, 1, 2], [0, 1, 2]] += information
        g[:3] += information * (T[:3, 3] - prior.T_odom_camera[:3, 3]) @ T[:3, :3]
    try:
        step = -np.linalg.solve(H, g)
    except np.linalg.LinAlgError:
        return None, np.inf
    if not np.isfinite(step).all() or np.abs(step[3:]).max() > 1.0:
        return None, np.inf
    way = np.abs(step[:3]).max() / depth
    # equal to exp(step) to first order, and many times as fast
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = cv2.Rodrigues(step[3:])[0], step[:3]
    return T @ moved, max(float(way), float(np.abs(step[3:]).max()))


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
