"""Exact views of a room with a box in it, for the exports of a map."""

from contextlib import contextmanager
import resource

import numpy as np
import pytest

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import pixel_grid, unproject
from longrecon_ros.types import PointCloud, View

SIZE = 160, 120
# the principal point is not in the middle: a mistake of half a pixel, or of sign, is seen
K = np.array([[100.0, 0, 82.0], [0, 105.0, 57.0], [0, 0, 1]])
R_BASE_CAMERA = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
ROOM = np.array([[-2.0, -1.5, 0], [4.0, 2.5, 2.4]])         # corners, m; x ahead, y left, z up
BOX = np.array([[1.5, -0.5, 0], [2.3, 0.5, 0.7]])           # stands in it
HEIGHT = 1.1


def pose_at(x, y, yaw_deg=0.0, pitch_deg=0.0, height=HEIGHT):
    """Return T_room_camera (4, 4); pitch is downwards."""
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    R = se3.so3_exp(np.array([0, 0, yaw])) @ se3.so3_exp(np.array([0, pitch, 0]))
    return se3.from_parts(R @ R_BASE_CAMERA, np.array([x, y, height]))


def _cast(origin, rays, boxes):
    """Return how many rays (n, 3) it takes to the walls or boxes, (n,), and which surface."""
    with np.errstate(divide='ignore'):
        low, high = (ROOM[0] - origin) / rays, (ROOM[1] - origin) / rays
    exits = np.maximum(low, high)
    distance, surface = exits.min(axis=1), exits.argmin(axis=1) + 1
    for box in boxes:
        with np.errstate(divide='ignore'):
            a, b = (box[0] - origin) / rays, (box[1] - origin) / rays
        near, far = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
        is_hit = (near < far) & (near > 0) & (near < distance)
        distance, surface = np.where(is_hit, near, distance), np.where(is_hit, 0, surface)
    return distance, surface


COLORS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [120, 110, 100]], np.uint8)


def views_at(poses, boxes=(BOX,), unit_m=1.0):
    """Yield exact views of the room from poses (T_room_camera); the map is at the first one."""
    for i, T in enumerate(poses):
        rays = unproject(pixel_grid(SIZE), np.ones(SIZE[::-1]), K).reshape(-1, 3)
        depth, surface = _cast(T[:3, 3], rays @ T[:3, :3].T, boxes)
        T_map_camera = se3.relative(poses[0], T)
        T_map_camera[:3, 3] /= unit_m
        shape = SIZE[::-1]
        yield View(10 * i, 10**9 + 10**8 * i, T_map_camera, K, COLORS[surface].reshape(*shape, 3),
                   depth.reshape(shape) / unit_m)


def tour(pitch_deg=0.0):
    """Look all round from five places in the room."""
    places = [(0, 0), (-1.2, 1.5), (3.2, 1.6), (3.2, -0.8), (0, -0.9)]
    return [pose_at(x, y, yaw, pitch_deg) for x, y in places for yaw in range(0, 360, 40)]


@contextmanager
def files_of_at_most(n_bytes):
    """Let larger files fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def open3d_or_skip():
    try:
        import open3d
    except ImportError as error:
        pytest.skip(f'a mesh needs Open3D: {error}')
    return open3d


def some_cloud(n, use_normals=False):
    rng = np.random.default_rng(0)
    return PointCloud(rng.normal(size=(n, 3)), rng.integers(0, 256, (n, 3)),
                      rng.normal(size=(n, 3)) if use_normals else None)


POSES = [pose_at(0, 0), pose_at(0.4, 0.2, 25, 5), pose_at(-0.5, -0.3, -100, -8)]
