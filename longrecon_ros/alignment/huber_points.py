"""The fit of two weighted point sets that VGGT-Long chains its chunks with."""

from typing import Tuple

import numpy as np

from ..errors import AlignmentError
from ..geometry import se3
from ..geometry.sim3 import Sim3

DELTA, N_ITERATIONS = 0.1, 5
_TOLERANCE, _TURN_DEG = 1e-9, 0.1


def rms_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray,
                   with_scale: bool = True) -> Sim3:
    """Return T_target_source: rotation by Kabsch 1976, scale as the ratio of both extents.

    ``source`` and ``target`` are (P, 3), ``weights`` (P,). The scale is the ratio of the weighted
    rms distances from the means, which unlike Umeyama's favours neither side. Raises
    AlignmentError without at least three weighted points that are not all in one place.
    """
    total = weights.sum()
    if np.count_nonzero(weights) < 3 or not np.isfinite(total):
        raise AlignmentError(f'only {np.count_nonzero(weights)} paired points have weight, 3 are '
                             'needed; use a larger overlap')
    w = (weights / total)[:, None]
    mean_source, mean_target = (w * source).sum(axis=0), (w * target).sum(axis=0)
    source, target = source - mean_source, target - mean_target
    extents = [np.sqrt((w * x**2).sum()) for x in (source, target)]
    if not (np.isfinite(extents).all() and min(extents) > 0):
        raise AlignmentError('the paired points are all in one place; use a larger overlap')
    scale = float(extents[1] / extents[0]) if with_scale else 1.0
    R = se3.nearest_rotation((w * target).T @ source)
    return Sim3(scale, R, mean_target - scale * R @ mean_source)


def huber_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray,
                     with_scale: bool = True, delta: float = DELTA,
                     n_iterations: int = N_ITERATIONS) -> Sim3:
    """Return T_target_source by iteratively reweighted `rms_similarity` (VGGT-Long).

    A residual r counts with Huber's weight, 1 up to ``delta`` (units of target) and delta / r
    above. Iteration ends, keeping the last result, when scale, translation and rotation, or the
    cost, no longer change.
    """
    T = rms_similarity(source, target, weights, with_scale)
    cost = np.inf
    for _ in range(n_iterations):
        residual = np.linalg.norm(target - T.apply(source), axis=1)
        following = rms_similarity(source, target, weights * delta / np.maximum(residual, delta),
                                   with_scale)
        last, cost = cost, _cost(residual, weights, delta)
        if _is_still(T, following) or abs(last - cost) < _TOLERANCE * last:
            break
        T = following
    return T


def _cost(residual: np.ndarray, weights: np.ndarray, delta: float) -> float:
    small = np.minimum(residual, delta)
    return float((weights * small * (residual - 0.5 * small)).sum())


def _is_still(a: Sim3, b: Sim3) -> bool:
    moved = abs(a.scale - b.scale) + np.linalg.norm(a.t - b.t)
    turned: Tuple[float, ...] = np.degrees(se3.rotation_angle(a.R.T @ b.R))
    return bool(moved < _TOLERANCE and turned < _TURN_DEG)
