"""The pose of one camera from points that are already mapped."""

from typing import Optional, Tuple

import cv2
import numpy as np

from ..geometry.se3 import so3_exp

_MIN_INLIERS = 10


def refine_pose(R: np.ndarray, t: np.ndarray, X: np.ndarray, xy: np.ndarray, focal_px: float,
                iterations: int = 8) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Newton on one pose with redescending weights; scale of the weights shrinks to 1 px.

    ``x_c = R X + t``; X (n, 3), xy (n, 2) normalised. Weights ``(1 + (r/d)^2)^-2``
    (Geman-McClure). Returns R, t and the errors in px (n,).
    """
    width = None
    for _ in range(iterations):
        r, error, u, v, iz = _project(R, t, X, xy, focal_px)
        median = np.median(error)
        width = max(1.0, 1.5 * median) if width is None else max(1.0, min(width, 1.5 * median))
        w = np.where(iz > 0, (1 + (error / width) ** 2) ** -2, 0.0)
        J = np.zeros((2, 6, len(X)))
        J[0, 0], J[1, 0] = -u * v, -1 - v * v
        J[0, 1], J[1, 1] = 1 + u * u, u * v
        J[0, 2], J[1, 2] = -v, u
        J[0, 3], J[1, 4] = iz, iz
        J[0, 5], J[1, 5] = -u * iz, -v * iz
        J *= focal_px
        H = (J[0] * w) @ J[0].T + (J[1] * w) @ J[1].T
        g = (J[0] * w) @ r[0] + (J[1] * w) @ r[1]
        H[np.diag_indices(6)] += 1e-9 * max(np.trace(H), 1e-9)
        step = -np.linalg.solve(H, g)
        dR = so3_exp(step[:3])
        R, t = dR @ R, dR @ t + step[3:]
        if np.abs(step).max() < 1e-4:
            break
    return R, t, _project(R, t, X, xy, focal_px)[1]


def _project(R, t, X, xy, focal_px):
    Xc = X @ R.T + t
    front = Xc[:, 2] > 1e-6
    iz = np.where(front, 1.0 / np.where(front, Xc[:, 2], 1.0), 0.0)
    u, v = Xc[:, 0] * iz, Xc[:, 1] * iz
    r = np.stack([u - xy[:, 0], v - xy[:, 1]]) * focal_px
    return r, np.where(front, np.hypot(r[0], r[1]), 1e3), u, v, iz


def locate(R: np.ndarray, t: np.ndarray, X: np.ndarray, xy: np.ndarray, focal_px: float,
           gate_px: float = 3.0) -> Optional[Tuple[np.ndarray, np.ndarray, float]]:
    """Refine a predicted pose; start again by EPnP in RANSAC where the prediction was too far.

    Returns R, t and the share of points within ``gate_px``; None when no pose explains them.
    """
    R1, t1, error = refine_pose(R, t, X, xy, focal_px)
    n = int((error < gate_px).sum())
    if n < 0.6 * len(X) and len(X) >= 8:
        found, rvec, tvec, _ = cv2.solvePnPRansac(
            X, xy, np.eye(3), None, iterationsCount=200, reprojectionError=gate_px / focal_px,
            flags=cv2.SOLVEPNP_EPNP)
        if found:
            R2, t2, error2 = refine_pose(cv2.Rodrigues(rvec)[0], tvec[:, 0], X, xy, focal_px)
            n2 = int((error2 < gate_px).sum())
            if n2 > n:
                R1, t1, n = R2, t2, n2
    share = n / len(X)
    # a few points agree with some pose by chance
    needed = 0.3 if len(X) >= 40 else 0.5
    return (R1, t1, share) if n >= _MIN_INLIERS and share >= needed else None
