"""How the camera moves: camera-to-world poses as functions of time.

The world is z-up; the camera has OpenCV axes. Every motion is a pure function of time, so that
a frame does not depend on the frames before it.
"""

from dataclasses import dataclass
from typing import Protocol, Tuple

import numpy as np

from ..geometry import se3
from .path import ClosedPath


class Motion(Protocol):
    """Anything that knows the camera's pose at every time."""

    def pose(self, t_s: float) -> np.ndarray:
        """Return the (4, 4) f64 camera-to-world pose [m] at a time."""


def level_pose(x: float, y: float, z: float, heading_rad: float) -> np.ndarray:
    """Return the pose of a level camera that looks along a heading (0 is +x, 90 degrees +y)."""
    c, s = np.cos(heading_rad), np.sin(heading_rad)
    return se3.from_parts(np.array([[s, 0, c], [-c, 0, s], [0, -1, 0]]), np.array([x, y, z]))


@dataclass(frozen=True, slots=True)
class Sway:
    """Unsteadiness of the carrier, as waves that repeat after a period."""

    shift_m: float = 0.0                    # deviation, each axis
    turn_rad: float = 0.0                   # deviation, each axis
    frequency_hz: float = 1.0               # of the strongest part
    seed: int = 0

    def offset(self, t_s: float, period_s: float) -> np.ndarray:
        """Return the (4, 4) f64 motion of the camera about its steady pose."""
        rng = np.random.default_rng([self.seed, 101])
        cycles = np.maximum(1, np.rint(period_s * self.frequency_hz * np.array([0.37, 1.0, 1.61])))
        phase = rng.uniform(0, 2 * np.pi, (6, 3))
        weight = rng.uniform(0.5, 1.0, (6, 3))
        waves = (weight * np.sin(2 * np.pi * cycles * t_s / period_s + phase)).mean(1)
        return se3.exp(waves * np.repeat([self.shift_m, self.turn_rad], 3) * np.sqrt(6))


@dataclass(frozen=True, slots=True, eq=False)
class Lap:
    """Drive or walk round a closed path at constant speed, looking ahead."""

    path: ClosedPath
    speed_mps: float
    height_m: float

    @property
    def lap_s(self) -> float:
        """Return the time of one lap, s."""
        return self.path.length_m / self.speed_mps

    def pose(self, t_s: float) -> np.ndarray:
        """Return the pose at a time; it repeats every lap."""
        x, y, heading = self.path.at(self.speed_mps * t_s)
        return level_pose(x, y, self.height_m, heading)


@dataclass(frozen=True, slots=True, eq=False)
class Swaying:
    """Another motion by an unsteady carrier; after ``period_s`` the sway is as at the start."""

    motion: Motion
    sway: Sway
    period_s: float

    def pose(self, t_s: float) -> np.ndarray:
        """Return the other motion's pose, shaken."""
        return self.motion.pose(t_s) @ self.sway.offset(t_s, self.period_s)


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """Stand still."""

    T_world_camera: np.ndarray              # (4, 4) f64 m

    def pose(self, t_s: float) -> np.ndarray:
        """Return the same pose at all times."""
        return np.array(self.T_world_camera, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Turning:
    """Turn on the spot about the camera's vertical axis: rotation without parallax."""

    T_world_camera: np.ndarray              # (4, 4) f64 m, at time 0
    rate_rad_s: float                       # positive to the right

    def pose(self, t_s: float) -> np.ndarray:
        """Return the pose at a time."""
        R = se3.so3_exp(np.array([0.0, self.rate_rad_s * t_s, 0.0]))
        return self.T_world_camera @ se3.from_parts(R, np.zeros(3))


@dataclass(frozen=True, slots=True, eq=False)
class Straight:
    """Move on a straight line without turning."""

    T_world_camera: np.ndarray              # (4, 4) f64 m, at time 0
    velocity_mps: Tuple[float, float, float]    # in the camera frame; (0, 0, v) is forward

    def pose(self, t_s: float) -> np.ndarray:
        """Return the pose at a time."""
        return self.T_world_camera @ se3.from_parts(np.eye(3), np.array(self.velocity_mps) * t_s)


@dataclass(frozen=True, slots=True, eq=False)
class Paused:
    """Another motion that stands still for a while."""

    motion: Motion
    start_s: float
    pause_s: float

    def pose(self, t_s: float) -> np.ndarray:
        """Return the other motion's pose, delayed by the part of the pause that has passed."""
        return self.motion.pose(t_s - min(max(t_s - self.start_s, 0.0), self.pause_s))


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """One motion, then suddenly another: a jump cut at a time."""

    first: Motion
    second: Motion
    at_s: float

    def pose(self, t_s: float) -> np.ndarray:
        """Return the first motion's pose before the cut and the second's from then on."""
        return (self.first if t_s < self.at_s else self.second).pose(t_s)
