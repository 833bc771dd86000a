"""Frames of a synthetic world, one after another: an iterator and a frame source."""

from dataclasses import dataclass
from itertools import count
from typing import Iterator, List, Optional

import numpy as np

from ..geometry import se3
from ..types import Frame, FrameTruth, Trajectory
from .camera import SyntheticCamera
from .effects import Effects, expose, shutter_times
from .motion import Motion
from .render import Renderer
from .scene import Scene

START_NS = 1_700_000_000_000_000_000
"""Stamp of frame 0; after the epoch, because ROS takes time 0 for unset."""

@dataclass(frozen=True, slots=True, eq=False)
class SyntheticFrame:
    """An image with everything true about it. The pose and depth are those of ``stamp_ns``."""

    index: int
    stamp_ns: int
    image: np.ndarray                       # (H, W, 3) uint8 RGB
    depth: np.ndarray                       # (H, W) f32 m; 0 where there is none (sky)
    K: np.ndarray                           # (3, 3) f64 px
    distortion: Optional[np.ndarray]        # plumb_bob coefficients; None: a pure pinhole
    T_world_camera: np.ndarray              # (4, 4) f64 m

    def to_frame(self, use_truth: bool = False) -> Frame:
        """Return what a camera driver knows: image, stamp, calibration; on demand the truth."""
        truth = FrameTruth(self.depth, self.T_world_camera) if use_truth else None
        return Frame(self.index, self.stamp_ns, self.image, self.K, self.distortion, truth=truth)

_NO_EFFECTS = Effects()


class Film:
    """A scene filmed by one camera along one motion; frame ``i`` depends on ``i`` alone."""

    def __init__(self, scene: Scene, motion: Motion, camera: SyntheticCamera,
                 effects: Effects = _NO_EFFECTS, seed: int = 0, fps: float = 20.0):
        if not 0 < fps <= 1000:
            raise ValueError(f'fps: expected more than 0 and at most 1000, got {fps}')
        self.camera, self.effects, self.fps = camera, effects, fps
        self._motion, self._seed = motion, seed
        self._renderer = Renderer(scene, camera)

    def stamp_ns(self, index: int) -> int:
        """Return the stamp of a frame."""
        return START_NS + round(index * 1e9 / self.fps)

    def pose(self, index: int) -> np.ndarray:
        """Return the (4, 4) f64 camera-to-world pose of a frame."""
        return self._motion.pose(index / self.fps)

    def velocity(self, index: int, T_body_camera: np.ndarray) -> np.ndarray:
        """Return (6,) f64 of a body that carries the camera: linear [m/s], angular [rad/s].

        It is in the body's own frame, by central difference over 2 ms.
        """
        t_s, h_s = index / self.fps, 1e-3
        T_camera_body = se3.inverse(T_body_camera)
        before, after = (self._motion.pose(t_s + h) @ T_camera_body for h in (-h_s, h_s))
        return se3.log(se3.relative(before, after)) / (2 * h_s)

    def depth(self, index: int) -> np.ndarray:
        """Return the (H, W) f32 depth [m] of a frame."""
        return self._renderer.depth(self.pose(index))

    def frame(self, index: int) -> SyntheticFrame:
        """Render a frame."""
        t_s = index / self.fps
        sharp = self._renderer.render(self.pose(index))
        color = sharp.color
        if self.effects.blur:
            times = shutter_times(self.effects, t_s, 1 / self.fps)
            color = np.mean([self._renderer.render(self._motion.pose(t)).color for t in times], 0)
        image = expose(color, self.effects, self._seed, index, t_s)
        return SyntheticFrame(index, self.stamp_ns(index), image, sharp.depth, self.camera.K,
                              self.camera.distortion, self.pose(index))


def generate(scene: Scene, motion: Motion, camera: SyntheticCamera, effects: Effects = _NO_EFFECTS,
             seed: int = 0, fps: float = 20.0,
             n_frames: Optional[int] = None) -> Iterator[SyntheticFrame]:
    """Yield frames in order, for ever when ``n_frames`` is None; memory does not grow."""
    film = Film(scene, motion, camera, effects, seed, fps)
    for index in count() if n_frames is None else range(n_frames):
        yield film.frame(index)


class SyntheticSource:
    """A film as a frame source with ground truth: nothing is read or written.

    With ``use_truth`` every frame carries its own truth, too (`types.FrameTruth`).
    """

    def __init__(self, film: Film, n_frames: int, name: str = 'synthetic world',
                 use_truth: bool = False):
        if n_frames < 1:
            raise ValueError(f'n_frames: expected at least 1, got {n_frames}')
        self._film, self._n_frames, self._name = film, n_frames, name
        self._use_truth = use_truth
        self.warnings: List[str] = []

    def __iter__(self) -> Iterator[Frame]:
        return (self._film.frame(index).to_frame(self._use_truth)
                for index in range(self._n_frames))

    def __len__(self) -> int:
        return self._n_frames

    def describe(self) -> str:
        """Return one line saying what is filmed, and how."""
        camera = self._film.camera
        return (f'{self._name}, {self._n_frames} frames of {camera.width}x{camera.height} px '
                f'at {self._film.fps:g} fps')

    def groundtruth(self) -> Trajectory:
        """Return the true camera-to-world poses."""
        indices = range(self._n_frames)
        return Trajectory(np.array([self._film.stamp_ns(i) for i in indices], np.int64),
                          np.array([self._film.pose(i) for i in indices]))

    def depth(self, index: int) -> np.ndarray:
        """Return the (H, W) f32 true depth [m] of a frame; 0 where there is none."""
        if not 0 <= index < self._n_frames:
            raise ValueError(f'index: expected 0 to {self._n_frames - 1}, got {index}')
        return self._film.depth(index)
