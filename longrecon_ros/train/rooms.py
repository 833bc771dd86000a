"""Small rooms with walls in four colours, no two alike, and a closed track through each."""

import math
from typing import Tuple

import numpy as np

from ..geometry import se3
from ..synthetic.materials import random_color, scaled
from ..synthetic.motion import level_pose
from ..synthetic.path import ClosedPath
from ..synthetic.scene import Scene, SceneBuilder
from ..synthetic.texture import Canvas, Paint

EYE_M = 1.2
"""Height of the camera above the floor, the same in all rooms: what makes metres visible."""
_TEXEL_M, _HEIGHT_M = 0.04, 2.6
_PANEL_M = 1.6
_TILE_M = 1.0
_HUES = (0.03, 0.17, 0.38, 0.63)


def room(seed: int) -> Tuple[Scene, np.ndarray]:
    """Return a room and half of its length and width (2,) f64 m.

    The walls are red, yellow, green and blue in any order, so that one view says how the camera
    stands to the walls it sees, but not where those are that it does not see.
    """
    builder = SceneBuilder(seed, _TEXEL_M)
    rng = builder.rng
    half = rng.uniform((3.7, 3.1), (4.9, 4.1))
    x, y = half
    builder.floor(-x, -y, x, y, 0.0, _tiles((110.0, 110.0, 110.0)))
    builder.floor(-x, -y, x, y, _HEIGHT_M, _flat((235.0, 235.0, 235.0)), faces_up=False)
    corners = [(-x, y), (x, y), (x, -y), (-x, -y)]
    for start, end, hue in zip(corners, corners[1:] + corners[:1], rng.permutation(_HUES)):
        color = random_color(rng, (0.6, 0.95), (0.6, 0.95), hue=(hue - 0.03, hue + 0.03))
        builder.wall(start, end, 0.0, _HEIGHT_M, _panels(color))
    return builder.build(), half


def track(seed: int, half: np.ndarray, n_places: int) -> np.ndarray:
    """Return poses (P, 4, 4) f64 m, camera to world, at equal distances on a closed track.

    The camera looks where it goes; the track is an oval with dents, anticlockwise.
    """
    rng = np.random.default_rng([seed, 7])
    angle = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    radius = rng.uniform(0.5, 0.62, 2) * half
    dent = sum(rng.normal(0, 0.08 / k) * np.cos(k * angle + rng.uniform(0, 2 * math.pi))
               for k in (2, 3))
    path = ClosedPath(np.stack([radius[0] * np.cos(angle), radius[1] * np.sin(angle)], 1)
                      * (1 + dent)[:, None])
    poses = []
    for s in np.arange(n_places) / n_places:
        px, py, heading = path.at(s * path.length_m)
        poses.append(level_pose(px, py, EYE_M, heading))
    return np.array(poses) @ _shake(rng, n_places)


def _shake(rng: np.random.Generator, n_places: int) -> np.ndarray:
    """Return small motions (P, 4, 4) of the camera about its steady pose, periodic on a lap."""
    at = np.arange(n_places) / n_places
    waves = sum(rng.normal(size=(1, 6)) * np.sin(
        2 * math.pi * (k * at[:, None] + rng.uniform(size=(1, 6)))) for k in (5, 11, 17))
    return se3.exp(waves * np.repeat([0.02, 0.02], 3))


def _flat(color) -> Paint:
    return lambda canvas: canvas.fill(color)


def _tiles(color) -> Paint:
    def paint(canvas: Canvas) -> None:
        canvas.fill(color)
        for row in range(math.ceil(canvas.height_m / _TILE_M)):
            for column in range(math.ceil(canvas.width_m / _TILE_M)):
                if (row + column) % 2:
                    canvas.rect(column * _TILE_M, row * _TILE_M, _TILE_M, _TILE_M,
                                tuple(0.6 * channel for channel in color))
    return paint


def _panels(color) -> Paint:
    """A wall of one colour with tall panels in darker and lighter shades of it."""
    def paint(canvas: Canvas) -> None:
        canvas.fill(color)
        left = canvas.rng.uniform(0.1, 0.6)
        while left < canvas.width_m - 0.5:
            width = canvas.rng.uniform(0.5, 1.0) * _PANEL_M
            top, bottom = canvas.rng.uniform(0.2, 0.7), canvas.rng.uniform(1.5, 2.3)
            shade = canvas.rng.choice((0.55, 0.75, 1.25))
            canvas.rect(left, top, width, bottom - top, scaled(color, shade))
            left += width + canvas.rng.uniform(0.2, 0.8)
        canvas.rect(0, _HEIGHT_M - 0.12, canvas.width_m, 0.12, (40, 40, 40))
    return paint
