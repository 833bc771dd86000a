"""All errors of one trajectory at once."""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..geometry.sim3 import Sim3
from ..types import Trajectory
from .association import associate, MAX_DT_S, Pairs, path_length
from .trajectory import align, ate, Drift, kitti_drift, Rpe, rpe, Statistics


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A trajectory against the truth. Relative errors and drift are those after ``align``."""

    align: str                              # 'sim3' or 'se3'
    pairs: Pairs
    n_poses: int                            # of the estimate
    path_length_m: float                    # of the truth, where there are pairs
    T_gt_est: Sim3                          # of ``align``
    scale: float                            # true metres an estimated unit, of the Sim(3)
    ate_sim3_m: Statistics
    ate_se3_m: Statistics
    errors_m: np.ndarray                    # (P,) f64, absolute errors after ``align``
    rpe_frame: Rpe
    rpe_metre: Rpe | None                   # None: the path is shorter than a metre
    drift: Drift

    @property
    def T_gt_camera(self) -> np.ndarray:
        """(P, 4, 4) f64 m, the estimated poses after alignment, in the frame of the truth."""
        return self.T_gt_est.apply_to_poses(self.pairs.T_est)


def evaluate(est: Trajectory, gt: Trajectory, align_by: str = 'sim3',
             max_dt_s: float = MAX_DT_S) -> Evaluation:
    """Compare an estimate with the truth (m).

    ``align_by`` is ``sim3`` (the scale is free: one camera does not know it) or ``se3``. Raises
    ``InputError`` when the two share too few times, or when the truth stands still.
    """
    if align_by not in ('sim3', 'se3'):
        raise ValueError(f'align_by: expected "sim3" or "se3", got {align_by!r}')
    pairs = associate(est, gt, max_dt_s)
    similar, rigid = align(pairs, with_scale=True), align(pairs, with_scale=False)
    errors = {name: ate(T.apply_to_poses(pairs.T_est), pairs.T_gt)
              for name, T in (('sim3', similar), ('se3', rigid))}
    T_gt_est = similar if align_by == 'sim3' else rigid
    T_est = T_gt_est.apply_to_poses(pairs.T_est)
    length_m = path_length(pairs.T_gt[:, :3, 3])
    return Evaluation(
        align=align_by, pairs=pairs, n_poses=len(est), path_length_m=length_m, T_gt_est=T_gt_est,
        scale=similar.scale, ate_sim3_m=Statistics.of(errors['sim3']),
        ate_se3_m=Statistics.of(errors['se3']), errors_m=errors[align_by],
        rpe_frame=rpe(T_est, pairs.T_gt), rpe_metre=_rpe_metre(T_est, pairs.T_gt),
        drift=kitti_drift(T_est, pairs.T_gt))


def _rpe_metre(T_est: np.ndarray, T_gt: np.ndarray) -> Rpe | None:
    try:
        return rpe(T_est, T_gt, 1.0, 'm')
    except InputError:
        return None
