"""Bundle adjustment of one window: Levenberg-Marquardt on a dense frames-by-points grid.

Triggs et al., "Bundle Adjustment -- A Modern Synthesis" (2000): points are eliminated by the Schur
complement (section 6), outliers are tempered by Huber weights (section 4). Windows are small, so
every array is dense over (F, P) and every sum is a batched matrix product: no gather, no scatter.
The focal length can be adjusted along: rectified images of real cameras are often off by 1 or 2 %,
which shows as a scale error in every turn (Kreso and Segvic, VISAPP 2015, found it in KITTI).
"""

from dataclasses import dataclass
from typing import Optional

import numpy as np
from scipy.linalg import cho_factor, cho_solve, LinAlgError

from ..geometry.se3 import so3_exp
from .triangulation import invert_symmetric

HUBER_PX = 1.0
_MIN_DEPTH = 1e-6
_STRIP_SIZE = 250_000
"""Multiplications of one strip; OpenBLAS starts threads at 262144."""


@dataclass(frozen=True, slots=True)
class FocalPrior:
    """What is known of the focal length before a window, ``ln(f / focal_px)`` being normal.

    ``mean`` is the logarithm of the expected over the scene's present focal length,
    ``information`` one over its variance.
    """

    mean: float
    information: float


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


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Outcome of `adjust`."""

    cost: float                 # robust cost, px^2
    n_steps: int                # accepted steps
    log_focal: float            # ln of the new over the old focal length
    focal_information: float    # what this window alone says about ln f, for noise of 1 px


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


class _System:
    """Normal equations of a scene, blocks eliminated point by point.

    Unknowns: a left pose increment (w, v) a frame, a point increment a point, and the relative
    change of the focal length (the last of the ``n`` common unknowns).
    """

    def __init__(self, scene, strips, r, w, uv, iz, prior):
        F, _, P = r.shape
        self.strips = strips
        root = np.sqrt(w)[:, None, None]
        Jc = _camera_jacobian(uv, iz, scene.focal_px) * root
        Jp = _point_jacobian(scene.R, uv, iz, scene.focal_px) * root
        rw = r * root[:, 0]
        flat = Jc.reshape(F, 6, 2 * P)
        self.U = flat @ flat.transpose(0, 2, 1)                             # (F, 6, 6)
        self.gc = (flat @ rw.reshape(F, 2 * P, 1))[:, :, 0]                 # (F, 6)
        self.V = np.stack([np.einsum('fkp,fkp->p', Jp[:, a], Jp[:, b])      # (6, P), symmetric
                           for a, b in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))])
        self.gp = np.stack([np.einsum('fkp,fkp->p', Jp[:, a], rw) for a in range(3)])
        self.E = np.empty((P, 3, 6 * F + 1))
        poses = self.E[:, :, :-1].reshape(P, 3, F, 6)
        for a in range(3):
            block = Jp[:, None, a, 0] * Jc[:, :, 0] + Jp[:, None, a, 1] * Jc[:, :, 1]
            poses[:, a] = block.transpose(2, 0, 1)
        self._focal(scene, flat, Jp, rw, uv * root[:, 0], prior)

    def _focal(self, scene, flat, Jp, rw, uvw, prior):
        F, _, P = rw.shape
        self.fixed_focal = prior is None
        if self.fixed_focal:
            self.uf, self.gf, self.cf = 1.0, 0.0, np.zeros((F, 6))
            self.E[:, :, -1] = 0
            return
        Jf = scene.focal_px * uvw
        self.uf = float((Jf * Jf).sum()) + prior.information
        self.gf = float((Jf * rw).sum()) - prior.information * prior.mean
        self.cf = (flat @ Jf.reshape(F, 2 * P, 1))[:, :, 0]                 # (F, 6)
        for a in range(3):
            self.E[:, a, -1] = np.einsum('fkp,fkp->p', Jp[:, a], Jf)

    def reduced(self, lam):
        """Schur complement S, right side g, and what is needed to go back to the points."""
        F = len(self.U)
        V = self.V.copy()
        for k in (0, 3, 5):
            V[k] = V[k] * (1 + lam) + 1e-9
        Vi, _ = invert_symmetric(V)
        free = self.E[:, :, 6:]
        Y = Vi @ free
        n = free.shape[2]
        S = np.zeros((n, n))
        for points, poses in self.strips:
            left, right = free[points, :, poses], Y[points, :, poses]
            m = left.shape[2]
            S[poses, poses] -= left.reshape(-1, m).T @ right.reshape(-1, m)
        flat, focal = free.reshape(-1, n), Y[:, :, -1].reshape(-1)
        S[-1] -= focal @ flat
        S[:-1, -1] = S[-1, :-1]
        for k in range(1, F):
            block = slice(6 * (k - 1), 6 * k)
            S[block, block] += self.U[k] + np.diag(lam * np.diag(self.U[k]) + 1e-9)
        S[:-1, -1] += self.cf[1:].ravel()
        S[-1, :-1] += self.cf[1:].ravel()
        S[-1, -1] += self.uf
        gp = self.gp.T[:, :, None]
        g = np.append(self.gc[1:].ravel(), self.gf) - Y.reshape(-1, n).T @ gp.reshape(-1)
        return S, g, Vi, gp, free

    def solve(self, lam):
        """One damped step: poses (F, 6) with frame 0 held, points (P, 3), ln focal."""
        S, g, Vi, gp, free = self.reduced(lam)
        d = -cho_solve(cho_factor(S, lower=True, check_finite=False), g, check_finite=False)
        points = -(Vi @ (gp + (free @ d)[:, :, None]))[:, :, 0]
        return np.concatenate([np.zeros(6), d[:-1]]).reshape(-1, 6), points, float(d[-1])


@dataclass(slots=True, eq=False)
class _Point:
    """One point of the search: parameters, what follows from them, and the robust cost."""

    R: np.ndarray
    t: np.ndarray
    X: np.ndarray
    xy: np.ndarray
    focal_px: float
    log_focal: float        # ln of focal_px over the focal length at the start

    def evaluate(self, seen, prior):
        r, z, uv, iz = _residuals(self.R, self.t, self.X, self.xy, self.focal_px)
        w, cost = _weights(r, z, seen)
        if prior is not None:
            cost += 0.5 * prior.information * (self.log_focal - prior.mean) ** 2
        return (r, w, uv, iz), cost

    def step(self, poses, points, focal):
        turn = so3_exp(poses[:, :3])
        factor = np.exp(np.clip(focal, -0.1, 0.1))
        return _Point(turn @ self.R, (turn @ self.t[:, :, None])[:, :, 0] + poses[:, 3:],
                      self.X + points, self.xy / factor if focal else self.xy,
                      self.focal_px * factor, self.log_focal + np.log(factor))


def adjust(scene: Scene, iterations: int, prior: Optional[FocalPrior] = None,
           tolerance: float = 1e-4) -> Adjustment:
    """Minimise the robust reprojection error in place; frame 0 stays fixed.

    The free scale of the window is held by the damping alone. With a ``prior`` the focal length
    is adjusted, too: ``scene.focal_px`` and, with it, ``scene.xy`` change. Frames that see
    nothing keep their pose.
    """
    order = np.argsort(scene.seen.argmax(axis=0), kind='stable')
    back = np.argsort(order)
    seen = scene.seen[:, order]
    strips = _strips(seen)
    lam, accepted, system = 1e-4, 0, None
    now = _Point(scene.R, scene.t, scene.X[order], scene.xy[:, order], scene.focal_px, 0.0)
    state, cost = now.evaluate(seen, prior)
    for _ in range(iterations):
        here = None if prior is None else FocalPrior(prior.mean - now.log_focal, prior.information)
        system = _System(now, strips, *state, here)
        better = None
        for _ in range(6):
            try:
                trial = now.step(*system.solve(lam))
            except LinAlgError:
                lam *= 10
                continue
            state1, cost1 = trial.evaluate(seen, prior)
            if cost1 < cost:
                better = trial
                break
            lam *= 10
        if better is None:
            break
        gain = (cost - cost1) / max(cost, 1e-12)
        now, state, cost = better, state1, cost1
        lam, accepted = max(lam / 5, 1e-9), accepted + 1
        if gain < tolerance:
            break
    scene.R, scene.t, scene.X, scene.xy, scene.focal_px = (
        now.R, now.t, now.X[back], now.xy[:, back], now.focal_px)
    information = 0.0
    if prior is not None and system is not None:
        information = _focal_information(system) - prior.information
    return Adjustment(cost, accepted, now.log_focal, max(information, 0.0))


def _strips(seen):
    """Cut points (sorted by first frame) into strips with the pose unknowns each one touches.

    Tracks are short, so most of the grid is empty; and products this small stay on one thread,
    where BLAS is faster than on two that wait for each other.
    """
    F, P = seen.shape
    first = seen.argmax(axis=0)
    last = F - 1 - seen[::-1].argmax(axis=0)
    strips, start = [], 0
    while start < P:
        low, high, stop = max(first[start] - 1, 0), last[start], start
        while stop < P:
            wider = max(high, last[stop])
            if stop > start and 3 * (stop + 1 - start) * (6 * (wider - low)) ** 2 > _STRIP_SIZE:
                break
            high, stop = wider, stop + 1
        if high > low:
            strips.append((slice(start, stop), slice(6 * low, 6 * high)))
        start = stop
    return strips


def _focal_information(system) -> float:
    """Information about ln f that is left when poses and points are free (and the prior)."""
    S = system.reduced(1e-6)[0]
    try:
        factor = cho_factor(S[:-1, :-1], lower=True, check_finite=False)
    except LinAlgError:
        return 0.0
    return float(S[-1, -1] - S[-1, :-1] @ cho_solve(factor, S[:-1, -1], check_finite=False))
