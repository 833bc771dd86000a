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

from ..geometry.camera import project
from ..geometry.sim3 import Sim3
from ..geometry.umeyama import umeyama, umeyama_batch
from ..types import Keyframe

_RATIO = 0.85
_MOST_DISTANCE = 64                         # of 256 bits
_N_TRIPLES = 250
_N_STEPS = 8
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
        """Return the similarity that fits some pairs best, and its deviations (7,).

        Gauss-Newton on the errors in both images over their limits and on log depths, with the
        weights of soft L1; a step is taken in the axes of the source: T exp(x).
        """
        target, source = (points[rows] for points in self._points)
        start = umeyama(source, target, 1 / target[:, 2]**2)
        T = start if self.agree(start)[rows].sum() >= self.agree(T)[rows].sum() else T
        for _ in range(_N_STEPS):
            r, J = self._linearised(T, rows)
            weights = 1 / np.sqrt(1 + r**2)
            H = (J * weights[:, None]).T @ J
            step = np.linalg.lstsq(H, -(J.T @ (weights * r)), rcond=1e-12)[0]
            T = T @ Sim3.exp(step)
            if np.abs(step).max() < 1e-6 * max(1.0, float(source[:, 2].max())):
                break
        spread = float(np.mean(weights * r**2))
        sigma = np.sqrt(np.maximum(np.diag(np.linalg.pinv(H)) * spread, 0))
        return T, sigma * np.array([T.scale] * 3 + [1.0] * 4)

    def _linearised(self, T: Sim3, rows: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return residuals (6 M,) and their derivatives (6 M, 7) by (u, w, l) in the source."""
        target, source = (points[rows] for points in self._points)
        back = T.inverse().apply(target)
        # x moves a point p of the source by u + w x p + l p; what comes back goes the other way
        moves = ((T.apply(source), T.scale * (T.R @ _generators(source))),
                 (back, -_generators(back)))
        parts = [_errors(moved, d_moved, known, pixels[rows], K, limit)
                 for (moved, d_moved), known, pixels, K, limit in zip(
                     moves, (target, source), self._pixels, self._K, self._limits_px)]
        return tuple(np.concatenate(part) for part in zip(*parts))

    def spread(self, rows: np.ndarray) -> float:
        """Return the area that some pairs span, over that of the image; the smaller of both."""
        return min(cv2.contourArea(cv2.convexHull(pixels[rows].astype(np.float32)))
                   / float(np.prod(size)) for pixels, size in zip(self._pixels, self._sizes))


def _generators(points: np.ndarray) -> np.ndarray:
    """Return how points (M, 3) move with (u, w, l), (M, 3, 7)."""
    found = np.zeros((len(points), 3, 7))
    found[:, :, :3] = np.eye(3)
    x, y, z = points.T
    found[:, 0, 4], found[:, 0, 5] = z, -y
    found[:, 1, 3], found[:, 1, 5] = -z, x
    found[:, 2, 3], found[:, 2, 4] = y, -x
    found[:, :, 6] = points
    return found


def _errors(moved: np.ndarray, d_moved: np.ndarray, known: np.ndarray, pixels: np.ndarray,
            K: np.ndarray, limit_px: float) -> Tuple[np.ndarray, np.ndarray]:
    """Return errors (3 M,) of points (M, 3) in an image and of their depth, and derivatives."""
    z = np.maximum(moved[:, 2], 1e-6 * known[:, 2])
    x, y = moved[:, 0] / z, moved[:, 1] / z
    uv = np.stack([K[0, 0] * x + K[0, 1] * y + K[0, 2], K[1, 1] * y + K[1, 2]], axis=1)
    d_x = (d_moved[:, 0] - x[:, None] * d_moved[:, 2]) / z[:, None]
    d_y = (d_moved[:, 1] - y[:, None] * d_moved[:, 2]) / z[:, None]
    d_uv = np.stack([K[0, 0] * d_x + K[0, 1] * d_y, K[1, 1] * d_y], axis=1) / limit_px
    errors = np.concatenate([((uv - pixels) / limit_px).ravel(),
                             np.log(z / known[:, 2]) / _LOG_DEPTH])
    return errors, np.concatenate([d_uv.reshape(-1, 7),
                                   d_moved[:, 2] / (z[:, None] * _LOG_DEPTH)])
