"""Two views: relative pose, and the test whether there is any parallax at all."""

from dataclasses import dataclass
import logging
from typing import List, Optional, Tuple

import cv2
import numpy as np

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Relative pose of frame b to frame a, ``x_b = R x_a + t`` with |t| = 1."""

    a: int
    b: int
    R: np.ndarray               # (3, 3)
    t: np.ndarray               # (3,)
    parallax_px: float          # median flow that no rotation explains
    n_inliers: int
    score: float


def rotation_between(xy_a: np.ndarray, xy_b: np.ndarray, focal_px: float, iterations: int = 8
                     ) -> Tuple[np.ndarray, np.ndarray]:
    """Best pure rotation ``x_b ~ R x_a`` of bearings, robustly, and the residuals it leaves.

    Wahba's problem by SVD (Markley 1988) with Cauchy weights. Inputs (n, 2) normalised
    coordinates; returns R (3, 3) and residuals (n,) in px. An essential matrix fits a camera at
    rest or a pure rotation as well as it fits a real motion; this residual tells them apart.
    """
    a = np.column_stack([xy_a, np.ones(len(xy_a))])
    b = np.column_stack([xy_b, np.ones(len(xy_b))])
    ua = a / np.linalg.norm(a, axis=1, keepdims=True)
    ub = b / np.linalg.norm(b, axis=1, keepdims=True)
    w = np.ones(len(a))
    for _ in range(iterations):
        u, _, vt = np.linalg.svd((ub * w[:, None]).T @ ua)
        R = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        p = a @ R.T
        error = focal_px * np.hypot(*(p[:, :2] / np.maximum(p[:, 2:], 1e-6) - xy_b).T)
        w = 1 / (1 + (error / max(1.0, np.median(error))) ** 2)
    return R, error


def rank_pairs(xy: np.ndarray, seen: np.ndarray, focal_px: float, enough_px: float
               ) -> list:
    """Frame pairs (a, b) of a window that promise parallax and enough common points, best first.

    ``xy`` (F, P, 2) normalised, ``seen`` (F, P). Score: median raw flow up to 3 ``enough_px``
    times the share of 120 common points.
    """
    F = len(xy)
    pairs = []
    for a in sorted({0, F // 4, F // 2, 3 * F // 4}):
        for step in (1, 2, 3, 5, 8, 12):
            b = a + step
            if b >= F:
                break
            both = seen[a] & seen[b]
            n = int(both.sum())
            if n < 20:
                continue
            flow = focal_px * np.linalg.norm(xy[a, both] - xy[b, both], axis=1)
            pairs.append((min(float(np.median(flow)), 3 * enough_px) * min(1.0, n / 120), a, b))
    return [(a, b) for _, a, b in sorted(pairs, reverse=True)]


def relative_pose(xy: np.ndarray, seen: np.ndarray, a: int, b: int, focal_px: float,
                  enough_px: float) -> Optional[Pair]:
    """Relative pose of two frames by the essential matrix (MAGSAC, 1 px); None if degenerate."""
    both = np.flatnonzero(seen[a] & seen[b])
    pa, pb = xy[a, both], xy[b, both]
    try:
        E, mask = cv2.findEssentialMat(pa, pb, np.eye(3), cv2.USAC_MAGSAC, 0.999, 1.0 / focal_px)
    except cv2.error as error:
        log.debug('essential matrix of frames %d and %d: %s', a, b, error)
        return None
    if E is None or E.shape != (3, 3) or mask is None:
        return None
    inliers = mask.ravel() > 0
    n = int(inliers.sum())
    if n < 15:
        return None
    n_front, R, t, _ = cv2.recoverPose(E, pa[inliers], pb[inliers], np.eye(3))
    p = np.column_stack([pa, np.ones(len(pa))])[inliers] @ R.T
    parallax = focal_px * np.median(
        np.linalg.norm(p[:, :2] / np.maximum(p[:, 2:], 1e-6) - pb[inliers], axis=1))
    score = min(parallax / enough_px, 1.5) * min(1.0, n / 200) * n_front / len(both)
    return Pair(a, b, R, t[:, 0], float(parallax), n, float(score))


def starting_pairs(xy: np.ndarray, seen: np.ndarray, focal_px: float, enough_px: float,
                   tries: int = 5) -> List[Pair]:
    """Pairs anywhere in the window from which a reconstruction may start, best first."""
    pairs = [relative_pose(xy, seen, a, b, focal_px, enough_px)
             for a, b in rank_pairs(xy, seen, focal_px, enough_px)[:tries]]
    return sorted((p for p in pairs if p), key=lambda p: p.score, reverse=True)
