"""Similarity transforms of space: scale, rotation, translation."""

from dataclasses import dataclass

import numpy as np

from . import se3

NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2
"""Of a quadrature over [0, 1], see `_translation_factor`."""


@dataclass(frozen=True, slots=True, eq=False)
class Sim3:
    """``T_a_b``: takes coordinates in b to a, ``x_a = scale * R @ x_b + t``.

    Raises ValueError for a scale that is not positive, an R that is no rotation (tolerance 1e-6)
    or a t that is not finite.
    """

    scale: float
    R: np.ndarray                           # (3, 3) f64
    t: np.ndarray                           # (3,) f64, units of a

    def __post_init__(self):
        scale = float(self.scale)
        R, t = np.array(self.R, np.float64), np.array(self.t, np.float64)
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f'Sim3.scale: expected a finite number above 0, got {scale}')
        if R.shape != (3, 3) or t.shape != (3,):
            raise ValueError(f'Sim3.R, Sim3.t: expected shapes (3, 3) and (3,), got {R.shape} and '
                             f'{t.shape}')
        if not np.allclose(R @ R.T, np.eye(3), atol=1e-6) or np.linalg.det(R) < 0:
            raise ValueError(f'Sim3.R: not a rotation:\n{R}')
        if not np.isfinite(t).all():
            raise ValueError(f'Sim3.t: must be finite, got {t}')
        R.flags.writeable = t.flags.writeable = False
        for name, value in (('scale', scale), ('R', R), ('t', t)):
            object.__setattr__(self, name, value)

    @classmethod
    def identity(cls) -> 'Sim3':
        """Return the transform that changes nothing."""
        return cls(1.0, np.eye(3), np.zeros(3))

    @classmethod
    def from_rigid(cls, T: np.ndarray) -> 'Sim3':
        """Return the similarity of scale 1 of a rigid transform (4, 4)."""
        T = np.asarray(T, np.float64)
        if T.shape != (4, 4):
            raise ValueError(f'T: expected shape (4, 4), got {T.shape}')
        return cls(1.0, T[:3, :3], T[:3, 3])

    @classmethod
    def exp(cls, xi: np.ndarray) -> 'Sim3':
        """Return the transform of a tangent (7,) = (u, w, l): l is the logarithm of the scale."""
        xi = np.asarray(xi, np.float64)
        if xi.shape != (7,):
            raise ValueError(f'xi: expected shape (7,), got {xi.shape}')
        u, w, log_scale = xi[:3], xi[3:6], xi[6]
        return cls(np.exp(log_scale), se3.so3_exp(w), _translation_factor(w, log_scale) @ u)

    def log(self) -> np.ndarray:
        """Return the tangent (7,) = (u, w, l) whose `exp` is this transform; |w| <= pi."""
        w, log_scale = se3.so3_log(self.R), np.log(self.scale)
        u = np.linalg.solve(_translation_factor(w, log_scale), self.t)
        return np.concatenate([u, w, [log_scale]])

    def __matmul__(self, other: 'Sim3') -> 'Sim3':
        """Return ``T_a_c`` for ``T_a_b @ T_b_c``."""
        if not isinstance(other, Sim3):
            return NotImplemented
        return Sim3(self.scale * other.scale, self.R @ other.R, self.apply(other.t))

    def inverse(self) -> 'Sim3':
        """Return ``T_b_a``."""
        return Sim3(1.0 / self.scale, self.R.T, -(self.R.T @ self.t) / self.scale)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Return the transformed points (..., 3) f64."""
        return self.scale * (np.asarray(points, np.float64) @ self.R.T) + self.t

    def apply_to_poses(self, T_b_c: np.ndarray) -> np.ndarray:
        """Return rigid poses ``T_a_c`` (..., 4, 4): origins are transformed, axes only rotated.

        Lengths measured in c must be multiplied by `scale` to go with the result.
        """
        T_b_c = np.asarray(T_b_c, np.float64)
        return se3.from_parts(self.R @ T_b_c[..., :3, :3], self.apply(T_b_c[..., :3, 3]))

    def as_matrix(self) -> np.ndarray:
        """Return the homogeneous matrix (4, 4) with ``scale * R`` in its upper left."""
        return se3.from_parts(self.scale * self.R, self.t)


def _translation_factor(w: np.ndarray, log_scale: float) -> np.ndarray:
    """Return the (3, 3) integral over x in [0, 1] of ``e^(l x) exp(x w)``.

    Closed forms (Strasdat 2012, appendix) cancel near the identity in three ways; Gauss-Legendre
    quadrature with 20 nodes is exact to double precision for |l| <= 10 and |w| <= pi, without
    cases.
    """
    W = se3.hat(w)
    angle = np.linalg.norm(w)
    e = WEIGHTS * np.exp(log_scale * NODES)
    # np.sinc is sin(pi x) / (pi x), finite at 0
    sine = NODES * np.sinc(angle * NODES / np.pi)
    versine = 0.5 * (NODES * np.sinc(angle * NODES / (2 * np.pi)))**2
    return e.sum() * np.eye(3) + (e @ sine) * W + (e @ versine) * (W @ W)
