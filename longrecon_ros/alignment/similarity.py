"""Sim(3) or SE(3) between two windows from the pointmaps of their shared frames."""

from dataclasses import dataclass

import numpy as np

from ..errors import AlignmentError
from ..geometry import se3
from ..geometry.umeyama import robust_umeyama
from ..types import Prediction
from .base import Alignment, common_frames


@dataclass(frozen=True, slots=True)
class PointAligner:
    """Robust weighted Umeyama on pairs of points that share a frame and a pixel.

    A pair weighs the product of both confidences over the squared depth, since depth errors grow
    with depth. For dense, well calibrated pointmaps (networks); on windows whose depth is weak
    `depth_ratio.DepthRatioAligner` is better, as it takes the rotation from the poses.
    """

    with_scale: bool = True                 # False: for backbones whose scale is metric
    loss: str = 'cauchy'                    # of geometry.umeyama
    max_points: int = 20000                 # pairs used at most, evenly spread
    min_inliers: int = 100
    min_inlier_share: float = 0.3
    max_error: float = 0.3                  # median distance of a pair over its depth

    def align(self, previous: Prediction, current: Prediction) -> Alignment:
        """Return the transform that takes the shared points of current to those of previous."""
        source, target, depth, confidence = self._pairs(previous, current)
        if len(source) < self.min_inliers:
            raise AlignmentError(f'the windows share {len(source)} defined points, '
                                 f'{self.min_inliers} are needed; use a larger overlap')
        fit = robust_umeyama(source, target, confidence / depth**2, self.with_scale, self.loss)
        n_inliers = int(fit.is_inlier.sum())
        distance = np.linalg.norm(target - fit.T_target_source.apply(source), axis=1)
        error = float(np.median(distance / depth))
        if (n_inliers < max(self.min_inliers, self.min_inlier_share * len(source))
                or error > self.max_error):
            raise AlignmentError(f'the points of the windows disagree: {n_inliers} of '
                                 f'{len(source)} fit one transform, and half of them lie more '
                                 f'than {error:.0%} of their depth apart; use a larger overlap')
        return Alignment(fit.T_target_source, n_inliers=n_inliers, rmse=fit.rmse)

    def _pairs(self, previous: Prediction, current: Prediction):
        """Return points (P, 3) f64 in window and in odom, depth and confidence (P,) of pairs."""
        i, j = common_frames(previous, current)
        if len(i) == 0:
            raise AlignmentError('the windows share no frame; set window.overlap above 0')
        both = previous.confidence[i] * current.confidence[j]
        frame, row, column = np.nonzero((both > 0) & (previous.depth[i] > 0))
        chosen = _evenly(len(frame), self.max_points)
        frame, row, column = frame[chosen], row[chosen], column[chosen]
        local_target = previous.local_points[i[frame], row, column]
        local_source = current.local_points[j[frame], row, column]
        target = se3.apply(previous.T_window_camera[i[frame]], local_target[:, None])[:, 0]
        source = se3.apply(current.T_window_camera[j[frame]], local_source[:, None])[:, 0]
        depth = local_target[:, 2].astype(np.float64)
        return source, target, depth, both[frame, row, column]


def _evenly(n: int, limit: int) -> np.ndarray:
    """Return at most ``limit`` evenly spread positions out of n."""
    if n <= limit:
        return np.arange(n)
    return (np.arange(limit) * (n / limit)).astype(np.int64)
