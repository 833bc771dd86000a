"""The worlds by name: a scene, the way through it, and how the camera is carried."""

from dataclasses import dataclass
import math
from typing import Callable, Dict, Optional

import numpy as np

from ..errors import ConfigError
from ..geometry import se3
from . import corridor, eight, indoor, street, wall
from .motion import Lap, level_pose, Motion, Straight, Sway, Swaying
from .path import ClosedPath
from .scene import Scene

_R_BASE_CAMERA = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
_MAX_SPEED_MPS = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Something to film. ``lap_s`` is the time after which the motion repeats or ends."""

    name: str
    scene: Scene
    motion: Motion
    lap_s: float
    T_base_camera: np.ndarray               # (4, 4) f64 m; base axes x ahead, y left, z up

    def frames_a_lap(self, fps: float) -> int:
        """Return how many frames it takes to be back where the first was taken."""
        return math.ceil(self.lap_s * fps - 1e-9) + 1


def make_world(name: str, seed: int = 0, speed_mps: Optional[float] = None) -> World:
    """Build a world by its name in `DESCRIPTIONS`.

    ``speed_mps`` replaces the world's usual speed. Raises ``ConfigError`` for another name or
    an impossible speed.
    """
    if name not in _MAKERS:
        raise ConfigError(f'unknown scene "{name}": choose one of {", ".join(_MAKERS)}')
    if speed_mps is not None and not 0 < speed_mps <= _MAX_SPEED_MPS:
        raise ConfigError(f'speed {speed_mps:g} m/s is impossible: choose more than 0 and at most '
                          f'{_MAX_SPEED_MPS:g}')
    return _MAKERS[name](seed, speed_mps)


def _mount(ahead_m: float, up_m: float) -> np.ndarray:
    return se3.from_parts(_R_BASE_CAMERA, np.array([ahead_m, 0.0, up_m]))


def _round_trip(name: str, scene: Scene, lap: Lap, sway: Sway,
                T_base_camera: np.ndarray) -> World:
    """Return a world whose camera comes back to exactly where it began."""
    return World(name, scene, Swaying(lap, sway, lap.lap_s), lap.lap_s, T_base_camera)


def _indoor(seed: int, speed_mps: Optional[float]) -> World:
    lap = Lap(ClosedPath.rounded(indoor.ROUTE, softness_m=1.1), speed_mps or 0.8, 1.25)
    sway = Sway(0.008, 0.006, 1.7, seed)
    return _round_trip('indoor', indoor.indoor_scene(seed), lap, sway, _mount(0.12, 1.1))


def _street(seed: int, speed_mps: Optional[float]) -> World:
    lap = Lap(ClosedPath.rounded(street.ROUTE, softness_m=7.0), speed_mps or 5.0, 1.5)
    sway = Sway(0.015, 0.004, 1.2, seed)
    return _round_trip('street', street.street_scene(seed), lap, sway, _mount(1.6, 1.5))


def _eight(seed: int, speed_mps: Optional[float]) -> World:
    path = ClosedPath.figure_eight(eight.ROUTE_HALF_LENGTH_M, eight.ROUTE_HALF_WIDTH_M)
    lap, sway = Lap(path, speed_mps or 1.2, 1.0), Sway(0.005, 0.004, 1.5, seed)
    return _round_trip('eight', eight.eight_scene(seed), lap, sway, _mount(0.25, 1.0))


def _wall(seed: int, speed_mps: Optional[float]) -> World:
    start = level_pose(0.0, -wall.DISTANCE_M, wall.EYE_M, math.pi / 2)
    straight = Straight(start, (speed_mps or 0.8, 0.0, 0.0))
    end_s = (wall.END_M - 2.0) / straight.velocity_mps[0]
    motion = Swaying(straight, Sway(0.12, 0.02, 0.15, seed), end_s)
    turned = se3.from_parts(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.zeros(3))
    return World('wall', wall.wall_scene(seed), motion, end_s,
                 turned @ _mount(0.1, wall.EYE_M))


def _corridor(seed: int, speed_mps: Optional[float]) -> World:
    straight = Straight(level_pose(1.0, 0.0, corridor.EYE_M, 0.0), (0.0, 0.0, speed_mps or 1.0))
    end_s = (corridor.END_M - 2.0) / straight.velocity_mps[2]
    motion = Swaying(straight, Sway(0.01, 0.006, 1.6, seed), end_s)
    return World('corridor', corridor.corridor_scene(seed), motion, end_s,
                 _mount(0.1, corridor.EYE_M))


_MAKERS: Dict[str, Callable[[int, Optional[float]], World]] = {
    'indoor': _indoor, 'street': _street, 'eight': _eight, 'wall': _wall, 'corridor': _corridor}

DESCRIPTIONS = {
    'indoor': 'two furnished rooms, a walk through both and back (about 23 m)',
    'street': 'a drive round a block of houses (about 155 m)',
    'eight': 'a figure eight round two stacks in a warehouse (about 41 m)',
    'corridor': 'a corridor whose pieces all look the same: false closures lurk there (44 m)',
    'wall': 'along a wall that is blank in the middle: tracking is lost there (20 m)',
}
"""One line of help for each world."""
