"""A street round a block of houses; the camera is on a car that drives round the block."""

import numpy as np

from .facade import house_front, house_side
from .materials import (
    courses,
    crate,
    foliage,
    jitter,
    picture,
    plain,
    random_color,
    scaled,
    speckle,
    wood_color,
)
from .scene import Scene, SceneBuilder
from .texture import Canvas, Color, fractal_noise, Paint

_TEXEL_M = 0.02
_ROUTE_X, _ROUTE_Y = 25.0, 16.0             # half the size of the centre line, m
_ROAD, _PAVEMENT, _KERB = 7.0, 3.0, 0.12    # widths and height, m
_TO_HOUSES = _ROAD / 2 + _PAVEMENT
_DEPTH = 4.5                                # of a house, m
_SKY_HEIGHT, _SKY_HALF = 600.0, 9000.0
ROUTE = ((-_ROUTE_X, -_ROUTE_Y), (_ROUTE_X, -_ROUTE_Y), (_ROUTE_X, _ROUTE_Y),
         (-_ROUTE_X, _ROUTE_Y))
"""Corners (x, y) of the centre line of the road, m, anticlockwise."""


def street_scene(seed: int) -> Scene:
    """Build the block: road, pavements, two rings of houses, parked cars, trees, sky."""
    builder = SceneBuilder(seed, _TEXEL_M)
    _sky(builder)
    _ground(builder)
    inner_x, inner_y = _ROUTE_X - _TO_HOUSES, _ROUTE_Y - _TO_HOUSES
    outer_x, outer_y = _ROUTE_X + _TO_HOUSES, _ROUTE_Y + _TO_HOUSES
    _row(builder, (-inner_x, -inner_y), (inner_x, -inner_y))
    _row(builder, (inner_x, inner_y), (-inner_x, inner_y))
    _row(builder, (inner_x, _DEPTH - inner_y), (inner_x, inner_y - _DEPTH))
    _row(builder, (-inner_x, inner_y - _DEPTH), (-inner_x, _DEPTH - inner_y))
    _row(builder, (outer_x + _DEPTH, -outer_y), (-outer_x - _DEPTH, -outer_y))
    _row(builder, (-outer_x - _DEPTH, outer_y), (outer_x + _DEPTH, outer_y))
    _row(builder, (outer_x, outer_y), (outer_x, -outer_y))
    _row(builder, (-outer_x, -outer_y), (-outer_x, outer_y))
    for start, end in zip(ROUTE, ROUTE[1:] + ROUTE[:1]):
        _furnish(builder, np.array(start), np.array(end))
    return builder.build()


def _sky(builder: SceneBuilder) -> None:
    def paint(canvas: Canvas) -> None:
        cloud = 1 / (1 + np.exp(-2.5 * fractal_noise(canvas.rng, canvas.h, canvas.w, 256, 0.6)))
        blue, white = np.array([120, 165, 215], np.float32), np.array([236, 238, 242], np.float32)
        canvas.image[:] = blue + cloud[..., None] * (white - blue)
    half = _SKY_HALF
    builder.quad((-half, -half, _SKY_HEIGHT), (2 * half, 0, 0), (0, 2 * half, 0), paint,
                 texel_m=12.0, is_backdrop=True)


def _ground(builder: SceneBuilder) -> None:
    """Lay the road in four strips (the long ones own the corners) and the raised pavements."""
    x, y, half = _ROUTE_X, _ROUTE_Y, _ROAD / 2
    for side in (-1, 1):
        builder.floor(-x - half, side * y - half, x + half, side * y + half, 0.0,
                      _asphalt(True, 2 * half))
        builder.floor(side * x - half, half - y, side * x + half, y - half, 0.0,
                      _asphalt(False, 0.0))
    slabs = courses((150, 146, 140), (95, 92, 88), 0.6, 0.6, spread=0.12)
    rings = ((_ROUTE_X - half, _ROUTE_Y - half, -_PAVEMENT),
             (_ROUTE_X + half, _ROUTE_Y + half, _PAVEMENT))
    for edge_x, edge_y, width in rings:
        for side in (-1, 1):
            builder.box((0, side * (edge_y + width / 2), 0),
                        (2 * (edge_x + max(width, 0)), abs(width), _KERB), slabs, faces='yYZ')
            builder.box((side * (edge_x + width / 2), 0, 0),
                        (abs(width), 2 * (edge_y + min(width, 0)), _KERB), slabs, faces='xXZ')


def _asphalt(along_x: bool, margin_m: float) -> Paint:
    """Asphalt with stains, patches, drains and a dashed centre line clear of the crossings."""
    def paint(canvas: Canvas) -> None:
        rng, w, h = canvas.rng, canvas.width_m, canvas.height_m
        canvas.fill((98, 98, 102))
        for _ in range(int(w * h / 12)):
            canvas.rect(rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.3, 2), rng.uniform(
                0.3, 1.5), jitter(rng, (92, 92, 96), 0.2))
        for _ in range(int(w * h / 5)):
            start = rng.uniform(0, w), rng.uniform(0, h)
            end = start[0] + rng.normal(0, 0.8), start[1] + rng.normal(0, 0.8)
            canvas.line(start, end, 0.02, (55, 55, 58))
        canvas.grain(0.16, 1.0, persistence=0.95, chroma=0.1)
        speckle(canvas, 0.06, 0.05)
        length, middle = (w, h / 2) if along_x else (h, w / 2)
        for at in np.arange(margin_m + 1.0, length - margin_m - 2.0, 4.0):
            dash = (at, middle - 0.07, 2.0, 0.14) if along_x else (middle - 0.07, at, 0.14, 2.0)
            canvas.rect(*dash, jitter(rng, (215, 215, 205), 0.06))
    return paint


