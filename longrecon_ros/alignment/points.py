"""Sim(3) or SE(3) between two windows from the pointmaps of their shared frames."""

from dataclasses import dataclass

import numpy as np

from ..errors import AlignmentError
from ..geometry import se3
from ..geometry.umeyama import robust_umeyama
from ..types import Prediction
from .base import Alignment, shared_frames
from .huber_points import huber_similarity
from .sampling import evenly


@dataclass(frozen=True, slots=True)
class PointAligner:
    """Robust weighted fit of pairs of points that share a frame and a pixel.

    A pair weighs the product of both confidences over the squared depth, since depth errors grow
    with depth. For dense, well calibrated pointmaps; where depth is weak the rotation is better
    taken from the poses (`similarity.AnchorAligner`, `depth_ratio.DepthRatioAligner`).

    ``faithful`` is VGGT-Long's alignment of chunks: pairs above a tenth of the smaller median
    confidence, weighing the root of both confidences, with Huber's weights at a residual of 0.1
    map units.
    """

    with_scale: bool = True                 # False: for backbones whose scale is metric
    loss: str = 'huber'                     # or cauchy; of geometry.umeyama
    faithful: bool = False
    max_points: int = 20000                 # pairs used at most, evenly spread; not if faithful
    min_inliers: int = 100
    min_inlier_share: float = 0.3
    max_error: float = 0.3                  # median distance of a pair over its depth

    def align(self, previous: Prediction, current: Prediction) -> Alignment:
        """Return the transform that takes the shared points of current to those of previous."""
        if self.faithful:
            return self._align_as_published(previous, current)
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

    def _align_as_published(self, previous: Prediction, current: Prediction) -> Alignment:
        i, j = shared_frames(previous, current)
        a, b = previous.confidence[i], current.confidence[j]
        least = 0.1 * min(np.median(a), np.median(b))
        frame, row, column = np.nonzero((a > least) & (b > least))
        source, target = _points(previous, current, i[frame], j[frame], row, column)
        weights = np.sqrt(a[frame, row, column] * b[frame, row, column])
        T = huber_similarity(source, target, weights, self.with_scale)
        error = np.linalg.norm(target - T.apply(source), axis=1)
        return Alignment(T, n_inliers=len(source), rmse=float(np.sqrt(np.mean(error**2))))

    def _pairs(self, previous: Prediction, current: Prediction):
        """Return points (P, 3) f64 in window and in odom, depth and confidence (P,) of pairs."""
        i, j = shared_frames(previous, current)
        both = previous.confidence[i] * current.confidence[j]
        usable = ((both > 0) & (previous.depth[i] > 0) & np.isfinite(previous.depth[i])
                  & np.isfinite(current.depth[j]))
        frame, row, column = np.nonzero(usable)
        chosen = evenly(len(frame), self.max_points)
        frame, row, column = frame[chosen], row[chosen], column[chosen]
        source, target = _points(previous, current, i[frame], j[frame], row, column)
        depth = previous.depth[i[frame], row, column].astype(np.float64)
        return source, target, depth, both[frame, row, column]


def _points(previous: Prediction, current: Prediction, i, j, row, column):
    """Return current's points in its window and previous' in odom, (P, 3) f64 each."""
    target, source = previous.local_points[i, row, column], current.local_points[j, row, column]
    return (se3.apply(current.T_window_camera[j], source[:, None])[:, 0],
            se3.apply(previous.T_window_camera[i], target[:, None])[:, 0])
