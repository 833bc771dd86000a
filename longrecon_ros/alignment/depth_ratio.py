"""Sim(3) between two windows, each part of it from what determines that part best."""

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from ..errors import AlignmentError
from ..geometry import se3
from ..geometry.sim3 import Sim3
from ..types import FrameState, Prediction
from .base import Alignment, shared_frames
from .log_scale import (
    centre_scale,
    dense_ratios,
    landmark_ratios,
    LogScale,
    robust_mean,
    weighted_median,
)


@dataclass(frozen=True, slots=True)
class DepthRatioAligner:
    """For windows reconstructed from a moving camera, where fitting 3D points is a bad choice.

    Depth noise along the rays turns and stretches a fit of two point clouds. Here the rotation
    is the mean of those between the shared cameras, the scale a robust mean of log depth ratios
    (of shared landmarks, or of the depth maps where those are too few; joined by the ratio of
    camera distances where the overlap moves enough), and the translation the median between
    camera centres.
    """

    min_landmarks: int = 50                 # below, depth maps are compared instead
    min_inliers: int = 20                   # samples that must agree
    min_inlier_share: float = 0.3
    max_spread: float = 0.3                 # robust deviation of the log ratios
    max_rotation_spread_deg: float = 5.0    # median deviation of the shared cameras' rotations
    max_centre_error: float = 0.2           # rms over median depth
    sigma_floor: float = 0.02               # log depth, added to what the landmarks say
    sigma_dense: float = 0.1                # log depth of one pixel at confidence 1
    max_pixels: int = 20000                 # pixels compared at most
    min_baseline: float = 0.05              # over median depth, for the scale from centres
    sigma_points: float = 0.005             # systematic part of the log scale from depths
    sigma_centres: float = 0.01             # systematic part of the log scale from centres

    def align(self, previous: Prediction, current: Prediction) -> Alignment:
        """Return where current lies in odom; see `base.Aligner.align`."""
        i, j = shared_frames(previous, current)
        i, j = _tracked(previous, current, i, j)
        R = self._rotation(previous.T_window_camera[i], current.T_window_camera[j])
        from_depth, median_depth = self._scale_from_depth(previous, current, i, j)
        centres = previous.T_window_camera[i, :3, 3]
        turned = current.T_window_camera[j, :3, 3] @ R.T
        log_scale = self._with_centres(from_depth, centres, turned, median_depth)
        scale = float(np.exp(log_scale))
        offsets = centres - scale * turned
        t = np.median(offsets, axis=0)
        rmse = float(np.sqrt(((offsets - t)**2).sum(axis=1).mean()))
        if rmse > self.max_centre_error * median_depth:
            raise AlignmentError(f'the shared cameras disagree by {rmse:.3g} at a median depth of '
                                 f'{median_depth:.3g}; use a larger overlap')
        return Alignment(Sim3(scale, R, t), n_inliers=from_depth.n_inliers, rmse=rmse,
                         log_scale_spread=from_depth.spread)

    def _rotation(self, previous: np.ndarray, current: np.ndarray) -> np.ndarray:
        """Return R_odom_window (3, 3) of shared poses (C, 4, 4)."""
        single = previous[:, :3, :3] @ np.swapaxes(current[:, :3, :3], -1, -2)
        R = se3.mean_rotation(single)
        spread = np.degrees(np.median(se3.rotation_angle(R.T @ single)))
        if spread > self.max_rotation_spread_deg:
            raise AlignmentError(f'the rotations of the {len(single)} shared cameras differ by '
                                 f'{spread:.1f} deg; use a larger overlap')
        return R

    def _scale_from_depth(self, previous: Prediction, current: Prediction, i: np.ndarray,
                          j: np.ndarray) -> Tuple[LogScale, float]:
        """Return the log scale from depths, and the median depth in odom units."""
        ratios = landmark_ratios(previous, current, i, j, self.sigma_floor)
        if len(ratios) < self.min_landmarks:
            n_landmarks = len(ratios)
            dense = dense_ratios(previous, current, i, j, self.sigma_dense, self.max_pixels)
            ratios = dense if len(dense) >= self.min_inliers else ratios
            if len(ratios) < self.min_inliers:
                raise AlignmentError(f'the windows share {n_landmarks} landmarks and {len(dense)} '
                                     f'defined pixels, {self.min_inliers} are needed for a '
                                     'scale; use a larger overlap')
        estimate = robust_mean(ratios)
        needed = max(self.min_inliers, self.min_inlier_share * estimate.n_samples)
        if estimate.n_inliers < needed or estimate.spread > self.max_spread:
            raise AlignmentError(f'the depths of the windows disagree: {estimate.n_inliers} of '
                                 f'{estimate.n_samples} ratios agree, their logarithms spread by '
                                 f'{estimate.spread:.2f}; use a larger overlap')
        return estimate, weighted_median(ratios.depths, np.ones(len(ratios)))

    def _with_centres(self, from_depth: LogScale, centres: np.ndarray, turned: np.ndarray,
                      median_depth: float) -> float:
        """Return the log scale, joined by that of camera centres where these fix one, too."""
        baseline = np.linalg.norm(centres[:, None] - centres[None], axis=-1).max()
        if baseline <= self.min_baseline * median_depth:
            return from_depth.value
        from_centres = centre_scale(centres, turned)
        a = from_depth.variance + self.sigma_points**2
        b = from_centres.variance + self.sigma_centres**2
        if not abs(from_centres.value - from_depth.value) < 3.0 * np.sqrt(a + b):
            return from_depth.value
        return float((from_depth.value / a + from_centres.value / b) / (1.0 / a + 1.0 / b))


def _tracked(previous: Prediction, current: Prediction, i: np.ndarray, j: np.ndarray):
    """Return the shared frames that both windows measured; all of them when there is none."""
    used = ((previous.states[i] == FrameState.TRACKED)
            & (current.states[j] == FrameState.TRACKED))
    return (i[used], j[used]) if used.any() else (i, j)
