"""Similarity or rigid transform between paired points, in closed form and robustly."""

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from ..errors import AlignmentError
from .sim3 import Sim3

_MIN_POINTS = 3
_COLLINEAR = 1e-10      # ratio of the two largest singular values; floats in f32 reach 1e-14
_N_STARTS = 64          # triples tried for the start: all bad with p = 2e-4 at 50 % outliers
_N_SCORED = 512         # points that judge a triple
_CHI3_MEDIAN = 1.538    # median length of a 3D normal vector of unit deviation


@dataclass(frozen=True, slots=True, eq=False)
class RobustFit:
    """A robust estimate: the transform and how well it explains the points."""

    T_target_source: Sim3
    is_inlier: np.ndarray                   # (P,) bool, within 3 robust deviations
    rmse: float                             # of the inliers, target units
    sigma: float                            # robust deviation a coordinate, target units


def umeyama(source: np.ndarray, target: np.ndarray, weights=None,
            with_scale: bool = True) -> Sim3:
    """Return T_target_source that minimises the weighted sum of squared distances.

    ``source`` and ``target`` are (P, 3), ``weights`` (P,) >= 0 or None; without scale the
    transform is rigid (Umeyama 1991, eq. 34 to 43, with weighted moments). Raises ValueError for
    wrong shapes or values that are not finite, AlignmentError when fewer than 3 points have
    weight or when they are collinear.
    """
    source, target, weights = _check(source, target, weights)
    scale, R, t, singular = _solve(source, target, weights, with_scale)
    if not singular[1] > _COLLINEAR * singular[0]:
        raise AlignmentError(f'the {np.count_nonzero(weights)} paired points lie on one line or '
                             'in one place, so they fix no rotation; give a window with more '
                             'structure or a larger overlap')
    return Sim3(float(scale), R, t)


