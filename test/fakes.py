"""Stand-ins with known answers: a backbone over an analytic room, a frame source, a sink."""

import dataclasses
from dataclasses import dataclass
from typing import Callable, Iterator, List, Sequence, Tuple

import numpy as np

from longrecon_ros.backbones.base import Backbone, BackboneSpec
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import pixel_grid, project, unproject
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.types import Frame, FrameState, Landmarks, Prediction, Update, Window

ROOM_M = np.array([6.0, 3.0, 7.0])      # half sizes; the walls are all there is
SIZE = (16, 12)
K = np.array([[12.0, 0, 7.5], [0, 12.0, 5.5], [0, 0, 1]])


def circle_pose(index: int) -> np.ndarray:
    """Return T_world_camera (4, 4): 0.1 m a frame on a circle of 2 m radius, looking ahead."""
    angle = 0.05 * index
    z = np.array([-np.sin(angle), 0.0, np.cos(angle)])
    y = np.array([0.0, 1.0, 0.0])
    centre = 2.0 * np.array([np.cos(angle), 0.1 * np.sin(3 * angle), np.sin(angle)])
    return se3.from_parts(np.stack([np.cross(y, z), y, z], axis=1), centre)


def room_depth(T_world_camera: np.ndarray) -> np.ndarray:
    """Return the exact depth (H, W) of the walls."""
    rays = unproject(pixel_grid(SIZE), np.ones(SIZE[::-1]), K) @ T_world_camera[:3, :3].T
    centre = T_world_camera[:3, 3]
    with np.errstate(divide='ignore'):
        exits = (np.sign(rays) * ROOM_M - centre) / rays
    return np.where(rays == 0, np.inf, exits).min(axis=-1)


def room_landmarks(n: int) -> np.ndarray:
    """Return n points (n, 3) on the walls; the row is the id."""
    directions = np.random.default_rng(99).normal(size=(n, 3))
    return directions / np.abs(directions / ROOM_M).max(axis=1, keepdims=True)


@dataclass(frozen=True)
class FakeConfig:
    """Takes no parameters."""


class FakeBackbone(Backbone):
    """Truth, put into a random gauge (pose and scale) a window, with faults on demand.

    ``noise`` is the deviation of log depths; frames in ``lost`` have the state LOST, confidence 0
    and repeat the pose before; ``spec`` fields may be replaced by name. The state counts windows.
    """

    spec = BackboneSpec('fake', patch=1, max_pixels=None, gauge='window', scale='relative',
                        feed='all', align='depth_ratio')
    Config = FakeConfig

    def __init__(self, config=None, *, pose: Callable = circle_pose, seed: int = 0,
                 noise: float = 0.0, n_landmarks: int = 400, lost: Sequence[int] = (),
                 random_gauge: bool = True, **spec):
        self.spec = dataclasses.replace(FakeBackbone.spec, **spec)
        self._pose, self._seed, self._noise = pose, seed, noise
        self._landmarks = room_landmarks(n_landmarks)
        self._lost = frozenset(lost)
        self._random_gauge = random_gauge

    def init(self) -> int:
        """Return the number of windows seen."""
        return 0

    def gauge(self, window_index: int) -> Sim3:
        """Return T_window_world of a window; one for the whole stream if its gauge says so."""
        if not self._random_gauge:
            return Sim3.identity()
        if self.spec.gauge == 'stream':
            window_index = 0
        rng = np.random.default_rng([self._seed, window_index])
        scale = 1.0 if self.spec.scale == 'metric' else np.exp(rng.uniform(-1, 1))
        return Sim3(scale, se3.so3_exp(rng.normal(size=3)), rng.normal(size=3) * 5)

    def step(self, state: int, window: Window) -> Tuple[int, Prediction]:
        """Return the truth of the window's frames in the window's gauge."""
        rng = np.random.default_rng([self._seed, window.index, 1])
        gauge = self.gauge(window.index)
        ids = window.frame_ids
        poses = np.stack([self._pose(i) for i in ids])
        depth = np.stack([room_depth(pose) for pose in poses])
        depth = depth * np.exp(self._noise * rng.normal(size=depth.shape)) * gauge.scale
        points = unproject(pixel_grid(SIZE), depth, K)
        is_lost = np.isin(ids, list(self._lost))
        T_window_camera = gauge.apply_to_poses(poses)
        for n in np.flatnonzero(is_lost):
            T_window_camera[n] = T_window_camera[n - 1] if n else np.eye(4)
        confidence = np.where(is_lost, 0.0, 0.9)[:, None, None] * np.ones(depth.shape)
        rgb = np.broadcast_to(np.array([frame.image[0, 0] for frame in window.frames])
                              [:, None, None], points.shape)
        return state + 1, Prediction(
            ids, T_window_camera, points, confidence, rgb, np.broadcast_to(K, (len(ids), 3, 3)),
            np.where(is_lost, FrameState.LOST, FrameState.TRACKED).astype(np.uint8),
            self._seen_landmarks(rng, gauge, poses[~is_lost]))

    def _seen_landmarks(self, rng, gauge: Sim3, poses: np.ndarray):
        if len(self._landmarks) == 0 or len(poses) == 0:
            return None
        local = se3.apply(se3.inverse(poses), self._landmarks)
        pixels = project(local, K)
        is_seen = ((pixels > -0.5) & (pixels < np.array(SIZE) - 0.5)).all(axis=-1).any(axis=0)
        ids = np.flatnonzero(is_seen)
        centre = poses[:, :3, 3].mean(axis=0)
        stretch = np.exp(self._noise * rng.normal(size=(len(ids), 1)))
        points = centre + stretch * (self._landmarks[ids] - centre)
        return Landmarks(ids, gauge.apply(points), np.full(len(ids), max(self._noise, 0.005)))


class ListSource:
    """A frame source over a list."""

    def __init__(self, frames: Sequence[Frame]):
        self._frames = list(frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)

    def describe(self) -> str:
        """Return one line on what it is."""
        return f'{len(self)} frames in memory'


class RecordingSink:
    """Keeps every update it is given."""

    def __init__(self):
        self.updates: List[Update] = []
        self.is_closed = False

    def write(self, update: Update) -> None:
        """Keep one update."""
        self.updates.append(update)

    def close(self) -> None:
        """Note that the stream ended."""
        self.is_closed = True


def make_frames(n: int, first: int = 0) -> List[Frame]:
    """Return frames of one colour each, 10 a second."""
    return [Frame(i, 10**18 + i * 10**8,
                  np.full(SIZE[::-1] + (3,), (i % 256, 255 - i % 256, 7), np.uint8), K)
            for i in range(first, first + n)]


def predict(backbone: FakeBackbone, first: int, n: int, index: int) -> Prediction:
    """Return what the backbone says about the window of ``n`` frames from ``first`` on."""
    return backbone.step(0, Window(index, tuple(make_frames(n, first)), 0))[1]
