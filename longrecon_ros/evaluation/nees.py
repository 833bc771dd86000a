"""Whether covariances of poses are as large as the errors: the normalised error squared.

``e^T C^-1 e`` averages to the number of dimensions where the covariance C of the error e is right
(Bar-Shalom, Li, Kirubarajan 2001, section 5.4.2); more tells that errors are larger than claimed.
Errors along one run depend on each other, so that only the average of many runs says something.
"""

from dataclasses import dataclass
from typing import Optional

import numpy as np
from scipy.stats import chi2

from ..errors import InputError
from ..geometry import se3


@dataclass(frozen=True, slots=True, eq=False)
class Nees:
    """Normalised errors squared of one run; the expectations are 6, 3 and 3."""

    rows: np.ndarray                        # (P,) i64, of the trajectory
    pose: np.ndarray                        # (P,) f64
    translation: np.ndarray                 # (P,) f64
    rotation: np.ndarray                    # (P,) f64
    scale: float                            # estimated units a true metre

    @property
    def ratios(self) -> np.ndarray:
        """(3,) averages over their expectations: of poses, translations and rotations."""
        return np.array([self.pose.mean() / 6, self.translation.mean() / 3,
                         self.rotation.mean() / 3])

    @property
    def share_inside(self) -> float:
        """Share of the poses inside the region that should hold 95 % of them."""
        return float((self.pose <= chi2.ppf(0.95, 6)).mean())


def pose_errors(T_est: np.ndarray, T_gt: np.ndarray, scale: float) -> np.ndarray:
    """Return errors (K, 6) of poses (K, 4, 4) relative to the first, translation then rotation.

    In axes of the estimate, and its units: the truth is put into its frame by the first pose and
    multiplied by ``scale``. Rotations are those about fixed axes that lead from true to estimated.
    """
    T_true = true_in_odom(T_est, T_gt, scale)
    turns = se3.so3_log(T_est[:, :3, :3] @ np.swapaxes(T_true[:, :3, :3], -1, -2))
    return np.concatenate([T_est[:, :3, 3] - T_true[:, :3, 3], turns], axis=1)


def true_in_odom(T_est: np.ndarray, T_gt: np.ndarray, scale: float) -> np.ndarray:
    """Return the true poses (K, 4, 4) as the estimate would have them, had it no error."""
    T_true = np.array(se3.relative(T_gt[0], T_gt))
    T_true[:, :3, 3] *= scale
    return T_est[0] @ T_true


def best_scale(T_est: np.ndarray, T_gt: np.ndarray) -> float:
    """Return the estimated units a true metre that fit the positions best, the first one fixed.

    Raises InputError where one of the two stands still.
    """
    est = T_est[:, :3, 3] - T_est[0, :3, 3]
    true = true_in_odom(T_est, T_gt, 1.0)[:, :3, 3] - T_est[0, :3, 3]
    scale = float((est * true).sum()) / max(float((true**2).sum()), np.finfo(float).tiny)
    if not (np.isfinite(scale) and scale > 0):
        raise InputError('the poses fix no scale: one of the two trajectories stands still, or '
                         'they lead to opposite sides; give the scale')
    return scale


def score_nees(T_est: np.ndarray, covariance: np.ndarray, T_gt: np.ndarray,
               scale: Optional[float] = None) -> Nees:
    """Return the normalised errors of poses (K, 4, 4) with covariances (K, 6, 6).

    Covariances are those of `types.Update`: relative to the first pose, which is left out, as are
    poses without a covariance (NaN). ``scale`` is in estimated units a true metre; None takes
    `best_scale`. Raises ValueError for other shapes, InputError where no pose is left.
    """
    n = len(T_est)
    if np.shape(T_gt) != (n, 4, 4) or np.shape(covariance) != (n, 6, 6):
        raise ValueError(f'T_gt, covariance: expected shapes ({n}, 4, 4) and ({n}, 6, 6), got '
                         f'{np.shape(T_gt)} and {np.shape(covariance)}')
    scale = best_scale(T_est, T_gt) if scale is None else scale
    rows = np.flatnonzero(np.isfinite(covariance).all(axis=(1, 2)))
    rows = rows[rows > 0]
    if not len(rows):
        raise InputError('no pose after the first has a covariance: all frames are lost, or what '
                         'made the poses gives none')
    errors, C = pose_errors(T_est, T_gt, scale)[rows], covariance[rows]
    return Nees(rows, normalised(errors, C), normalised(errors[:, :3], C[:, :3, :3]),
                normalised(errors[:, 3:], C[:, 3:, 3:]), float(scale))


def normalised(errors: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return ``e^T C^-1 e`` (P,) of errors (P, D) with covariances (P, D, D)."""
    return np.einsum('pi,pi->p', errors, np.linalg.solve(covariance, errors[..., None])[..., 0])
