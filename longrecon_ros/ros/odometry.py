"""From camera poses in the units of the worker to what the robot is told, without jumps.

Three frames of poses follow on each other:

    chain    the worker's odom: corrected with every window, in arbitrary units unless metric
    smooth   the same, but continuous: a correction is taken in over `slew_s` seconds, and no
             faster than the camera moves, so that odom is never more than half as fast again
    odom     smooth in metres (as far as known): each step times the scale of its time

What is taken in slowly, and what the scale was before, is between map and odom (REP-105).
"""

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from ..alignment.uncertainty import to_base
from ..geometry import se3
from ..scale import MetricMotion, ScaleEstimate
from ..types import FrameState

T_BODY_OPTICAL = se3.from_parts([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], [0, 0, 0])
"""Optical axes (x right, y down, z forward) to body axes (x forward, y left, z up): REP-103."""

UNKNOWN_VARIANCE = 9999.0
"""Variance of what is not known, m^2 or rad^2; the value that robot_localization users know."""

_HIDDEN, _HIDDEN_RAD = 0.5, 0.002
"""Of a step and a turn, and of every turn: what a correction may add to them."""


@dataclass(frozen=True, slots=True, eq=False)
class ChainPose:
    """A camera pose in the worker's odom, as a window or the tracker gives it."""

    stamp_ns: int
    T_chain_camera: np.ndarray              # (4, 4) f64, chain units
    covariance: np.ndarray                  # (6, 6) f64, chain axes at the camera
    step_covariance: np.ndarray             # (6, 6) f64, of the last image's motion, camera axes
    state: FrameState


@dataclass(frozen=True, slots=True, eq=False)
class BaseState:
    """The base at one image: pose in odom, velocity, and how sure both are."""

    stamp_ns: int
    T_odom_base: np.ndarray                 # (4, 4) f64
    pose_covariance: np.ndarray             # (6, 6) f64 m^2, rad^2; x y z, turns about fixed axes
    twist: np.ndarray                       # (6,) f64 m/s, rad/s, in axes of the base
    twist_covariance: np.ndarray            # (6, 6) f64
    state: FrameState


