"""Many similarities at once: `geometry.sim3.Sim3` with a leading axis, and derivatives of its log.

Tangents are ordered (u, w, l) as there: translation, rotation vector rad, logarithm of the scale.
"""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

from ..geometry import se3
from ..geometry.sim3 import NODES, Sim3, WEIGHTS


@dataclass(frozen=True, slots=True, eq=False)
class Sim3Batch:
    """``T_a_b`` N times over, ``x_a = scale * R @ x_b + t``; nothing is checked."""

    scale: np.ndarray                       # (N,) f64
    R: np.ndarray                           # (N, 3, 3) f64
    t: np.ndarray                           # (N, 3) f64, units of a

    @classmethod
    def from_records(cls, records: Sequence[Sim3]) -> 'Sim3Batch':
        """Return the transforms of a sequence as one batch."""
        return cls(np.array([T.scale for T in records], np.float64),
                   np.array([T.R for T in records], np.float64).reshape(-1, 3, 3),
                   np.array([T.t for T in records], np.float64).reshape(-1, 3))

    @classmethod
    def exp(cls, xi: np.ndarray) -> 'Sim3Batch':
        """Return the transforms of tangents (N, 7)."""
        u, w, log_scale = xi[:, :3], xi[:, 3:6], xi[:, 6]
        V = _polynomial(_factor(w, log_scale), se3.hat(w))
        return cls(np.exp(log_scale), se3.so3_exp(w), _times(V, u))

    def records(self) -> List[Sim3]:
        """Return the transforms one by one."""
        return [Sim3(*parts) for parts in zip(self.scale, self.R, self.t)]

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, index) -> 'Sim3Batch':
        """Return the part of the batch that an array or a slice selects."""
        return Sim3Batch(self.scale[index], self.R[index], self.t[index])

    def __matmul__(self, other: 'Sim3Batch') -> 'Sim3Batch':
        """Return ``T_a_c`` for ``T_a_b @ T_b_c``."""
        t = self.scale[:, None] * _times(self.R, other.t) + self.t
        return Sim3Batch(self.scale * other.scale, self.R @ other.R, t)

    def inverse(self) -> 'Sim3Batch':
        """Return ``T_b_a``."""
        R = np.swapaxes(self.R, 1, 2)
        return Sim3Batch(1.0 / self.scale, R, -_times(R, self.t) / self.scale[:, None])

    def orthonormal(self) -> 'Sim3Batch':
        """Return the same with the error of each R squared: a step of Newton's method."""
        R = self.R @ (1.5 * np.eye(3) - 0.5 * np.swapaxes(self.R, 1, 2) @ self.R)
        return Sim3Batch(self.scale, R, self.t)

    def log(self) -> np.ndarray:
        """Return the tangents (N, 7) whose `exp` these transforms are; |w| <= pi."""
        w, log_scale = se3.so3_log(self.R), np.log(self.scale)
        V = _polynomial(_inverse(_factor(w, log_scale), _square(w)), se3.hat(w))
        return np.concatenate([_times(V, self.t), w, log_scale[:, None]], axis=1)

    def adjoint(self) -> np.ndarray:
        """Return the (N, 7, 7) matrices A with ``T exp(xi) T^-1 = exp(A xi)``."""
        A = np.zeros((len(self), 7, 7))
        A[:, :3, :3] = self.scale[:, None, None] * self.R
        A[:, :3, 3:6] = se3.hat(self.t) @ self.R
        A[:, :3, 6] = -self.t
        A[:, 3:6, 3:6] = self.R
        A[:, 6, 6] = 1.0
        return A