def _row(builder: SceneBuilder, start, end) -> None:
    """Build houses side by side; seen from in front, the row begins on the left."""
    rng = builder.rng
    start, end = np.array(start), np.array(end)
    length = np.linalg.norm(end - start)
    along = (end - start) / length
    back = np.array([-along[1], along[0]])
    n = max(1, round(length / rng.uniform(6.5, 8.0)))
    cuts = np.linspace(0, length, n + 1)
    cuts[1:-1] += rng.uniform(-0.8, 0.8, n - 1)
    for low, high in zip(cuts[:-1], cuts[1:]):
        setback = rng.uniform(0, 0.5)
        place = start + along * (low + high) / 2 + back * (setback + _DEPTH / 2)
        n_floors = rng.integers(2, 5)
        wall = random_color(rng, (0.1, 0.45), (0.55, 0.9), hue=(0.0, 0.17))
        yaw = float(np.arctan2(along[1], along[0]))
        size = (high - low, _DEPTH, 3.0 * n_floors + rng.uniform(0.3, 1.2))
        is_brick = rng.uniform() < 0.45
        builder.box((*place, 0), size, house_front(wall, n_floors, is_brick), faces='y',
                    yaw_rad=yaw)
        builder.box((*place, 0), size, house_side(wall, is_brick), faces='xX', yaw_rad=yaw)


def _furnish(builder: SceneBuilder, start: np.ndarray, end: np.ndarray) -> None:
    """Put parked cars, trees, poles, boxes and notices on both sides of one straight."""
    rng = builder.rng
    length = np.linalg.norm(end - start)
    along = (end - start) / length
    left = np.array([-along[1], along[0]])
    yaw = float(np.arctan2(along[1], along[0]))
    for side in (-1, 1):
        s = 7.0 + rng.uniform(0, 2)
        while s < length - 8.0:
            kerb = start + along * s + side * left * (_ROAD / 2)
            kind = rng.integers(5)
            if kind <= 1:
                _car(builder, kerb - side * left * 0.95, yaw + rng.normal(0, 0.02))
                s += 2.5
            elif kind == 2:
                _tree(builder, kerb + side * left * 0.7)
            elif kind == 3:
                builder.box((*(kerb + side * left * 1.1), _KERB),
                            (1.2, 0.9, rng.uniform(0.8, 1.3)), crate(wood_color(rng)),
                            yaw_rad=yaw)
            else:
                builder.box((*(kerb + side * left * 0.8), _KERB), (0.9, 0.9, 2.3), picture,
                            plain((70, 80, 75)), yaw_rad=yaw + 0.3)
            s += rng.uniform(2.2, 4.5)


def _car(builder: SceneBuilder, place: np.ndarray, yaw: float) -> None:
    rng = builder.rng
    color = random_color(rng, (0.0, 0.85), (0.25, 0.9))
    builder.box((*place, 0.0), (4.2, 1.75, 0.95), _car_side(color),
                plain(scaled(color, 1.05), 0.06), yaw_rad=yaw)
    shift = np.array([np.cos(yaw), np.sin(yaw)]) * rng.uniform(-0.4, 0.1)
    builder.box((*(place + shift), 0.95), (2.3, 1.55, 0.55), _car_windows(color),
                plain(scaled(color, 1.05), 0.06), yaw_rad=yaw)


def _car_side(color: Color) -> Paint:
    def paint(canvas: Canvas) -> None:
        w, h = canvas.width_m, canvas.height_m
        canvas.fill(color)
        canvas.rect(0, h - 0.22, w, 0.22, (28, 28, 30))
        canvas.rect(0, 0.4, w, 0.05, scaled(color, 0.6))
        if w > 3:
            for x in (0.19 * w, 0.81 * w):
                canvas.disc(x, h - 0.3, 0.33, (22, 22, 24))
                canvas.disc(x, h - 0.3, 0.18, (165, 165, 170))
            canvas.line((0.5 * w, 0), (0.5 * w, h - 0.22), 0.02, scaled(color, 0.4))
        else:
            for x in (0.04 * w, 0.8 * w):
                canvas.rect(x, 0.15, 0.16 * w, 0.16, (235, 225, 190))
            canvas.rect(0.35 * w, 0.5, 0.3 * w, 0.12, (230, 230, 215))
        canvas.grain(0.08, 0.5)
        speckle(canvas, 0.04, 0.02)
    return paint


def _car_windows(color: Color) -> Paint:
    def paint(canvas: Canvas) -> None:
        w, h = canvas.width_m, canvas.height_m
        canvas.fill(color)
        n = 2 if w > 2 else 1
        for i in range(n):
            canvas.rect(i * w / n + 0.08, 0.06, w / n - 0.16, h - 0.14, (45, 55, 66))
            canvas.line((i * w / n + 0.2, h - 0.1), (i * w / n + 0.5, 0.08), 0.06, (90, 104, 118))
        canvas.grain(0.08, 0.4)
    return paint


def _tree(builder: SceneBuilder, place: np.ndarray) -> None:
    rng = builder.rng
    green = random_color(rng, (0.35, 0.6), (0.4, 0.65), hue=(0.2, 0.36))
    builder.box((*place, _KERB), (0.28, 0.28, 2.4), plain((96, 74, 56), 0.25, 0.2),
                faces='xXyY', yaw_rad=rng.uniform(0, 1))
    for base, size in ((2.2, 2.2), (3.2, 1.5)):
        builder.box((*(place + rng.normal(0, 0.1, 2)), base), (size, size, 1.3), foliage(green),
                    faces='xXyYzZ', yaw_rad=rng.uniform(0, 1.5))
