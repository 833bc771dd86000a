"""The poses of one camera between the worker's windows: tracker, odometry and scale together.

Used by one thread. Windows come late and are right; the tracker is on time. What a window says
better moves map over odom at once, and odom slowly.
"""

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..alignment.uncertainty import compose
from ..geometry import se3
from ..io.calibration import Calibration
from ..scale import Scale, ScaleConfig, ScaleEstimate, WindowEvidence
from ..tail import Tail
from ..tracking import Camera, Reference, TrackedPose, Tracker, TrackingConfig
from ..types import FrameState, Prediction
from ..worker.messages import Step
from .odometry import BaseState, ChainPose, Odometer


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """A window in the map, in metres as far as known, in the axes of the base's frames."""

    stamps_ns: np.ndarray                   # (K,) i64
    T_map_base: np.ndarray                  # (K, 4, 4) f64
    is_whole_path: bool                     # not an addition
    step: Step                              # without its arrays for others


class Estimator:
    """What is known about the motion; `begin` with the first image of a segment.

    The newest `T_map_odom` (None before the first window) and `scale` may be read by any thread.
    """

    def __init__(self, tracking: Optional[TrackingConfig], scale: ScaleConfig,
                 slew_s: Callable[[], float]):
        self._tracker = None if tracking is None else Tracker(tracking)
        self._scale, self._slew_s = Scale(scale), slew_s
        self.scale: ScaleEstimate = self._scale.estimate()
        self.tail: Optional[Dict[str, Any]] = None      # where a new worker goes on
        self._odometer: Optional[Odometer] = None
        self.T_map_odom: Optional[np.ndarray] = None
        self._clear()

    def _clear(self) -> None:
        self._camera = Camera()
        self._T_map_chain = np.eye(4)
        self._is_located = True
        self._reference: Optional[Tuple[np.ndarray, np.ndarray]] = None     # pose, covariance
        self.tail = None

    @property
    def has_begun(self) -> bool:
        """Whether there is a place for poses."""
        return self._odometer is not None

    def begin(self, calibration: Optional[Calibration], T_base_camera: np.ndarray) -> None:
        """Expect images of this camera, mounted there."""
        self._camera = Camera() if calibration is None else Camera(
            calibration.K, calibration.distortion, calibration.distortion_model)
        if self._odometer is None:
            self._odometer = Odometer(T_base_camera, self._slew_s())

    def begin_anew(self, is_new_map: bool) -> None:
        """Forget the stream; odom goes on where it is unless the map is new, too."""
        self._clear()
        if is_new_map:
            self._odometer = self.T_map_odom = None
        elif self._odometer is not None:
            self._odometer.begin_chain()
        self._scale.reset()
        self.scale = self._scale.estimate()
        if self._tracker is not None:
            self._tracker.reset()

    def track(self, stamp_ns: int, image: np.ndarray) -> Optional[BaseState]:
        """Return the state at an image; None while there is nothing to track against."""
        if self._tracker is None:
            return None
        pose = self._tracker.add(stamp_ns, stamp_ns, image, self._camera)
        if pose is None or stamp_ns <= self._odometer.last_ns:
            return None
        state = self._odometer.add(self._chain_pose(pose), self.scale)
        self._place()
        return state

    def step(self, step: Step) -> Tuple[List[BaseState], Mapped]:
        """Take a window; return the states of images that had none yet, and the window mapped."""
        self.tail = dict(step.tail)
        self._is_located = bool(step.map_figures.get('is_located', True))
        tail = Tail.from_arrays(self.tail).prediction
        if not self._scale.is_fixed:
            self._scale.add_window(self._evidence(step, tail))
            self.scale = self._scale.estimate()
        self._T_map_chain = step.T_map_odom
        states = self._without_tracker(step) + self._take_reference(step, tail)
        self._place()
        return states, self._mapped(step)

    def add_wheel(self, stamp_ns: int, T_wheelodom_base: np.ndarray) -> None:
        """Take the odometry of the wheels."""
        self._scale.add_wheel(stamp_ns, T_wheelodom_base)
        self.scale = self._scale.estimate()

    def add_depth(self, stamp_ns: int, depth_m: np.ndarray) -> None:
        """Take a depth image."""
        self._scale.add_depth(stamp_ns, depth_m)
        self.scale = self._scale.estimate()

    def to_base_axes(self, points: np.ndarray) -> np.ndarray:
        """Return points (P, 3) of the camera's map, in its units, in the base's map, m, f32."""
        T = self._odometer.T_base_camera.astype(np.float32)
        return (points * np.float32(self.scale.metres_per_unit)) @ T[:3, :3].T + T[:3, 3]

    def in_base_axes(self, T_map_frame: np.ndarray) -> np.ndarray:
        """Return a pose (4, 4) in the camera's map, in its units, in the base's map, m.

        The frame's own axes become those of the base's map, too.
        """
        T = np.array(T_map_frame)
        T[:3, 3] *= self.scale.metres_per_unit
        E = self._odometer.T_base_camera
        return E @ T @ se3.inverse(E)

    @property
    def up(self) -> np.ndarray:
        """(3,) up, in the axes of the first camera; as if it were level where nothing is known."""
        if self._odometer is None:
            return np.array([0.0, -1.0, 0.0])
        return self._odometer.T_base_camera[2, :3].copy()

    def grid_origin(self, T_grid_map: np.ndarray, origin_m: Sequence[float]) -> np.ndarray:
        """Return T_map_origin (4, 4), m, of a grid, in the base's map.

        ``T_grid_map`` (4, 4), m, takes the camera's map to the grid's axes, in which ``origin_m``
        (x, y) is its corner.
        """
        corner = se3.from_parts(np.eye(3), [*origin_m, 0.0])
        return self._odometer.T_base_camera @ se3.inverse(T_grid_map) @ corner

    def _chain_pose(self, pose: TrackedPose) -> ChainPose:
        """Return a tracked pose with its whole covariance: the reference's, and its own on top."""
        if pose.state is FrameState.LOST or self._reference is None:
            unknown = np.full((6, 6), np.inf)
            return ChainPose(pose.stamp_ns, pose.T_odom_camera, unknown, unknown, pose.state)
        T_reference, covariance = self._reference
        whole = compose(covariance, T_reference, se3.relative(T_reference, pose.T_odom_camera),
                        pose.covariance)
        # both ends of a step are as unsure as this one against their reference
        return ChainPose(pose.stamp_ns, pose.T_odom_camera, whole, 2 * pose.covariance, pose.state)

    def _without_tracker(self, step: Step) -> List[BaseState]:
        """Return the states of frames that nothing tracks: the first ones, or all."""
        if self._tracker is not None and self._tracker.newest is not None:
            return []
        found = []
        for n, stamp_ns in enumerate(step.stamps_ns.tolist()):
            if stamp_ns > self._odometer.last_ns:
                covariance, state = step.covariance[n], FrameState(int(step.states[n]))
                pose = ChainPose(stamp_ns, step.T_odom_camera[n], covariance, covariance, state)
                found.append(self._odometer.add(pose, self.scale))
        return found

    def _take_reference(self, step: Step, tail: Prediction) -> List[BaseState]:
        """Track against a window's newest measured frame; its correction comes in slowly."""
        rows = {frame_id: row for row, frame_id in enumerate(step.frame_ids.tolist())}
        usable = (tail.states != FrameState.LOST) & (tail.confidence > 0).any(axis=(1, 2))
        known = [n for n, i in enumerate(tail.frame_ids.tolist()) if i in rows and usable[n]]
        if self._tracker is None or tail.K is None or not known:
            return []
        n = known[-1]
        row = rows[int(tail.frame_ids[n])]
        stamp_ns, before = int(step.stamps_ns[row]), self._tracker.newest
        reference = Reference(stamp_ns, tail.T_window_camera[n], tail.local_points[n],
                              tail.confidence[n], tail.K[n])
        poses = self._tracker.set_reference(reference)
        if self._tracker.reference_id != stamp_ns:
            return []
        covariance = step.covariance[row]
        self._reference = (reference.T_odom_camera, covariance if np.isfinite(covariance).all()
                           else np.zeros((6, 6)))
        now = self._tracker.newest
        if before is not None and now is not None and before[0] == now[0]:
            self._odometer.corrected(before[1], now[1])
        return [self._odometer.add(self._chain_pose(pose), self.scale) for pose in poses
                if pose.stamp_ns > self._odometer.last_ns]

    def _place(self) -> None:
        """Put odom where the newest base is in the map, if that is known."""
        self._odometer.slew_s = self._slew_s()
        if self._is_located or self.T_map_odom is None:
            T = self._odometer.map_odom(self._T_map_chain, self.scale)
            self.T_map_odom = self.T_map_odom if T is None else T

    def _evidence(self, step: Step, tail: Prediction) -> WindowEvidence:
        stamps: Mapping[int, int] = dict(zip(step.frame_ids.tolist(), step.stamps_ns.tolist()))
        known = [n for n, i in enumerate(tail.frame_ids.tolist()) if i in stamps]
        return WindowEvidence(
            step.stamps_ns, step.T_odom_camera, tail.local_points[known], tail.confidence[known],
            np.array([stamps[int(tail.frame_ids[n])] for n in known], np.int64),
            self._odometer.T_base_camera, step.states != FrameState.LOST)

    def _mapped(self, step: Step) -> Mapped:
        is_whole = step.path is not None
        if is_whole:
            (stamps_ns, poses), T_map_chain = step.path, np.eye(4)
        else:
            stamps_ns, poses, T_map_chain = step.stamps_ns, step.T_odom_camera, step.T_map_odom
        T_map_base = [self._odometer.map_base(T_map_chain, pose, self.scale) for pose in poses]
        return Mapped(stamps_ns, np.array(T_map_base).reshape(-1, 4, 4), is_whole,
                      replace(step, tail={}, path=None))
