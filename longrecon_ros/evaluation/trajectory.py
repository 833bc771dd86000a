"""Errors of a trajectory: absolute, relative, and drift over a length."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import AlignmentError, InputError
from ..geometry import se3
from ..geometry.sim3 import Sim3
from ..geometry.umeyama import umeyama
from .association import Pairs, path_length

KITTI_LENGTHS_M = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0)
_KITTI_STEP = 10                # frames between starts of segments, as in the benchmark
_MIN_KITTI_PATH_M = 200.0       # below it the lengths are shortened


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is usually said about a set of errors; all in their unit."""

    rmse: float
    mean: float
    median: float
    std: float
    min: float
    max: float

    @classmethod
    def of(cls, errors: np.ndarray) -> 'Statistics':
        """Return the statistics of (N,) errors, N at least 1."""
        errors = np.asarray(errors, np.float64)
        return cls(*(float(f) for f in (
            np.sqrt(np.mean(errors**2)), errors.mean(), np.median(errors), errors.std(),
            errors.min(), errors.max())))


@dataclass(frozen=True, slots=True)
class Rpe:
    """Relative pose error over pairs of poses that are ``delta`` frames or metres apart."""

    delta: float
    unit: Literal['frames', 'm']
    n_pairs: int
    translation_m: Statistics
    rotation_deg: Statistics


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """Drift as in the KITTI odometry benchmark: mean error of segments over their length."""

    percent: float
    deg_per_m: float
    lengths_m: tuple[float, ...]
    percent_by_length: tuple[float, ...]    # one a length
    n_segments: int
    is_standard: bool
    """False: the path is too short for 100 to 800 m, and lengths are tenths of the path."""


def align(pairs: Pairs, with_scale: bool) -> Sim3:
    """Return T_gt_est that brings the estimated positions to the true ones (Umeyama 1991).

    Raises ``InputError`` when the positions fix no rotation (a straight line, or one place).
    """
    try:
        return umeyama(pairs.T_est[:, :3, 3], pairs.T_gt[:, :3, 3], with_scale=with_scale)
    except AlignmentError:
        raise InputError('the trajectories cannot be aligned: one of them stands still or is a '
                         'perfectly straight line, which fixes no rotation') from None


def ate(T_est: np.ndarray, T_gt: np.ndarray) -> np.ndarray:
    """Return the absolute trajectory errors (P,): distances of aligned positions, m."""
    return np.linalg.norm(T_est[:, :3, 3] - T_gt[:, :3, 3], axis=1)


def rpe(T_est: np.ndarray, T_gt: np.ndarray, delta: float = 1,
        unit: Literal['frames', 'm'] = 'frames') -> Rpe:
    """Return the relative pose error of aligned poses (P, 4, 4) (Sturm 2012, eq. 2).

    With ``frames`` every pose is paired with the one ``delta`` later; with ``m`` the true path is
    cut into consecutive pieces that are ``delta`` metres or just above. Raises ``InputError`` when
    the trajectory is too short for one pair.
    """
    if unit == 'frames':
        first = np.arange(len(T_gt) - int(delta))
        last = first + int(delta)
    else:
        cuts = _cut_path(T_gt[:, :3, 3], delta)
        first, last = cuts[:-1], cuts[1:]
    if not len(first):
        raise InputError(f'the trajectory is too short for pairs {delta:g} {unit} apart')
    error = _relative_errors(T_est, T_gt, first, last)
    return Rpe(float(delta), unit, len(first),
               Statistics.of(np.linalg.norm(error[:, :3, 3], axis=1)),
               Statistics.of(np.degrees(se3.rotation_angle(error[:, :3, :3]))))


def kitti_drift(T_est: np.ndarray, T_gt: np.ndarray) -> Drift:
    """Return the drift of aligned poses (P, 4, 4) over segments of 100, 200, ... 800 m.

    Geiger 2012: every tenth pose starts a segment of each length that fits; the error of the
    motion over a segment is divided by the length, and all segments are averaged. On a path below
    200 m the lengths are 10, 20, ... 80 % of the path, and every pose starts segments. Raises
    ``InputError`` when the true path has no length.
    """
    length_m = path_length(T_gt[:, :3, 3])
    if not length_m > 0:
        raise InputError('the true trajectory stands still: there is no drift over a length')
    is_standard = length_m >= _MIN_KITTI_PATH_M
    lengths = KITTI_LENGTHS_M if is_standard else np.arange(1, 9) * length_m / 10
    walked = _walked(T_gt[:, :3, 3])
    starts = np.arange(0, len(T_gt), _KITTI_STEP if is_standard else 1)
    used, percent, turn = [], [], []
    for length in lengths:
        ends = np.searchsorted(walked, walked[starts] + length)
        fits = ends < len(T_gt)
        if fits.any():
            error = _relative_errors(T_est, T_gt, starts[fits], ends[fits])
            used.append(float(length))
            percent.append(100 * np.linalg.norm(error[:, :3, 3], axis=1) / length)
            turn.append(np.degrees(se3.rotation_angle(error[:, :3, :3])) / length)
    return Drift(float(np.concatenate(percent).mean()), float(np.concatenate(turn).mean()),
                 tuple(used), tuple(float(p.mean()) for p in percent),
                 sum(len(p) for p in percent), is_standard)


def _relative_errors(T_est: np.ndarray, T_gt: np.ndarray, first: np.ndarray,
                     last: np.ndarray) -> np.ndarray:
    """Return (true motion)^-1 (estimated motion) (S, 4, 4) from poses first to last."""
    true, estimated = se3.relative(T_gt[first], T_gt[last]), \
        se3.relative(T_est[first], T_est[last])
    return se3.relative(true, estimated)


def _walked(positions: np.ndarray) -> np.ndarray:
    """Return the length of the path (P,) up to each position."""
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def _cut_path(positions: np.ndarray, delta: float) -> np.ndarray:
    """Return indices of positions along the path, each at least ``delta`` after the one before."""
    walked = _walked(positions)
    cuts = [0]
    while True:
        following = int(np.searchsorted(walked, walked[cuts[-1]] + delta))
        if following >= len(walked):
            return np.array(cuts)
        cuts.append(following)
