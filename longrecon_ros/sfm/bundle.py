"""Bundle adjustment of one window: Levenberg-Marquardt on a dense frames-by-points grid.

Triggs et al., "Bundle Adjustment -- A Modern Synthesis" (2000): points are eliminated by the Schur
complement (section 6), outliers are tempered by Huber weights (section 4). Windows are small, so
every array is dense over (F, P) and every sum is a batched matrix product: no gather, no scatter.
"""

from dataclasses import dataclass
from typing import Tuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

HUBER_PX = 1.0
_MIN_DEPTH = 1e-6


@dataclass(slots=True, eq=False)
class Scene:
    """Poses, points and observations of one window. ``x_c = R X + t``, OpenCV axes."""

    R: np.ndarray           # (F, 3, 3) f64, window to camera
    t: np.ndarray           # (F, 3) f64
    X: np.ndarray           # (P, 3) f64, window frame
    xy: np.ndarray          # (F, P, 2) f64, normalised image coordinates (z = 1)
    seen: np.ndarray        # (F, P) bool
    focal_px: float

    @property
    def centers(self) -> np.ndarray:
        """(F, 3) camera centres in the window frame."""
        return -np.einsum('fji,fj->fi', self.R, self.t)

    def depths(self) -> np.ndarray:
        """(F, P) depth of every point in every camera."""
        return self.R[:, 2] @ self.X.T + self.t[:, 2, None]

    def errors_px(self) -> np.ndarray:
        """(F, P) reprojection error; inf where not seen or behind the camera."""
        r, z = _residuals(self.R, self.t, self.X, self.xy, self.focal_px)[:2]
        error = np.hypot(r[:, 0], r[:, 1])
        return np.where(self.seen & (z > _MIN_DEPTH), error, np.inf)


def _residuals(R, t, X, xy, focal_px):
    """Return residuals (F, 2, P) px, depths (F, P) and projections u, v (F, P)."""
    Xc = R @ X.T + t[:, :, None]
    z = Xc[:, 2]
    iz = 1.0 / np.where(np.abs(z) < _MIN_DEPTH, _MIN_DEPTH, z)
    uv = Xc[:, :2] * iz[:, None]
    r = (uv - np.moveaxis(xy, 2, 1)) * focal_px
    return r, z, uv, iz


def _weights(r, z, seen):
    """Huber weights (F, P) and the robust cost; points behind a camera pay a fixed price."""
    norm = np.hypot(r[:, 0], r[:, 1])
    front = seen & (z > _MIN_DEPTH)
    inside = norm <= HUBER_PX
    w = np.where(inside, 1.0, HUBER_PX / np.maximum(norm, HUBER_PX)) * front
    rho = np.where(inside, 0.5 * norm * norm, HUBER_PX * (norm - 0.5 * HUBER_PX))
    cost = float((rho * front).sum()) + 50.0 * float((seen & ~front).sum())
    return w, cost


def _camera_jacobian(uv, iz, focal_px):
    """(F, 6, 2, P): derivative of the residual by a left rotation w and translation v."""
    u, v = uv[:, 0], uv[:, 1]
    J = np.zeros((u.shape[0], 6, 2, u.shape[1]))
    J[:, 0, 0], J[:, 0, 1] = -u * v, -1.0 - v * v
    J[:, 1, 0], J[:, 1, 1] = 1.0 + u * u, u * v
    J[:, 2, 0], J[:, 2, 1] = -v, u
    J[:, 3, 0] = iz
    J[:, 4, 1] = iz
    J[:, 5, 0], J[:, 5, 1] = -u * iz, -v * iz
    J *= focal_px
    return J


def _point_jacobian(R, uv, iz, focal_px):
    """(F, 3, 2, P): derivative of the residual by the point."""
    J = R[:, :2].transpose(0, 2, 1)[..., None] - R[:, 2][:, :, None, None] * uv[:, None]
    return J * (iz * focal_px)[:, None, None]


def _normal_equations(scene, r, w, uv, iz):
    """Return U (F,6,6), gc (F,6), V (6,P) packed symmetric, gp (3,P), E (P,3,6F)."""
    F, _, P = r.shape
    root = np.sqrt(w)[:, None, None]
    Jc = _camera_jacobian(uv, iz, scene.focal_px) * root
    Jp = _point_jacobian(scene.R, uv, iz, scene.focal_px) * root
    rw = r * root[:, 0]
    flat = Jc.reshape(F, 6, 2 * P)
    U = flat @ flat.transpose(0, 2, 1)
    gc = (flat @ rw.reshape(F, 2 * P, 1))[:, :, 0]
    V = np.stack([np.einsum('fkp,fkp->p', Jp[:, a], Jp[:, b])
                  for a, b in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))])
    gp = np.stack([np.einsum('fkp,fkp->p', Jp[:, a], rw) for a in range(3)])
    E = np.empty((P, 3, F, 6))
    for a in range(3):
        block = Jp[:, None, a, 0] * Jc[:, :, 0] + Jp[:, None, a, 1] * Jc[:, :, 1]   # (F, 6, P)
        E[:, a] = block.transpose(2, 0, 1)
    return U, gc, V, gp, E.reshape(P, 3, 6 * F)


