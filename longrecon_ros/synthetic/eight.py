"""A warehouse with two stacks of goods; the camera drives a figure eight round them."""

import numpy as np

from .materials import (
    bricks,
    courses,
    crate,
    panels,
    picture,
    plain,
    random_color,
    scaled,
    shelf,
    speckle,
    wood_color,
)
from .scene import Scene, SceneBuilder
from .texture import Canvas

_TEXEL_M = 0.01
_HALF_X, _HALF_Y, _HEIGHT = 10.5, 6.5, 4.5
ROUTE_HALF_LENGTH_M, ROUTE_HALF_WIDTH_M = 7.0, 3.2
_STACKS_X = (-4.6, 4.6)


def eight_scene(seed: int) -> Scene:
    """Build the hall: brick walls, marked concrete, racks along the walls, two stacks."""
    builder = SceneBuilder(seed, _TEXEL_M)
    rng = builder.rng
    x, y = _HALF_X, _HALF_Y
    builder.floor(-x, -y, x, y, 0.0, _concrete)
    builder.floor(-x, -y, x, y, _HEIGHT, _roof, faces_up=False)
    for start, end in (((-x, y), (x, y)), ((x, y), (x, -y)), ((x, -y), (-x, -y)),
                       ((-x, -y), (-x, y))):
        builder.wall(start, end, 0.0, _HEIGHT,
                     bricks(random_color(rng, (0.2, 0.5), (0.5, 0.75), hue=(0.0, 0.15))))
    _racks(builder)
    for stack_x in _STACKS_X:
        _stack(builder, stack_x)
    return builder.build()


def _concrete(canvas: Canvas) -> None:
    """A concrete floor in slabs, worn, with painted lines."""
    rng, w, h = canvas.rng, canvas.width_m, canvas.height_m
    courses((138, 136, 130), (88, 86, 84), 3.0, 3.0, spread=0.07, joint_m=0.03)(canvas)
    for x in (0.1, 0.5, 0.9):
        canvas.rect(x * w, 0, 0.1, h, (205, 178, 60))
    for _ in range(int(w * h / 3)):
        start = rng.uniform(0, w), rng.uniform(0, h)
        end = start[0] + rng.normal(0, 0.7), start[1] + rng.normal(0, 0.7)
        canvas.line(start, end, 0.025, scaled((138, 136, 130), rng.uniform(0.4, 0.8)))
    canvas.grain(0.12, 1.2, persistence=0.9)
    speckle(canvas, 0.04, 0.03)


def _roof(canvas: Canvas) -> None:
    """Corrugated sheets with beams and lamps."""
    w, h = canvas.width_m, canvas.height_m
    courses((165, 170, 175), (110, 115, 120), 2.4, 0.5, spread=0.08, joint_m=0.04)(canvas)
    for x in np.arange(1.5, w, 3.0):
        canvas.rect(x, 0, 0.25, h, (92, 98, 108))
        for y in (0.25 * h, 0.6 * h):
            canvas.rect(x + 0.8, y, 0.3, 1.4, (250, 250, 240))
    speckle(canvas, 0.05, 0.03)


def _racks(builder: SceneBuilder) -> None:
    """Stand racks, cupboards, crates and notices along the walls."""
    rng = builder.rng
    places = [(x, side * (_HALF_Y - 0.45), 0.0) for side in (-1, 1)
              for x in np.arange(-9.0, 9.5, 1.9)]
    places += [(side * (_HALF_X - 0.45), y, np.pi / 2) for side in (-1, 1)
               for y in np.arange(-4.8, 5.0, 1.9)]
    for x, y, yaw in places:
        wood = wood_color(rng)
        paint = (shelf, panels, crate, crate)[rng.integers(4)](wood)
        size = rng.uniform(0.8, 1.6), rng.uniform(0.5, 0.8), rng.uniform(0.7, 2.6)
        builder.box((x + rng.uniform(-0.2, 0.2), y, 0), size, paint, plain(wood),
                    yaw_rad=yaw + rng.uniform(-0.08, 0.08))
    for x in np.arange(-8.0, 9.0, 4.0):
        for side in (-1, 1):
            wall_y = side * (_HALF_Y - 0.02)
            builder.quad((x - side * 0.7, wall_y, 3.9), (side * 1.4, 0, 0), (0, 0, -0.9), picture)


def _stack(builder: SceneBuilder, x: float) -> None:
    """Pile crates round a pillar."""
    rng = builder.rng
    builder.box((x, 0, 0), (0.5, 0.5, _HEIGHT), plain((150, 148, 142), 0.15), faces='xXyY')
    for angle in np.arange(0, 2 * np.pi, 0.9):
        radius, z = rng.uniform(0.8, 1.0), 0.0
        place = x + radius * np.cos(angle), 0.75 * radius * np.sin(angle)
        for _ in range(rng.integers(1, 4)):
            size = rng.uniform(0.5, 0.75), rng.uniform(0.4, 0.6), rng.uniform(0.35, 0.6)
            color = wood_color(rng) if rng.uniform() < 0.6 else random_color(rng, (0.4, 0.8))
            builder.box((*place, z), size, crate(color), yaw_rad=angle + rng.uniform(-0.4, 0.4))
            z += size[2]
