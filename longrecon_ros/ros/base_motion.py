"""Camera poses become motion of the robot's base: poses, velocities, and how sure they are."""

from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

from ..geometry import se3
from ..types import FrameState, Update

T_BODY_OPTICAL = se3.from_parts([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], [0, 0, 0])
"""Optical axes (x right, y down, z forward) to body axes (x forward, y left, z up): REP-103."""

UNKNOWN_VARIANCE = 9999.0
"""Variance of what is not known, m^2 or rad^2; the value that robot_localization users know."""

_SIGMA_MIN_M, _SIGMA_MIN_RAD = 0.01, 0.005
_TURN_DRIFT_RAD = 1e-4          # orientation, a frame
_LOST_TURN_RAD = 0.1            # orientation, a lost frame
_SPEED_SIGMA_RATIO = 0.05       # of the velocity, which comes from neighbouring poses


@dataclass(frozen=True, slots=True, eq=False)
class BaseState:
    """The base at one image: pose in odom, velocity, and the variance of both."""

    stamp_ns: int
    T_odom_base: np.ndarray         # (4, 4) f64
    twist: np.ndarray               # (6,) f64 m/s, rad/s, in axes of the base
    pose_variance: np.ndarray       # (6,) f64 m^2, rad^2
    twist_variance: np.ndarray      # (6,) f64
    state: FrameState


class BaseMotion:
    """Turns the camera poses of updates into states of the base, one a frame.

    ``T_base_camera`` is the mounting E of the camera, in optical axes. odom is where the base was
    at the first image: ``T_odom_base(t) = E T_camera0_camera(t) E^-1``. So the camera is right in
    the tree of transforms. The base is, too, where odom units are metres; else the lever arm, in
    metres, is of another scale than the motion.

    The variances are a model, not a measurement: the position is off by ``drift_ratio`` of the way
    gone, the orientation by 1e-4 rad a frame, and each lost frame adds a step of mean length and
    0.1 rad, for ever. A lost frame itself has `UNKNOWN_VARIANCE`.
    """

    def __init__(self, T_base_camera: np.ndarray, drift_ratio: float):
        self.T_base_camera = T_base_camera
        self._drift_ratio = drift_ratio
        self._last: Optional[BaseState] = None
        self._travelled_m = 0.0
        self._n_frames = self._n_lost = 0

    def take(self, update: Update) -> List[BaseState]:
        """Return the states of an update's new frames."""
        T_odom_base = self.T_base_camera @ update.T_odom_camera @ se3.inverse(self.T_base_camera)
        return [self._next(int(stamp_ns), T, FrameState(state)) for stamp_ns, T, state
                in zip(update.stamps_ns, T_odom_base, update.states)]

    def map_over_odom(self, T_map_odom: np.ndarray) -> np.ndarray:
        """Return T_map_odom (4, 4) in the axes of the base's frames, of that in the camera's."""
        return self.T_base_camera @ T_map_odom @ se3.inverse(self.T_base_camera)

    def to_base_axes(self, points: np.ndarray) -> np.ndarray:
        """Return points (P, 3) of the camera's odom or map in the axes of the base's, f32."""
        T = self.T_base_camera.astype(np.float32)
        return points @ T[:3, :3].T + T[:3, 3]

    def _next(self, stamp_ns: int, T_odom_base: np.ndarray, state: FrameState) -> BaseState:
        twist, twist_variance = self._velocity(stamp_ns, T_odom_base)
        self._count(T_odom_base, state)
        pose_variance = self._drift()
        if state is FrameState.LOST:
            pose_variance = twist_variance = np.full(6, UNKNOWN_VARIANCE)
        self._last = BaseState(stamp_ns, T_odom_base, twist, pose_variance, twist_variance, state)
        return self._last

    def _velocity(self, stamp_ns: int, T_odom_base: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return velocity and its variance from the step since the last image."""
        last = self._last
        if last is None or stamp_ns <= last.stamp_ns:
            return np.zeros(6), np.full(6, UNKNOWN_VARIANCE)
        step = se3.relative(last.T_odom_base, T_odom_base)
        dt_s = (stamp_ns - last.stamp_ns) * 1e-9
        R = step[:3, :3]
        twist = np.concatenate([R.T @ step[:3, 3], se3.so3_log(R)]) / dt_s
        sigma = _SPEED_SIGMA_RATIO * np.abs(twist) + np.repeat([_SIGMA_MIN_M, _SIGMA_MIN_RAD], 3)
        return twist, sigma**2

    def _count(self, T_odom_base: np.ndarray, state: FrameState) -> None:
        self._n_frames += 1
        self._n_lost += state is FrameState.LOST
        if self._last is not None:
            step = T_odom_base[:3, 3] - self._last.T_odom_base[:3, 3]
            self._travelled_m += float(np.linalg.norm(step))

    def _drift(self) -> np.ndarray:
        """Return the variance (6,) of the pose."""
        lost_m = self._n_lost * self._travelled_m / self._n_frames
        sigma_m = _SIGMA_MIN_M + self._drift_ratio * self._travelled_m + lost_m
        sigma_rad = (_SIGMA_MIN_RAD + _TURN_DRIFT_RAD * self._n_frames
                     + _LOST_TURN_RAD * self._n_lost)
        return np.repeat([sigma_m, sigma_rad], 3) ** 2
