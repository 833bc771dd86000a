"""Is this really the place? Two keyframes are matched and must agree in 3-D before a loop closes.

A false closure ruins a map and a missed one does not, so everything here errs on the side of no:

1. ORB features are matched both ways with the ratio test (Lowe 2004).
2. A similarity between their 3-D points by RANSAC (Fischler and Bolles 1981) on triples (Umeyama
   1991); a pair counts when each point falls on the other's pixel and has its depth.
3. The similarity is refined on these pairs, robustly, in pixels and log depth.
4. Enough pairs, a large enough share, spread over both images, a believable scale.
"""

from dataclasses import dataclass
from typing import Optional, Tuple

import cv2
import numpy as np
from scipy.optimize import least_squares

from ..geometry.camera import project
from ..geometry.sim3 import Sim3
from ..geometry.umeyama import umeyama, umeyama_batch
from ..types import Keyframe

_RATIO = 0.85
_MOST_DISTANCE = 64                         # of 256 bits
_N_TRIPLES = 400
_SCALE_RANGE = 2.5                          # a closure corrects drift, not a wrong place
_LOG_DEPTH = 0.2                            # of a depth ratio that still agrees


@dataclass(frozen=True, slots=True)
class ClosureConfig:
    """Parameters of the verification; ``config/default.yaml`` explains them (group ``loop``)."""

    min_inliers: int = 25
    min_share: float = 0.4
    max_error: float = 0.012                # px over image diagonal
    min_spread: float = 0.05                # area of the inliers' hull over that of the image

    def __post_init__(self):
        if self.min_inliers < 6:
            raise ValueError(f'min_inliers: expected 6 or more, got {self.min_inliers}')
        for name in ('min_share', 'max_error', 'min_spread'):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f'{name}: expected above 0 and at most 1, got '
                                 f'{getattr(self, name)}')


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """Two keyframes that show one place."""

    T_target_source: Sim3                   # from the source's camera to the target's
    n_inliers: int
    share: float                            # of the matched features
    sigma: np.ndarray                       # (7,) of the tangent (u, w, l); u in target units


def verify(target: Keyframe, source: Keyframe,
           config: ClosureConfig = ClosureConfig()) -> Optional[Match]:
    """Return where the source's camera is in the target's, or None where it is not sure.

    Deterministic.
    """
    i, j = match_features(target, source)
    if len(i) < config.min_inliers:
        return None
    pairs = _Pairs(target, source, i, j, config.max_error)
    T = pairs.best_triple()
    if T is None:
        return None
    for _ in range(2):
        is_good = pairs.agree(T)
        if np.count_nonzero(is_good) < config.min_inliers:
            return None
        T, sigma = pairs.refined(T, is_good)
    is_good = pairs.agree(T)
    n_good = int(np.count_nonzero(is_good))
    is_sure = (n_good >= config.min_inliers and n_good >= config.min_share * len(i)
               and abs(np.log(T.scale)) < np.log(_SCALE_RANGE)
               and pairs.spread(is_good) >= config.min_spread)
    return Match(T, n_good, n_good / len(i), sigma) if is_sure else None


def match_features(target: Keyframe, source: Keyframe) -> Tuple[np.ndarray, np.ndarray]:
    """Return rows of target and of source, (M,) each, that match and have 3-D points."""
    rows = [np.flatnonzero(np.isfinite(k.points).all(axis=1) & (k.points[:, 2] > 0))
            for k in (target, source)]
    if min(map(len, rows)) < 2:
        return np.zeros(0, int), np.zeros(0, int)
    a, b = (k.features[r] for k, r in zip((target, source), rows))
    found = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(b, a, k=2)
    best_of_a = {m.queryIdx: m.trainIdx for m in cv2.BFMatcher(cv2.NORM_HAMMING).match(a, b)}
    pairs = [(first.trainIdx, first.queryIdx) for first, second in found
             if first.distance <= _MOST_DISTANCE and first.distance < _RATIO * second.distance
             and best_of_a.get(first.trainIdx) == first.queryIdx]
    if not pairs:
        return np.zeros(0, int), np.zeros(0, int)
    i, j = np.array(pairs).T
    return rows[0][i], rows[1][j]


