"""Short films of synthetic worlds with exact depth and poses, made once, for tests of sfm."""

from functools import lru_cache
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import project, unproject
from longrecon_ros.synthetic.camera import SyntheticCamera
from longrecon_ros.synthetic.effects import Effects
from longrecon_ros.synthetic.stream import Film, SyntheticFrame
from longrecon_ros.synthetic.worlds import make_world, World

CAMERA = SyntheticCamera.from_fov(320, 240)
FPS = {'indoor': 15.0, 'street': 10.0, 'wall': 10.0}


@lru_cache(maxsize=None)
def world(name: str) -> World:
    """Return a world, built once."""
    return make_world(name, seed=1)


def film(name: str, n: int, motion=None, camera: SyntheticCamera = CAMERA,
         effects: Optional[Effects] = None, first: int = 0) -> Tuple[SyntheticFrame, ...]:
    """Return n frames from ``first`` on; those with the world's own motion are made once."""
    if motion is None and effects is None and camera is CAMERA:
        return tuple(_frame(name, i) for i in range(first, first + n))
    made = Film(world(name).scene, motion or world(name).motion, camera, effects or Effects(),
                fps=FPS[name])
    return tuple(made.frame(i) for i in range(first, first + n))


@lru_cache(maxsize=None)
def _film(name: str) -> Film:
    return Film(world(name).scene, world(name).motion, CAMERA, fps=FPS[name])


@lru_cache(maxsize=None)
def _frame(name: str, index: int) -> SyntheticFrame:
    return _film(name).frame(index)


def gray(frame: SyntheticFrame) -> np.ndarray:
    """Return the grey image (H, W) uint8."""
    return cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)


def true_positions(a: SyntheticFrame, b: SyntheticFrame, uv: np.ndarray) -> np.ndarray:
    """Return where points uv (n, 2) of a are in b, px; nan beside depth edges and where hidden."""
    found = np.full((len(uv), 2), np.nan)
    z, is_smooth = _depth_at(a.depth, uv)
    points = unproject(uv, np.where(is_smooth, z, 1.0), a.K)
    points = se3.apply(se3.relative(b.T_world_camera, a.T_world_camera), points)
    front = is_smooth & (points[:, 2] > 0.1)
    found[front] = project(points[front], b.K)
    z_there, is_smooth_there = _depth_at(b.depth, np.nan_to_num(found, nan=-9.0))
    visible = is_smooth_there & (np.abs(z_there / points[:, 2] - 1) < 0.02)
    return np.where(visible[:, None], found, np.nan)


def _depth_at(depth: np.ndarray, uv: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the bilinear inverse-depth at pixels as depth (n,), and where it is smooth."""
    h, w = depth.shape
    low, high = cv2.erode(depth, np.ones((5, 5))), cv2.dilate(depth, np.ones((5, 5)))
    x, y = np.rint(np.clip(uv, -1e6, 1e6)).astype(int).T
    inside = (x >= 3) & (x < w - 3) & (y >= 3) & (y < h - 3)
    x, y = np.where(inside, x, 3), np.where(inside, y, 3)
    is_smooth = inside & (low[y, x] > 0) & (high[y, x] < 1.15 * low[y, x])
    inverse = 1.0 / np.maximum(depth, 1e-6)
    uv = np.where(inside[:, None], uv, 3.0).astype(np.float32)
    value = cv2.remap(inverse.astype(np.float32), uv[:, :1], uv[:, 1:], cv2.INTER_LINEAR)
    return 1.0 / np.maximum(value[:, 0].astype(np.float64), 1e-6), is_smooth


def poses(frames: Sequence[SyntheticFrame]) -> np.ndarray:
    """Return the true camera-to-world poses (n, 4, 4)."""
    return np.stack([frame.T_world_camera for frame in frames])
