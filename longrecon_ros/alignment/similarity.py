"""Sim(3) or SE(3) between two windows from their shared frames, LASER's way."""

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from ..errors import AlignmentError
from ..geometry.sim3 import Sim3
from ..types import FrameState, Prediction
from .anchors import kabsch_anchors, robust_anchors
from .base import Alignment, shared_frames
from .confidence import confident, threshold
from .irls import l1_scale, ORIGINAL
from .sampling import evenly


@dataclass(frozen=True, slots=True)
class AnchorAligner:
    """Scale from the depth of shared pixels, rotation and translation from shared cameras.

    The scale minimises the sum of distances between camera-frame points at the same pixel of the
    same frame, among pixels that both windows are confident of; rotation and translation are those
    of the camera anchors at that scale (LASER, registration of adjacent windows). The point clouds
    do not enter the rotation: their errors along the rays would turn it.

    ``faithful`` does what LASER's code does: absolute stopping tolerance, far points count more,
    camera arms of one unit. Else distances are relative to depth, pixels weigh by confidence, arms
    are as long as the median depth, and cameras with a bad pose count less.
    """

    with_scale: bool = True                 # False: for backbones whose scale is metric
    confident_share: float = 0.5            # of the pixels of each window
    faithful: bool = False
    max_pixels: int = 50000                 # compared at most, evenly spread; not if faithful
    min_pixels: int = 50
    max_spread: float = 0.3                 # distance over depth that a quarter of the pairs keeps
    max_centre_error: float = 0.2           # rms of the shared cameras over median depth

    def align(self, previous: Prediction, current: Prediction) -> Alignment:
        """Return where current lies in odom; see `base.Aligner.align`."""
        i, j = shared_frames(previous, current)
        if self.faithful:
            return self._align_as_published(previous, current, i, j)
        i, j = _measured(previous, current, i, j)
        source, target, weights = self._pairs(previous, current, i, j)
        depth = float(np.median(target[:, 2]))
        scale = l1_scale(source, target, weights) if self.with_scale else 1.0
        error = np.linalg.norm(scale * source - target, axis=1) / target[:, 2]
        # not half: the layers of a network may err so much that two of them share the pixels
        near, middle = np.quantile(error, [0.25, 0.5])
        if near > self.max_spread:
            raise AlignmentError('the depths of the windows disagree: three quarters of '
                                 f'{len(source)} pixels are more than {near:.0%} off at the best '
                                 'scale; use a larger overlap')
        poses = current.T_window_camera[j], previous.T_window_camera[i]
        R, t = robust_anchors(*poses, scale, depth)
        rmse = _rmse(*poses, Sim3(scale, R, t))
        if not rmse <= self.max_centre_error * depth:
            raise AlignmentError(f'the shared cameras disagree by {rmse:.3g} at a median depth of '
                                 f'{depth:.3g}; use a larger overlap')
        return Alignment(Sim3(scale, R, t), n_inliers=len(source), rmse=rmse,
                         log_scale_spread=1.4826 * float(middle))

    def _align_as_published(self, previous, current, i, j) -> Alignment:
        mask = (original_mask(previous, self.confident_share)[i]
                & original_mask(current, self.confident_share)[j])
        source, target = current.local_points[j][mask], previous.local_points[i][mask]
        scale = l1_scale(source, target, solver=ORIGINAL) if self.with_scale else 1.0
        poses = current.T_window_camera[j], previous.T_window_camera[i]
        T = Sim3(scale, *kabsch_anchors(*poses, scale))
        return Alignment(T, n_inliers=len(source), rmse=_rmse(*poses, T))

    def _pairs(self, previous: Prediction, current: Prediction, i: np.ndarray, j: np.ndarray
               ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return points (P, 3) of current and of previous at the same pixels, and weights (P,)."""
        usable = (confident(previous.confidence, self.confident_share)[i]
                  & confident(current.confidence, self.confident_share)[j])
        z_target, z_source = previous.depth[i], current.depth[j]
        usable &= (z_target > 0) & (z_source > 0)
        chosen = np.flatnonzero(usable)
        chosen = chosen[evenly(len(chosen), self.max_pixels)]
        frame, row, column = np.unravel_index(chosen, usable.shape)
        source = current.local_points[j[frame], row, column].astype(np.float64)
        target = previous.local_points[i[frame], row, column].astype(np.float64)
        finite = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
        if np.count_nonzero(finite) < self.min_pixels:
            raise AlignmentError(f'the windows share {np.count_nonzero(finite)} confident pixels, '
                                 f'{self.min_pixels} are needed; use a larger overlap')
        frame, row, column = frame[finite], row[finite], column[finite]
        confidence = (previous.confidence[i[frame], row, column]
                      * current.confidence[j[frame], row, column])
        source, target = source[finite], target[finite]
        return source, target, np.sqrt(confidence) / target[:, 2]


def original_mask(prediction: Prediction, share: float) -> np.ndarray:
    """Return (N, H, W) bool of the pixels that LASER's code is confident of."""
    return prediction.confidence >= threshold(prediction.confidence, share)


def _measured(previous: Prediction, current: Prediction, i: np.ndarray, j: np.ndarray):
    """Return the shared frames whose pose both windows measured; all when there is none."""
    used = ((previous.states[i] != FrameState.LOST) & (current.states[j] != FrameState.LOST))
    return (i[used], j[used]) if used.any() else (i, j)


def _rmse(T_window_camera: np.ndarray, T_odom_camera: np.ndarray, T_odom_window: Sim3) -> float:
    """Return the rms distance of the shared camera centres, odom units."""
    moved = T_odom_window.apply(T_window_camera[:, :3, 3])
    return float(np.sqrt(((moved - T_odom_camera[:, :3, 3])**2).sum(axis=1).mean()))
