"""Metres from the known height of the camera: how high it is over the ground in its points."""

import math
from typing import Optional, Sequence

import numpy as np

from ..geometry import se3
from .ground import find_ground
from .pose_buffer import is_pose
from .records import Measurement, WindowEvidence
from .settings import ScaleConfig
from .sources import NOTHING, ScaleSource

_SAMPLES = 3000                             # of points, a window
_KNOWN_TILT_RAD, _KNOWN_SLOPE = np.radians(10.0), 0.02
_UNKNOWN_TILT_RAD, _UNKNOWN_SLOPE = np.radians(30.0), 0.15
_WINDOW_SIGMA = 0.02                        # springs, bumps, how well the height is known


class HeightSource(ScaleSource):
    """Finds the ground in the tail of every window and compares the camera's height over it.

    Up is the base's z axis where the mounting is known, else the camera's -y. A window whose
    ground is not well seen says nothing. What looks like ground and is none (a long table below
    the camera, from which no floor is seen) cannot be told from it.
    """

    def __init__(self, config: ScaleConfig):
        self._height_m = config.camera_height_m
        self._last_ns: Optional[int] = None

    def add_window(self, window: WindowEvidence) -> Sequence[Measurement]:
        """Take the tail of a window, if any of its frames is new."""
        if len(window.tail_stamps_ns) == 0:
            return NOTHING
        newest_ns = int(window.tail_stamps_ns.max())
        if self._last_ns is not None and newest_ns <= self._last_ns:
            return NOTHING
        self._last_ns = newest_ns
        frames = _frames_with_pose(window)
        if not frames:
            return NOTHING
        T_last_camera = se3.inverse(frames[-1][1]) @ np.stack([T for _, T in frames])
        points = np.concatenate([
            se3.apply(T, _sampled(window, i, _SAMPLES // len(frames)))
            for (i, _), T in zip(frames, T_last_camera)])
        is_known = window.T_base_camera is not None
        # the third row of R_base_camera is the base's z axis, seen from the camera
        up = window.T_base_camera[2, :3] if is_known else np.array([0.0, -1.0, 0.0])
        ground = (find_ground(points, up, _KNOWN_TILT_RAD, _KNOWN_SLOPE) if is_known
                  else find_ground(points, up, _UNKNOWN_TILT_RAD, _UNKNOWN_SLOPE))
        if ground is None:
            return NOTHING
        height = float(np.median(T_last_camera[:, :3, 3] @ ground.normal + ground.height))
        if height <= 0:
            return NOTHING
        sigma = math.hypot(ground.sigma, _WINDOW_SIGMA)
        return (Measurement(newest_ns, math.log(self._height_m / height), sigma),)


def _frames_with_pose(window: WindowEvidence) -> list:
    """Return (position in the tail, T_odom_camera) of the tail's frames whose pose is measured."""
    position = {stamp_ns: i for i, stamp_ns in enumerate(window.stamps_ns.tolist())}
    frames = []
    for i, stamp_ns in enumerate(window.tail_stamps_ns.tolist()):
        at = position.get(stamp_ns)
        if at is not None and is_pose(window.T_odom_camera[at]) and (
                window.is_measured is None or window.is_measured[at]):
            frames.append((i, window.T_odom_camera[at]))
    return frames


def _sampled(window: WindowEvidence, i: int, limit: int) -> np.ndarray:
    """Return points (n, 3) of one frame, evenly taken out of those that are defined."""
    points, confidence = window.local_points[i], window.confidence[i]
    used = np.flatnonzero((confidence > 0) & (points[..., 2] > 0))
    used = used[(np.arange(min(limit, len(used))) * (len(used) / max(1, min(limit, len(used)))))
                .astype(np.intp)]
    return points.reshape(-1, 3)[used]
