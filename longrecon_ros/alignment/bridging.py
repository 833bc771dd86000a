"""Where a window goes whose link gives no scale, or that has no link: keep the last motion."""

import dataclasses

import numpy as np

from ..geometry import se3
from ..geometry.sim3 import Sim3
from ..types import FrameState, Prediction
from .base import Alignment, apply, common_frames

_MIN_SPEED = 1e-3       # over median depth, a frame


def bridge(previous: Prediction, current: Prediction, use_motion: bool = True) -> Alignment:
    """Return a guess of where ``current`` lies in odom, for a window that measured some motion.

    One shared camera is made to coincide (the last that both measured; without a shared frame the
    first camera is put where the last motion of ``previous`` leads, or, if not ``use_motion``,
    where it ended). The scale is that of the shared frames' median depths, else that which keeps
    the speed, else that of the median depths of both windows, else 1.
    """
    i, j = common_frames(previous, current)
    if len(i):
        anchor = _best_shared(previous, current, i, j)
        T_odom_camera = previous.T_window_camera[i[anchor]]
        T_window_camera = current.T_window_camera[j[anchor]]
    else:
        T_odom_camera = extrapolate(previous, 1, use_motion)[0]
        T_window_camera = current.T_window_camera[0]
    scale = _scale(previous, current, i, j)
    R = T_odom_camera[:3, :3] @ T_window_camera[:3, :3].T
    t = T_odom_camera[:3, 3] - scale * R @ T_window_camera[:3, 3]
    return Alignment(Sim3(scale, se3.nearest_rotation(R), t))


def is_lost(current: Prediction, n_overlap: int) -> bool:
    """Tell whether a window measured no motion after its leading ``n_overlap`` frames."""
    return bool((current.states[n_overlap:] == FrameState.LOST).all())


def has_lengths(prediction: Prediction) -> bool:
    """Tell whether a window holds any length (depth, a landmark or a motion), and so a scale."""
    return (median_depth(prediction) > 0 or _speed(prediction) > 0
            or prediction.landmarks is not None and len(prediction.landmarks.ids) > 0)


def shares_measured(previous: Prediction, current: Prediction) -> bool:
    """Tell whether some shared frame has a measured pose in both windows."""
    i, j = common_frames(previous, current)
    return bool(((previous.states[i] != FrameState.LOST)
                 & (current.states[j] != FrameState.LOST)).any())


def carry_on(previous: Prediction, current: Prediction, use_motion: bool) -> Prediction:
    """Return a window that measured nothing, in odom, its new frames extrapolated.

    Shared frames keep their poses; the others go on with the last motion of ``previous``, or, if
    not ``use_motion``, stay where it ended.
    """
    i, j = common_frames(previous, current)
    moved = apply(Alignment(Sim3.identity()), current)
    poses = np.array(moved.T_window_camera)
    is_new = np.ones(len(poses), bool)
    is_new[j] = False
    poses[j] = previous.T_window_camera[i]
    poses[is_new] = extrapolate(previous, int(is_new.sum()), use_motion)
    return dataclasses.replace(moved, T_window_camera=poses, landmarks=None)


def extrapolate(previous: Prediction, n: int, use_motion: bool = True) -> np.ndarray:
    """Return n poses (n, 4, 4) after the last of ``previous``, at its last velocity or at rest."""
    last = previous.T_window_camera[-1]
    if len(previous.frame_ids) < 2 or not use_motion:
        return np.broadcast_to(last, (n, 4, 4))
    return se3.interpolate(previous.T_window_camera[-2], last, np.arange(2.0, n + 2.0))


def _best_shared(previous: Prediction, current: Prediction, i: np.ndarray, j: np.ndarray) -> int:
    measured = ((previous.states[i] != FrameState.LOST).astype(int)
                + (current.states[j] != FrameState.LOST))
    return int(np.flatnonzero(measured == measured.max())[-1])


def _scale(previous: Prediction, current: Prediction, i: np.ndarray, j: np.ndarray) -> float:
    everywhere = slice(None)
    for a, b in ((median_depth(previous, i), median_depth(current, j)),
                 (_speed(previous), _speed(current)),
                 (median_depth(previous, everywhere), median_depth(current, everywhere))):
        if a > 0 and b > 0:
            return a / b
    return 1.0


def median_depth(prediction: Prediction, frames=slice(None)) -> float:
    """Return the median depth of the defined pixels of some frames; 0 without any."""
    depth = prediction.depth[frames][prediction.confidence[frames] > 0]
    depth = depth[np.isfinite(depth) & (depth > 0)]
    return float(np.median(depth)) if len(depth) else 0.0


def _speed(prediction: Prediction) -> float:
    """Return the median distance between neighbouring measured cameras.

    0 without any, and below 0.1 % of the median depth, where it is the noise of standing.
    """
    centres = prediction.T_window_camera[prediction.states != FrameState.LOST, :3, 3]
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    speed = float(np.median(steps)) if len(steps) else 0.0
    return speed if speed > _MIN_SPEED * median_depth(prediction) else 0.0