class _Pairs:
    """Matched features of two keyframes: pixels and camera-frame points of both."""

    def __init__(self, target: Keyframe, source: Keyframe, i: np.ndarray, j: np.ndarray,
                 max_error: float):
        self._points = target.points[i].astype(np.float64), source.points[j].astype(np.float64)
        self._pixels = target.uv[i].astype(np.float64), source.uv[j].astype(np.float64)
        self._K = target.K, source.K
        # the principal point lies in the middle of the image, near enough
        self._sizes = [2 * K[:2, 2] + 1 for K in self._K]
        self._limits_px = [max_error * float(np.linalg.norm(size)) for size in self._sizes]

    def best_triple(self) -> Optional[Sim3]:
        """Return the similarity of the triple that most pairs agree with."""
        target, source = self._points
        rng = np.random.default_rng(len(target))
        chosen = rng.integers(len(target), size=(_N_TRIPLES, 3))
        scale, R, t, is_sound = umeyama_batch(source[chosen], target[chosen])
        is_sound &= np.abs(np.log(np.maximum(scale, 1e-9))) < np.log(_SCALE_RANGE)
        if not is_sound.any():
            return None
        scale, R, t = scale[is_sound], R[is_sound], t[is_sound]
        count = self._agreeing(scale[:, None, None], R, t[:, None]).sum(axis=1)
        best = int(np.argmax(count))
        return Sim3(float(scale[best]), R[best], t[best])

    def agree(self, T: Sim3) -> np.ndarray:
        """Return which pairs (M,) a similarity explains in both images."""
        return self._agreeing(np.full((1, 1, 1), T.scale), T.R[None], T.t[None, None])[0]

    def _agreeing(self, scale: np.ndarray, R: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Return (B, M) bool for scale (B, 1, 1), R (B, 3, 3) and t (B, 1, 3)."""
        target, source = self._points
        there = scale * (source @ np.swapaxes(R, 1, 2)) + t
        back = ((target - t) @ R) / scale
        is_good = np.ones(there.shape[:2], bool)
        for moved, known, pixels, K, limit in zip((there, back), (target, source), self._pixels,
                                                  self._K, self._limits_px):
            with np.errstate(invalid='ignore', divide='ignore'):
                error = np.linalg.norm(project(moved, K) - pixels, axis=-1)
                log_ratio = np.abs(np.log(moved[..., 2] / known[..., 2]))
                is_good &= (error < limit) & (log_ratio < _LOG_DEPTH)
        return is_good

    def refined(self, T: Sim3, rows: np.ndarray) -> Tuple[Sim3, np.ndarray]:
        """Return the similarity that fits some pairs best, and its deviations (7,)."""
        target, source = (points[rows] for points in self._points)
        start = umeyama(source, target, 1 / target[:, 2]**2)
        start = start if self.agree(start)[rows].sum() >= self.agree(T)[rows].sum() else T
        depth = float(np.median(target[:, 2]))
        unit = np.array([depth] * 3 + [1.0] * 4)

        def residuals(x: np.ndarray) -> np.ndarray:
            return self._residuals(start @ Sim3.exp(unit * x), rows)
        found = least_squares(residuals, np.zeros(7), loss='soft_l1', max_nfev=30)
        T = start @ Sim3.exp(unit * found.x)
        spread = np.sqrt(np.mean(found.fun**2))
        covariance = np.linalg.pinv(found.jac.T @ found.jac) * spread**2
        return T, unit * np.sqrt(np.maximum(np.diag(covariance), 0))

    def _residuals(self, T: Sim3, rows: np.ndarray) -> np.ndarray:
        """Return errors in both images over their limits, and of log depths, (6 M,)."""
        target, source = (points[rows] for points in self._points)
        parts = []
        for moved, known, pixels, K, limit in zip(
                (T.apply(source), T.inverse().apply(target)), (target, source),
                (pixels[rows] for pixels in self._pixels), self._K, self._limits_px):
            z = np.maximum(moved[:, 2], 1e-6 * known[:, 2])
            moved = np.column_stack([moved[:, :2], z])
            parts += [((project(moved, K) - pixels) / limit).ravel(),
                      np.log(z / known[:, 2]) / _LOG_DEPTH]
        return np.concatenate(parts)

    def spread(self, rows: np.ndarray) -> float:
        """Return the area that some pairs span, over that of the image; the smaller of both."""
        return min(cv2.contourArea(cv2.convexHull(pixels[rows].astype(np.float32)))
                   / float(np.prod(size)) for pixels, size in zip(self._pixels, self._sizes))