class Odometer:
    """Makes the states of the base of one stream, image by image, with rising stamps.

    ``T_base_camera`` is the mounting E of the camera, in optical axes, in metres. odom is where
    the base was at the first image: ``T_odom_base(t) = E T_odom_camera(t) E^-1``.
    """

    def __init__(self, T_base_camera: np.ndarray, slew_s: float):
        self.T_base_camera = T_base_camera
        self._inverse = se3.inverse(T_base_camera)
        self.slew_s = slew_s
        self._metric = MetricMotion()
        self._T_smooth_chain = np.eye(4)
        self._is_slewing = True
        self._last: Optional[ChainPose] = None
        self._T_smooth_camera = np.eye(4)
        self._T_odom_base: Optional[np.ndarray] = None
        self._was_lost = False

    @property
    def last_ns(self) -> int:
        """Stamp of the newest image that had a pose; -1 before the first."""
        return -1 if self._last is None else self._last.stamp_ns

    def corrected(self, T_before: np.ndarray, T_now: np.ndarray) -> None:
        """Take note that the chain pose of the newest image is ``T_now`` instead of ``T_before``.

        The smooth pose stays; the difference is taken in with the images that follow.
        """
        self._T_smooth_chain = self._T_smooth_chain @ T_before @ se3.inverse(T_now)
        if self._last is not None:
            self._last = ChainPose(self._last.stamp_ns, T_now, self._last.covariance,
                                   self._last.step_covariance, self._last.state)

    def begin_chain(self) -> None:
        """Expect poses in a new chain, which has nothing to do with the one before."""
        self._is_slewing, self._was_lost = False, True

    def add(self, pose: ChainPose, scale: ScaleEstimate) -> BaseState:
        """Return the state of the base at the next image."""
        dt_s = 0.0 if self._last is None else (pose.stamp_ns - self._last.stamp_ns) * 1e-9
        is_lost = pose.state is FrameState.LOST
        if not is_lost:
            self._move(pose, dt_s)
        T_odom_camera = self._metric.add(self._T_smooth_camera, scale.metres_per_unit)
        self._T_odom_base = self.T_base_camera @ T_odom_camera @ self._inverse
        twist, twist_covariance = self._velocity(pose, dt_s, scale)
        covariance = np.diag(np.full(6, UNKNOWN_VARIANCE)) if is_lost else \
            self._covariance(pose, scale)
        self._was_lost = is_lost
        if not is_lost or self._last is None:
            self._last = pose
        else:
            # the place stays, the time goes on
            self._last = ChainPose(pose.stamp_ns, self._last.T_chain_camera,
                                   self._last.covariance, pose.step_covariance, pose.state)
        return BaseState(pose.stamp_ns, self._T_odom_base, covariance, twist, twist_covariance,
                         pose.state)

    def map_base(self, T_map_chain: np.ndarray, T_chain_camera: np.ndarray,
                 scale: ScaleEstimate) -> np.ndarray:
        """Return T_map_base (4, 4), m, of a camera in the chain; the map has its newest scale."""
        T_map_camera = T_map_chain @ T_chain_camera
        T_map_camera[:3, 3] *= scale.metres_per_unit
        return self.T_base_camera @ T_map_camera @ self._inverse

    def map_odom(self, T_map_chain: np.ndarray, scale: ScaleEstimate) -> Optional[np.ndarray]:
        """Return T_map_odom (4, 4), which puts the newest base where the map has it."""
        if self._last is None or self._T_odom_base is None:
            return None
        T_map_base = self.map_base(T_map_chain, self._last.T_chain_camera, scale)
        T = T_map_base @ se3.inverse(self._T_odom_base)
        return se3.from_parts(se3.nearest_rotation(T[:3, :3]), T[:3, 3])

    def _move(self, pose: ChainPose, dt_s: float) -> None:
        if self._was_lost and self._last is not None:
            # where the camera was found again is a correction, like any other
            self._T_smooth_chain = self._T_smooth_camera @ se3.inverse(pose.T_chain_camera)
        if self._is_slewing and dt_s > 0:
            share = 1.0
            if self.slew_s > 0:
                share = min(1.0 - float(np.exp(-dt_s / self.slew_s)), self._most_share(pose))
            self._T_smooth_chain = _towards_identity(self._T_smooth_chain, pose.T_chain_camera,
                                                     share)
        self._T_smooth_camera = self._T_smooth_chain @ pose.T_chain_camera

    def _most_share(self, pose: ChainPose) -> float:
        """Return which share of the correction the motion since the last image may hide."""
        if self._last is None or self._was_lost:
            return 0.0
        step = se3.relative(self._last.T_chain_camera, pose.T_chain_camera)
        left = se3.relative(pose.T_chain_camera, self._T_smooth_chain @ pose.T_chain_camera)
        allowed = (_HIDDEN * np.linalg.norm(step[:3, 3]),
                   _HIDDEN * se3.rotation_angle(step[:3, :3]) + _HIDDEN_RAD)
        wanted = np.linalg.norm(left[:3, 3]), se3.rotation_angle(left[:3, :3])
        return min([a / w for a, w in zip(allowed, wanted) if w > 0], default=1.0)

    def _velocity(self, pose: ChainPose, dt_s: float,
                  scale: ScaleEstimate) -> Tuple[np.ndarray, np.ndarray]:
        """Return the velocity in base axes, from the measured step alone, and its covariance."""
        last = self._last
        if last is None or dt_s <= 0 or self._was_lost or pose.state is FrameState.LOST:
            return np.zeros(6), np.diag(np.full(6, UNKNOWN_VARIANCE))
        step = se3.relative(last.T_chain_camera, pose.T_chain_camera)
        step[:3, 3] *= scale.metres_per_unit
        step = self.T_base_camera @ step @ self._inverse
        # of the middle of the step, which is the same as at its end up to its second order
        twist = np.concatenate([step[:3, :3].T @ step[:3, 3], se3.so3_log(step[:3, :3])]) / dt_s
        J = se3.adjoint(self.T_base_camera)
        covariance = J @ _scaled(pose.step_covariance, scale.metres_per_unit) @ J.T / dt_s**2
        if np.isfinite(scale.sigma):
            covariance[:3, :3] += scale.sigma**2 * np.outer(twist[:3], twist[:3])
        return twist, covariance

    def _covariance(self, pose: ChainPose, scale: ScaleEstimate) -> np.ndarray:
        T = pose.T_chain_camera.copy()
        T[:3, 3] *= scale.metres_per_unit
        covariance = to_base(_scaled(pose.covariance, scale.metres_per_unit), T,
                             self.T_base_camera)
        # what has not been taken in yet is an error of odom that is known
        offset = self._T_smooth_chain
        moved = (offset @ pose.T_chain_camera)[:3, 3] - pose.T_chain_camera[:3, 3]
        moved_m2 = float(moved @ moved) * scale.metres_per_unit**2
        turned_rad = float(se3.rotation_angle(offset[:3, :3]))
        covariance += np.diag(np.repeat([moved_m2, turned_rad**2], 3) / 3)
        if np.isfinite(scale.sigma):
            p = self._T_odom_base[:3, 3]
            covariance[:3, :3] += scale.sigma**2 * np.outer(p, p)
        return covariance


def _towards_identity(T_smooth_chain: np.ndarray, T_chain_camera: np.ndarray,
                      share: float) -> np.ndarray:
    """Return the correction with a share of it taken in, at the place of the camera."""
    T_smooth_camera = T_smooth_chain @ T_chain_camera
    return se3.interpolate(T_smooth_camera, T_chain_camera, np.array([share]))[0] \
        @ se3.inverse(T_chain_camera)


def _scaled(covariance: np.ndarray, scale: float) -> np.ndarray:
    factors = np.repeat([scale, 1.0], 3)
    return covariance * np.outer(factors, factors)