def umeyama_batch(source: np.ndarray, target: np.ndarray
                  ) -> Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return scale (B,), R (B, 3, 3), t (B, 3) of many small problems, and which are sound (B,).

    ``source`` and ``target`` are (B, P, 3), finite; as `umeyama` without weights. A problem whose
    points lie on a line or in one place is not sound.
    """
    scale, R, t, singular = _solve(source, target, np.ones(source.shape[:2]), True)
    return scale, R, t, (singular[:, 1] > _COLLINEAR * singular[:, 0]) & (scale > 0)


def similarity_scale(source: np.ndarray, target: np.ndarray) -> float:
    """Return the scale of `umeyama` alone, which exists for points on a line, too.

    ``source`` and ``target`` are (P, 3), finite, P at least 2. 0 for targets in one place; NaN
    for sources in one place.
    """
    source_0, target_0 = source - source.mean(axis=0), target - target.mean(axis=0)
    covariance = target_0.T @ source_0
    singular = np.linalg.svd(covariance, compute_uv=False)
    singular[2] *= -1.0 if np.linalg.det(covariance) < 0 else 1.0
    variance = float((source_0**2).sum())
    return float(singular.sum()) / variance if variance > 0 else np.nan


def robust_umeyama(source: np.ndarray, target: np.ndarray, weights=None, with_scale: bool = True,
                   loss: str = 'cauchy', n_iterations: int = 20) -> RobustFit:
    """Return the M-estimate of T_target_source by iteratively reweighted least squares.

    Arguments and errors as in `umeyama`; ``loss`` is ``cauchy`` or ``huber``. The start is the
    best of 64 three-point solutions by median residual (Rousseeuw 1984), so that up to about
    half of the pairs may be wrong; the deviation is re-estimated from the median residual in
    each iteration. Deterministic. A residual counts in units of ``1 / sqrt(weight)``: weights
    are inverse variances up to a common factor.
    """
    if loss not in _LOSSES:
        raise ValueError(f'loss: expected one of {sorted(_LOSSES)}, got {loss!r}')
    source, target, weights = _check(source, target, weights)
    root = np.sqrt(weights / weights[weights > 0].mean())
    floor = 1e-9 * (1.0 + np.ptp(target[weights > 0], axis=0).max())
    T = _median_start(source, target, root, with_scale)
    sigma = np.inf
    for _ in range(n_iterations):
        residual = root * np.linalg.norm(target - T.apply(source), axis=1)
        sigma_before, sigma = sigma, max(_deviation(residual, root), floor)
        T = umeyama(source, target, weights * _LOSSES[loss](residual / sigma), with_scale)
        if abs(sigma_before - sigma) < 1e-4 * sigma:
            break
    distance = np.linalg.norm(target - T.apply(source), axis=1)
    sigma = max(_deviation(root * distance, root), floor)
    is_inlier = (root * distance < 3.0 * np.sqrt(3.0) * sigma) & (weights > 0)
    rmse = float(np.sqrt(np.mean(distance[is_inlier]**2))) if is_inlier.any() else np.inf
    return RobustFit(T, is_inlier, rmse, float(sigma))


def _cauchy(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + (x / 2.385)**2)


def _huber(x: np.ndarray) -> np.ndarray:
    return 1.345 / np.maximum(x, 1.345)


_LOSSES = {'cauchy': _cauchy, 'huber': _huber}      # constants: 95 % efficiency


def _deviation(residual: np.ndarray, root: np.ndarray) -> float:
    return float(np.median(residual[root > 0])) / _CHI3_MEDIAN


def _median_start(source, target, root, with_scale: bool) -> Sim3:
    """Return the three-point solution with the least median residual, of 64 random triples."""
    candidates = np.flatnonzero(root > 0)
    rng = np.random.default_rng(0)
    triples = candidates[rng.integers(len(candidates), size=(_N_STARTS, _MIN_POINTS))]
    scale, R, t, singular = _solve(source[triples], target[triples],
                                   np.ones(triples.shape), with_scale)
    scored = candidates[rng.permutation(len(candidates))[:_N_SCORED]]
    moved = scale[:, None, None] * (source[scored] @ np.swapaxes(R, -1, -2)) + t[:, None]
    residual = root[scored] * np.linalg.norm(target[scored] - moved, axis=-1)
    cost = np.median(residual, axis=1)
    cost[~(singular[:, 1] > _COLLINEAR * singular[:, 0]) | ~(scale > 0)] = np.inf
    best = int(np.argmin(cost))
    if not np.isfinite(cost[best]):
        return umeyama(source, target, root**2, with_scale)
    return Sim3(float(scale[best]), R[best], t[best])


def _solve(source, target, weights, with_scale: bool):
    """Return scale (...,), R (..., 3, 3), t (..., 3) and the singular values (..., 3).

    Points are (..., P, 3), weights (..., P).
    """
    w = (weights / weights.sum(axis=-1, keepdims=True))[..., None]
    mean_source, mean_target = (w * source).sum(axis=-2), (w * target).sum(axis=-2)
    source_0, target_0 = source - mean_source[..., None, :], target - mean_target[..., None, :]
    U, singular, Vt = np.linalg.svd(np.swapaxes(target_0, -1, -2) @ (w * source_0))
    signs = np.ones(singular.shape)
    signs[..., 2] = np.where(np.linalg.det(U @ Vt) < 0, -1.0, 1.0)
    R = (U * signs[..., None, :]) @ Vt
    variance = (w * source_0**2).sum(axis=(-2, -1))
    scale = np.ones(variance.shape)
    if with_scale:
        scale = (singular * signs).sum(axis=-1) / np.maximum(variance, np.finfo(float).tiny)
    t = mean_target - scale[..., None] * (R @ mean_source[..., None])[..., 0]
    return scale, R, t, singular


def _check(source, target, weights):
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.ndim != 2 or source.shape[1] != 3 or source.shape != target.shape:
        raise ValueError('source, target: expected two arrays of one shape (P, 3), got '
                         f'{source.shape} and {target.shape}')
    weights = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != (len(source),):
        raise ValueError(f'weights: expected shape ({len(source)},), got {weights.shape}')
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError('weights: must be finite and not negative')
    used = weights > 0
    if not (np.isfinite(source[used]).all() and np.isfinite(target[used]).all()):
        raise ValueError('source, target: points with weight must be finite')
    if np.count_nonzero(used) < _MIN_POINTS:
        raise AlignmentError(f'only {np.count_nonzero(used)} paired points have weight, '
                             f'{_MIN_POINTS} are needed; give a larger overlap')
    return np.where(used[:, None], source, 0.0), np.where(used[:, None], target, 0.0), weights
