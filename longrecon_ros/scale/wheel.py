"""Metres from wheel odometry: how far the base went between two images."""

from collections import deque
import math
from typing import Deque, List, NamedTuple, Optional, Sequence

import numpy as np

from ..geometry import se3
from .pose_buffer import is_pose, PoseBuffer
from .records import Measurement, WindowEvidence
from .settings import ScaleConfig
from .sources import NOTHING, ScaleSource

_MAX_WHEEL, _MAX_CAMERAS = 12000, 4000      # kept while the other stream is late
_MAX_GAP_NS = 500_000_000                   # wheels are not interpolated over more
_MAX_TURN_RAD = 1.0                         # of a piece; more is turning on the spot
_MAX_BLIND_TURN_RAD = 0.25                  # where the lever arm is not known
_MAX_PIECE_NS = 10_000_000_000              # slower than that is standing
_POSITION_SIGMA_M = 0.005
_LEVER_SIGMA_M, _UNKNOWN_LEVER_M = 0.02, 0.3
_MAX_LEVER_SHARE = 0.7                      # of the base's chord, what turning moves the camera
_MAX_SIGMA = 0.5


class _Place(NamedTuple):
    """One image: where the camera and the base were. T_odom_camera None: not measured."""

    stamp_ns: int
    T_odom_camera: Optional[np.ndarray]     # (4, 4) odom units
    T_wheel_base: Optional[np.ndarray] = None       # (4, 4) m


class WheelSource(ScaleSource):
    """Compares chords of the camera's way with those of the base, over pieces of the way.

    A piece ends at the first image at which the base is ``min_distance_m`` away from where it
    began, by wheels; the next one begins there. Pieces on which the robot turned by more than a
    radian or which took more than ten seconds do not count (it turned on the spot, or stood).
    Where the mounting is not known it may turn by 14 degrees only: further outside in a curve a
    camera goes further than the base, always, and no number of pieces averages that out.
    Only chord lengths are taken from the wheels. Their heading is worse than the camera's, which
    is what the lever arm from base to camera is turned by: see `metres_per_unit`.
    """

    def __init__(self, config: ScaleConfig):
        self._min_distance_m, self._wheel_sigma = config.min_distance_m, config.wheel_sigma
        self._wheel = PoseBuffer(_MAX_WHEEL, _MAX_GAP_NS)
        self._cameras: Deque[_Place] = deque(maxlen=_MAX_CAMERAS)
        self._last_camera_ns: Optional[int] = None
        self._start: Optional[_Place] = None
        self._T_base_camera: Optional[np.ndarray] = None

    def add_wheel(self, stamp_ns: int, T_wheelodom_base: np.ndarray) -> Sequence[Measurement]:
        """Take a pose of the base; late ones and repetitions do no harm."""
        return self._advance() if self._wheel.add(stamp_ns, T_wheelodom_base) else NOTHING

    def add_window(self, window: WindowEvidence) -> Sequence[Measurement]:
        """Take the frames that are newer than all before."""
        self._T_base_camera = window.T_base_camera
        is_measured = window.is_measured
        for i, stamp_ns in enumerate(window.stamps_ns.tolist()):
            if self._last_camera_ns is not None and stamp_ns <= self._last_camera_ns:
                continue
            self._last_camera_ns = stamp_ns
            T = window.T_odom_camera[i]
            is_good = is_pose(T) and (is_measured is None or bool(is_measured[i]))
            self._cameras.append(_Place(stamp_ns, T if is_good else None))
        return self._advance()

    def _advance(self) -> List[Measurement]:
        """Go on as far as both streams have come."""
        measurements = []
        newest_ns = self._wheel.newest_ns
        while self._cameras and newest_ns is not None and self._cameras[0].stamp_ns <= newest_ns:
            camera = self._cameras.popleft()
            T_wheel_base = self._wheel.at(camera.stamp_ns)
            measurements += self._step(camera._replace(T_wheel_base=T_wheel_base))
            self._wheel.forget_before(camera.stamp_ns)
        return measurements

    def _step(self, place: _Place) -> Sequence[Measurement]:
        """Go on by one image; return the measurement of the piece that ends there."""
        if place.T_odom_camera is None or place.T_wheel_base is None:
            self._start = None
            return NOTHING
        start = self._start
        max_turn_rad = _MAX_BLIND_TURN_RAD if self._T_base_camera is None else _MAX_TURN_RAD
        if start is None or _is_no_way(start, place, max_turn_rad):
            self._start = place
            return NOTHING
        way_m = place.T_wheel_base[:3, 3] - start.T_wheel_base[:3, 3]
        if np.linalg.norm(way_m) < self._min_distance_m:
            return NOTHING
        self._start = place
        return self._measure(start, place)

    def _measure(self, start: _Place, end: _Place) -> Sequence[Measurement]:
        way = se3.relative(start.T_odom_camera, end.T_odom_camera)
        chord_m = float(np.linalg.norm(end.T_wheel_base[:3, 3] - start.T_wheel_base[:3, 3]))
        is_known = self._T_base_camera is not None
        T_base_camera = self._T_base_camera if is_known else np.eye(4)
        scale, gain = metres_per_unit(way, chord_m, T_base_camera)
        turn_rad = float(se3.rotation_angle(way[:3, :3]))
        lever_m = (_LEVER_SIGMA_M if is_known else _UNKNOWN_LEVER_M) * turn_rad
        sigma = gain * math.hypot(self._wheel_sigma, _POSITION_SIGMA_M * math.sqrt(2) / chord_m,
                                  lever_m / chord_m)
        if not (0 < scale < math.inf and sigma < _MAX_SIGMA):
            return NOTHING
        return (Measurement(end.stamp_ns, math.log(scale), sigma),)


def metres_per_unit(T_start_end: np.ndarray, chord_m: float, T_base_camera: np.ndarray) -> tuple:
    """Return the scale at which the base went a chord, and its gain; (0, inf) if there is none.

    ``T_start_end`` (4, 4) is the camera's motion in odom units. With the mounting (R, l) and the
    base's rotation Q, seen by the camera, the base moved by ``s R t - (Q - I) l``. That this is
    ``chord_m`` long is a quadratic equation for s; its greater root counts. The gain is how many
    percent s changes by when the chord changes by one. Where the camera moved by turning, for
    most of the chord, the equation is too weak.
    """
    R = T_base_camera[:3, :3]
    a = R @ T_start_end[:3, 3]
    Q = R @ T_start_end[:3, :3] @ R.T
    b = Q @ T_base_camera[:3, 3] - T_base_camera[:3, 3]
    square, dot = float(a @ a), float(a @ b)
    if square <= 0 or float(b @ b) > (_MAX_LEVER_SHARE * chord_m)**2:
        return 0.0, math.inf
    root = math.sqrt(dot * dot + square * (chord_m**2 - float(b @ b)))
    scale = (dot + root) / square
    return scale, chord_m**2 / (scale * root)


def _is_no_way(start: _Place, end: _Place, max_turn_rad: float) -> bool:
    """Tell whether the robot turned on the spot, or stood, or took too long."""
    if end.stamp_ns - start.stamp_ns > _MAX_PIECE_NS:
        return True
    turns = [se3.rotation_angle(a[:3, :3].T @ b[:3, :3]) for a, b in (
        (start.T_odom_camera, end.T_odom_camera), (start.T_wheel_base, end.T_wheel_base))]
    return max(turns) > max_turn_rad