def inverse_jacobians(xi: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the inverse left and right Jacobians (N, 7, 7) of tangents (N, 7).

    To first order in d, ``log(exp(d) exp(xi)) = xi + left @ d`` and
    ``log(exp(xi) exp(d)) = xi + right @ d``. The left Jacobian is the integral of
    ``Ad(exp(x xi))`` over x in [0, 1] (Barfoot 2017, "State Estimation for Robotics", section
    7.1): rows of blocks (V, Q, q), (0, J, 0), (0, 0, 1). V is the factor of the translation in
    `Sim3Batch.exp`, J the same without scale, which is the Jacobian of SO(3).
    """
    u, w, log_scale = xi[:, :3], xi[:, 3:6], xi[:, 6]
    W, square = se3.hat(w), _square(w)
    growth, turn, rest = _along(w, log_scale)
    # Ad(exp(x xi)) has [t(x)] exp(x W) and -t(x), where t(x) is the integral of e^(l y) exp(y W) u
    # over y up to x. So Q is that of e^(l y) exp(y W) [u] exp(z W) over y, z >= 0, y + z <= 1.
    pairs = (growth * turn) @ np.swapaxes(rest, 1, 2)               # of W^a and W^b, (N, 3, 3)
    powers = np.stack([np.broadcast_to(np.eye(3), W.shape), W, W @ W], axis=1)
    left = np.einsum('nab,naij->nbij', pairs, powers)
    Q = (left @ se3.hat(u)[:, None] @ powers).sum(axis=1)
    q = -_times(left[:, 0], u)
    V_inverse = _polynomial(_inverse((growth * turn).sum(axis=2), square), W)
    J_inverse = _polynomial(_inverse(_turned(w, np.ones(1))[:, :, 0], square), W)
    inverse = np.zeros((len(xi), 7, 7))
    inverse[:, :3, :3] = V_inverse
    inverse[:, :3, 3:6] = -V_inverse @ Q @ J_inverse
    inverse[:, :3, 6] = -_times(V_inverse, q)
    inverse[:, 3:6, 3:6] = J_inverse
    inverse[:, 6, 6] = 1.0
    # the left one is ad / (e^ad - 1), the right one -ad / (e^-ad - 1): they differ by ad
    return inverse, inverse + _bracket(xi)


def _bracket(xi: np.ndarray) -> np.ndarray:
    """Return ad(xi) (N, 7, 7), the derivative of the adjoint of ``exp(x xi)`` at x = 0."""
    A = np.zeros((len(xi), 7, 7))
    W = se3.hat(xi[:, 3:6])
    A[:, :3, :3] = W + xi[:, 6, None, None] * np.eye(3)
    A[:, :3, 3:6] = se3.hat(xi[:, :3])
    A[:, :3, 6] = -xi[:, :3]
    A[:, 3:6, 3:6] = W
    return A


def _along(w: np.ndarray, log_scale: np.ndarray):
    """Return, at the nodes x: weighted e^(l x), exp(x W), and the integral of exp(z W) to 1 - x.

    Shapes are (N, 1, nodes) and twice (N, 3, nodes); rotations are coefficients of 1, W and W^2.
    """
    growth = WEIGHTS * np.exp(log_scale[:, None] * NODES)
    return growth[:, None], _turn(w, NODES), _turned(w, 1.0 - NODES)


def _factor(w: np.ndarray, log_scale: np.ndarray) -> np.ndarray:
    """Return the coefficients (N, 3) of the integral of ``e^(l x) exp(x W)`` over x in [0, 1]."""
    growth = WEIGHTS * np.exp(log_scale[:, None] * NODES)
    return (growth[:, None] * _turn(w, NODES)).sum(axis=2)


def _turn(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the coefficients (N, 3, nodes) of exp(x W)."""
    angle = np.linalg.norm(w, axis=1)[:, None]
    # np.sinc is sin(pi x) / (pi x), finite at 0
    sine = x * np.sinc(angle * x / np.pi)
    return np.stack([np.ones_like(sine), sine, _versine(angle, x)], axis=1)


def _turned(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the coefficients (N, 3, nodes) of the integral of exp(z W) over z from 0 to x."""
    angle = np.linalg.norm(w, axis=1)[:, None]
    a = angle * x
    is_small = a < 0.1
    safe, s = np.where(is_small, 1.0, a), np.where(is_small, a, 0.0) ** 2
    series = (1.0 - s / 20 * (1.0 - s / 42 * (1.0 - s / 72))) / 6
    cubic = x**3 * np.where(is_small, series, (safe - np.sin(safe)) / safe**3)
    return np.stack([np.broadcast_to(x, a.shape), _versine(angle, x), cubic], axis=1)


def _versine(angle: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 0.5 * (x * np.sinc(angle * x / (2 * np.pi)))**2


def _polynomial(c: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Return ``c0 + c1 W + c2 W^2`` (N, 3, 3) of coefficients (N, 3)."""
    c = c[..., None, None]
    return c[:, 0] * np.eye(3) + c[:, 1] * W + c[:, 2] * (W @ W)


def _inverse(c: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Return the coefficients (N, 3) of the inverse of `_polynomial`; ``square`` is |w|^2 (N,).

    From its eigenvalues: c0, and p + i c1 |w| with p = c0 - c2 |w|^2, and its conjugate.
    """
    p = c[:, 0] - c[:, 2] * square
    norm = p**2 + c[:, 1]**2 * square
    return np.stack([1.0 / c[:, 0], -c[:, 1] / norm,
                     (c[:, 1]**2 - p * c[:, 2]) / (c[:, 0] * norm)], axis=1)


def _square(w: np.ndarray) -> np.ndarray:
    return np.einsum('ni,ni->n', w, w)


def _times(M: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (M @ v[:, :, None])[:, :, 0]
