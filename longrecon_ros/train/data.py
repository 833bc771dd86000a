"""Laps through rooms, filmed once, and sequences of any length drawn from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Tuple
import zipfile

import numpy as np

from ..atomic import atomic_file
from ..errors import InputError
from ..synthetic.camera import SyntheticCamera
from ..synthetic.render import Renderer
from .rooms import room, track

N_PLACES = 192
"""Places on a track at which there is an image."""
HFOV_DEG = 90.0
_JITTER = 1.0           # places a frame
_SWELL, _SWELL_FRAMES = 0.25, (30.0, 60.0)
_LIT = (5, 16)          # frames between two blackouts: least, one more than most
_GENERATION = 2         # goes up when the same seed gives other images
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


class Batch(NamedTuple):
    """B sequences of N frames."""

    images: np.ndarray                      # (B, N, 3, H, W) f32 in [0, 1]
    depth: np.ndarray                       # (B, N, H, W) f32 m; 0: unknown
    T_world_camera: np.ndarray              # (B, N, 4, 4) f32 m


@dataclass(frozen=True, eq=False)
class Laps:
    """R rooms, filmed from the P places of their tracks."""

    images: np.ndarray                      # (R, P, H, W, 3) uint8 RGB
    depth: np.ndarray                       # (R, P, H, W) f16 m
    T_world_camera: np.ndarray              # (R, P, 4, 4) f32 m
    rays: np.ndarray                        # (H, W, 3) f32, z is 1

    def draw(self, rng: np.random.Generator, n_sequences: int, n_frames: int,
             steps: Tuple[int, int], dark: Optional[Tuple[int, int]] = None) -> Batch:
        """Return sequences that begin anywhere in any room and go on for ever, lap after lap.

        Each has a pace of its own, from ``steps`` (least, most) places a frame, which swells and
        falls slowly; half of the sequences are mirrored, so that they go clockwise. With ``dark``
        the light goes out now and then for so many frames (least, most): images are black, and
        depth is 0, unknown.
        """
        n_rooms, n_places = self.images.shape[:2]
        rooms = rng.integers(n_rooms, size=(n_sequences, 1))
        walked = _walked(rng, n_sequences, n_frames, steps)
        places = (rng.integers(n_places, size=(n_sequences, 1)) + walked) % n_places
        images, depth = self.images[rooms, places], self.depth[rooms, places].astype(np.float32)
        poses = self.T_world_camera[rooms, places]
        is_mirrored = rng.integers(2, size=n_sequences) == 1
        images[is_mirrored] = images[is_mirrored, :, :, ::-1]
        depth[is_mirrored] = depth[is_mirrored, :, :, ::-1]
        poses[is_mirrored] = _MIRROR @ poses[is_mirrored] @ _MIRROR
        if dark is not None:
            is_dark = _blackouts(rng, n_sequences, n_frames, dark)
            images[is_dark], depth[is_dark] = 0, 0
        images = images.transpose(0, 1, 4, 2, 3).astype(np.float32) / 255
        return Batch(images, depth, poses.astype(np.float32))


def _walked(rng: np.random.Generator, n_sequences: int, n_frames: int,
            steps: Tuple[int, int]) -> np.ndarray:
    """Return how many places each frame is from the start, (B, N) i64."""
    shape = n_sequences, 1
    phase = 2 * np.pi * (np.arange(n_frames) / rng.uniform(*_SWELL_FRAMES, shape)
                         + rng.uniform(size=shape))
    pace = rng.uniform(*steps, shape) * (1 + _SWELL * np.sin(phase))
    pace = pace + rng.uniform(-_JITTER, _JITTER, pace.shape)
    return np.rint(pace.cumsum(1)).astype(np.int64)


def _blackouts(rng: np.random.Generator, n_sequences: int, n_frames: int,
               dark: Tuple[int, int]) -> np.ndarray:
    """Return which frames are dark, (B, N) bool; the first ones never are."""
    is_dark = np.zeros((n_sequences, n_frames), bool)
    for row in is_dark:
        at = int(rng.integers(*_LIT))
        while at < n_frames:
            n = int(rng.integers(dark[0], dark[1] + 1))
            row[at:at + n] = True
            at += n + int(rng.integers(*_LIT))
    return is_dark


def film(first_seed: int, n_rooms: int, size: Tuple[int, int],
         update: Callable[[int, str], None] = lambda _n, _remark: None) -> Laps:
    """Film the rooms of seeds ``first_seed`` and following; ``size`` is (width, height) px.

    ``update`` is told how many rooms are done.
    """
    camera = SyntheticCamera.from_fov(*size, HFOV_DEG)
    images, depths, poses = [], [], []
    for n in range(n_rooms):
        scene, half = room(first_seed + n)
        renderer = Renderer(scene, camera)
        T_world_camera = track(first_seed + n, half, N_PLACES)
        views = [renderer.render(T) for T in T_world_camera]
        images.append(np.clip(np.rint([view.color for view in views]), 0, 255).astype(np.uint8))
        depths.append(np.array([view.depth for view in views], np.float16))
        poses.append(T_world_camera.astype(np.float32))
        update(n + 1, 'rooms filmed')
    x, y = np.broadcast_arrays(*camera.rays())
    rays = np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32)
    return Laps(np.array(images), np.array(depths), np.array(poses), rays)


def film_once(folder: Path, first_seed: int, n_rooms: int, size: Tuple[int, int],
              update: Callable[[int, str], None] = lambda _n, _remark: None) -> Laps:
    """Return what `film` does; it is kept in ``folder`` and read from there the next time.

    Raises InputError when the file is damaged or cannot be written.
    """
    name = f'rooms_{first_seed}_{n_rooms}_{size[0]}x{size[1]}_{_GENERATION}.npz'
    path = Path(folder) / name
    if path.exists():
        return _read(path)
    laps = film(first_seed, n_rooms, size, update)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as stream:
            np.savez(stream, **vars(laps))
    except OSError as error:
        raise InputError(f'{path}: the films cannot be kept ({error.strerror}); choose another '
                         'folder') from None
    return laps


def _read(path: Path) -> Laps:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Laps(**{name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        raise InputError(f'{path}: damaged; delete it, and it is made anew') from None
