"""The scale between two sets of corresponding vectors, by iteratively reweighted least squares."""

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..errors import AlignmentError

_LEAST_SCALE = 1e-6


@dataclass(frozen=True, slots=True)
class ScaleSolver:
    """How `l1_scale` iterates.

    ``tolerance`` ends the iteration when the scale changes by less; ``is_relative`` says whether
    that is a share of the scale (so that the unit of depth does not matter) or a number.
    ``residual_floor`` keeps weights finite: a share of the median residual of the start if
    ``is_relative``, else a length.
    """

    n_iterations: int = 20
    tolerance: float = 1e-5
    is_relative: bool = True
    residual_floor: float = 1e-3


ORIGINAL = ScaleSolver(10, 0.05, False, 1e-8)
"""What LASER's code does: it may stop several percent away from the minimum."""


def l1_scale(source: np.ndarray, target: np.ndarray, weights: Optional[np.ndarray] = None,
             solver: ScaleSolver = ScaleSolver(), start: Optional[float] = None) -> float:
    """Return s > 0 that minimises the sum of ``weights |s source - target|``.

    ``source`` and ``target`` are (P, D), ``weights`` (P,) or None. Weiszfeld iterations on least
    squares (LASER, registration of the overlap: weights 1 / residual), beginning at ``start``, or
    at the least-squares scale. Raises AlignmentError when there are no points with weight, or
    their scale is not a positive number.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2:
        raise ValueError(f'source, target: expected two arrays of one shape (P, D), got '
                         f'{source.shape} and {target.shape}')
    weights = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    dot = weights * np.einsum('pd,pd->p', source, target)
    square = weights * np.einsum('pd,pd->p', source, source)
    scale = _ratio(dot.sum(), square.sum()) if start is None else max(start, _LEAST_SCALE)
    floor = _floor(source, target, scale, solver)
    for _ in range(solver.n_iterations):
        residual = _lengths(scale * source - target) + floor
        last, scale = scale, _ratio((dot / residual).sum(), (square / residual).sum())
        if abs(scale - last) < solver.tolerance * (scale if solver.is_relative else 1.0):
            break
    return scale


def _ratio(dot: float, square: float) -> float:
    with np.errstate(all='ignore'):
        scale = dot / square
    if not np.isfinite(scale):
        raise AlignmentError('the overlap has no points with depth and confidence, so it has no '
                             'scale; use a larger overlap')
    return max(float(scale), _LEAST_SCALE)


def _floor(source: np.ndarray, target: np.ndarray, scale: float, solver: ScaleSolver) -> float:
    if not solver.is_relative:
        return solver.residual_floor
    typical = np.median(_lengths(scale * source - target))
    length = np.median(_lengths(target))
    return float(solver.residual_floor * max(typical, 1e-6 * length)) or 1.0


def _lengths(vectors: np.ndarray) -> np.ndarray:
    if vectors.shape[1] == 1:
        return np.abs(vectors[:, 0])
    return np.sqrt(np.einsum('pd,pd->p', vectors, vectors))
