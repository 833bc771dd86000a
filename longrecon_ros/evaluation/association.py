"""Poses of two trajectories at the same times."""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..types import Trajectory

MAX_DT_S = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """P pairs of camera-to-world poses, estimate and truth, in the order of time."""

    stamps_ns: np.ndarray                   # (P,) i64, of the estimate
    T_est: np.ndarray                       # (P, 4, 4) f64, units of the estimate
    T_gt: np.ndarray                        # (P, 4, 4) f64 m

    def __len__(self) -> int:
        return len(self.stamps_ns)


def associate(est: Trajectory, gt: Trajectory, max_dt_s: float = MAX_DT_S) -> Pairs:
    """Pair each estimated pose with the true one nearest in time, at most ``max_dt_s`` away.

    A true pose goes with one estimated pose at most, the nearest one. Raises ``InputError`` when
    fewer than three pairs are found, saying which times the two cover.
    """
    if not len(est) or not len(gt):
        raise InputError(f'nothing to compare: {len(est)} estimated and {len(gt)} true poses')
    nearest = nearest_in_time(gt.stamps_ns, est.stamps_ns)
    dt_ns = np.abs(gt.stamps_ns[nearest] - est.stamps_ns)
    is_near = dt_ns <= round(max_dt_s * 1e9)
    order = np.lexsort((dt_ns, nearest))
    is_best = np.zeros(len(est), bool)
    is_best[order[np.unique(nearest[order], return_index=True)[1]]] = True
    chosen = is_near & is_best
    if np.count_nonzero(chosen) < 3:
        raise InputError(
            f'only {np.count_nonzero(chosen)} of {len(est)} estimated poses have a true pose '
            f'within {max_dt_s:g} s: the estimate covers {_span(est)}, the truth {_span(gt)}; '
            'check the time stamps')
    return Pairs(est.stamps_ns[chosen], est.T_map_camera[chosen],
                 gt.T_map_camera[nearest[chosen]])


def nearest_in_time(stamps: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the index (P,) of the one of the ascending stamps nearest to each wanted time."""
    right = np.clip(np.searchsorted(stamps, wanted), 1, max(1, len(stamps) - 1))
    if len(stamps) == 1:
        return np.zeros(len(wanted), np.int64)
    left = right - 1
    return np.where(wanted - stamps[left] <= stamps[right] - wanted, left, right)


def path_length(positions: np.ndarray) -> float:
    """Return the length of the path through (K, 3) positions."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())


def _span(trajectory: Trajectory) -> str:
    first, last = trajectory.stamps_ns[[0, -1]] / 1e9
    return f'{first:.3f} to {last:.3f} s'
