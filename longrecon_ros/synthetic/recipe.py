"""Everything that determines a synthetic recording, in one record."""

from dataclasses import asdict, dataclass, field
from typing import Any, Mapping, Optional, Tuple

import numpy as np

from ..errors import ConfigError
from .camera import SyntheticCamera
from .effects import Effects
from .stream import Film
from .worlds import make_world, World

_MAX_PIXELS = 4096 * 4096
_GENERATION = 1         # goes up when the same recipe gives other images


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to film, and how; the same recipe gives the same recording.

    Raises ``ConfigError`` for values that cannot be filmed.
    """

    scene: str
    n_frames: Optional[int] = None          # None: one lap
    size: Tuple[int, int] = (640, 480)      # width, height, px
    fps: float = 20.0
    seed: int = 0
    speed_mps: Optional[float] = None       # None: the world's usual speed
    hfov_deg: float = 75.0
    distortion: Optional[Tuple[float, ...]] = None      # plumb_bob k1 k2 p1 p2 [k3]
    effects: Effects = field(default_factory=Effects)

    def __post_init__(self):
        width, height = self.size
        if min(width, height) < 16 or width * height > _MAX_PIXELS:
            raise ConfigError(f'size {width}x{height} is impossible: choose 16x16 to 4096x4096 px')
        if self.n_frames is not None and self.n_frames < 1:
            raise ConfigError(f'{self.n_frames} frames are too few: choose at least 1')
        if not 0 < self.fps <= 1000:
            raise ConfigError(f'{self.fps:g} frames a second are impossible: choose more than 0 '
                              'and at most 1000')
        if not 10 <= self.hfov_deg <= 140:
            raise ConfigError(f'a field of view of {self.hfov_deg:g} degrees is impossible: '
                              'choose 10 to 140')
        if self.seed < 0:
            raise ConfigError(f'seed {self.seed} is impossible: choose 0 or more')

    def as_dict(self) -> Mapping[str, Any]:
        """Return the recipe as plain values, and the generation of the worlds it is for."""
        return {**asdict(self), 'generation': _GENERATION}


@dataclass(frozen=True, slots=True, eq=False)
class Production:
    """A recipe made real: the world, its film, and how many frames to take."""

    world: World
    film: Film
    n_frames: int

    @classmethod
    def of(cls, recipe: Recipe) -> 'Production':
        """Build the world and the camera; raises ``ConfigError`` when they cannot be."""
        distortion = None if recipe.distortion is None else np.array(recipe.distortion)
        try:
            camera = SyntheticCamera.from_fov(*recipe.size, recipe.hfov_deg, distortion)
            camera.rays()
        except ValueError as error:
            raise ConfigError(f'{error}; use a weaker distortion or a narrower view') from None
        world = make_world(recipe.scene, recipe.seed, recipe.speed_mps)
        film = Film(world.scene, world.motion, camera, recipe.effects, recipe.seed, recipe.fps)
        n_frames = recipe.n_frames or world.frames_a_lap(recipe.fps)
        return cls(world, film, n_frames)