def _invert_symmetric(V):
    """Invert P symmetric 3x3 matrices packed as (6, P) -> (P, 3, 3), by cofactors."""
    a, b, c, d, e, f = V
    A, B, C = d * f - e * e, c * e - b * f, b * e - c * d
    det = a * A + b * B + c * C
    D, E, F = a * f - c * c, b * c - a * e, a * d - b * b
    inverse = np.stack([A, B, C, B, D, E, C, E, F]) / np.where(det > 0, det, np.inf)
    return inverse.T.reshape(-1, 3, 3)


def _solve(U, gc, V, gp, E, lam):
    """One damped step: pose increments (F, 6) with frame 0 held, point increments (P, 3)."""
    F = len(U)
    Vd = V.copy()
    for k in (0, 3, 5):
        Vd[k] = Vd[k] * (1 + lam) + 1e-9
    Vi = _invert_symmetric(Vd)
    free = E[:, :, 6:]
    Y = Vi @ free
    n = 6 * (F - 1)
    S = -(free.reshape(-1, n).T @ Y.reshape(-1, n))
    for k in range(1, F):
        block = slice(6 * (k - 1), 6 * k)
        S[block, block] += U[k]
        S[range(block.start, block.stop), range(block.start, block.stop)] += (
            lam * np.diag(U[k]) + 1e-9)
    gpv = gp.T[:, :, None]
    g = gc[1:].reshape(-1) - Y.reshape(-1, n).T @ gpv.reshape(-1)
    dc = -cho_solve(cho_factor(S, lower=True, check_finite=False), g, check_finite=False)
    dp = -(Vi @ (gpv + (free @ dc)[:, :, None]))[:, :, 0]
    return np.concatenate([np.zeros(6), dc]).reshape(F, 6), dp


def rotation_exp(w: np.ndarray) -> np.ndarray:
    """Rotation matrices (N, 3, 3) of rotation vectors (N, 3), Rodrigues' formula."""
    theta2 = (w * w).sum(axis=1)[:, None, None]
    theta = np.sqrt(theta2)
    small = theta < 1e-6
    safe = np.where(small, 1.0, theta)
    a = np.where(small, 1 - theta2 / 6, np.sin(safe) / safe)
    b = np.where(small, 0.5 - theta2 / 24, (1 - np.cos(safe)) / (safe * safe))
    W = np.zeros((len(w), 3, 3))
    W[:, 0, 1], W[:, 0, 2], W[:, 1, 2] = -w[:, 2], w[:, 1], -w[:, 0]
    W -= W.transpose(0, 2, 1)
    return np.eye(3) + a * W + b * (W @ W)


def adjust(scene: Scene, iterations: int, tolerance: float = 1e-4) -> Tuple[float, int]:
    """Minimise the robust reprojection error in place; frame 0 stays fixed.

    The free scale of the window is held by the damping alone. Returns the final cost (px^2) and
    the number of accepted steps. Frames that see nothing keep their pose (their block is damped).
    """
    lam, accepted = 1e-4, 0
    r, z, uv, iz = _residuals(scene.R, scene.t, scene.X, scene.xy, scene.focal_px)
    w, cost = _weights(r, z, scene.seen)
    for _ in range(iterations):
        system = _normal_equations(scene, r, w, uv, iz)
        for _ in range(6):
            try:
                dc, dp = _solve(*system, lam)
            except LinAlgError:
                lam *= 10
                continue
            step = rotation_exp(dc[:, :3])
            R, t = step @ scene.R, (step @ scene.t[:, :, None])[:, :, 0] + dc[:, 3:]
            X = scene.X + dp
            r1, z1, uv1, iz1 = _residuals(R, t, X, scene.xy, scene.focal_px)
            w1, cost1 = _weights(r1, z1, scene.seen)
            if cost1 < cost:
                break
            lam *= 10
        else:
            return cost, accepted
        gain = (cost - cost1) / max(cost, 1e-12)
        scene.R, scene.t, scene.X = R, t, X
        r, z, uv, iz, w, cost = r1, z1, uv1, iz1, w1, cost1
        lam, accepted = max(lam / 5, 1e-9), accepted + 1
        if gain < tolerance:
            break
    return cost, accepted
