"""Fronts and sides of houses."""

import numpy as np

from .materials import bricks, jitter, plain, random_color, scaled
from .texture import Canvas, Color, Paint

_FLOOR_M = 3.0


def house_side(wall: Color, is_brick: bool) -> Paint:
    """A side wall without windows."""
    return bricks(scaled(wall, 0.75)) if is_brick else plain(wall, 0.14, 1.5)


def house_front(wall: Color, n_floors: int, is_brick: bool) -> Paint:
    """A front with a shop or a door below and windows above."""
    def paint(canvas: Canvas) -> None:
        rng = canvas.rng
        house_side(wall, is_brick)(canvas)
        trim = jitter(rng, (225, 220, 208), 0.15)
        n_windows = max(2, round(canvas.width_m / rng.uniform(1.8, 2.6)))
        pitch = canvas.width_m / n_windows
        for floor in range(1, n_floors):
            ground = canvas.height_m - floor * _FLOOR_M
            canvas.rect(0, ground - 0.12, canvas.width_m, 0.14, trim)
            for column in range(n_windows):
                _window(canvas, (column + 0.5) * pitch, ground - 0.9, 0.5 * pitch, 1.5, trim)
        canvas.rect(0, 0, canvas.width_m, 0.3, scaled(trim, 0.7))
        if rng.uniform() < 0.5:
            _shop(canvas, trim)
        else:
            _entrance(canvas, trim, pitch)
        canvas.shade_down(0.3, 0.5)
    return paint


def _window(canvas: Canvas, middle: float, sill: float, width: float, height: float,
            trim: Color) -> None:
    """Paint one window: frame, panes that differ, curtains or a flower box now and then."""
    rng = canvas.rng
    left, top = middle - width / 2, sill - height
    canvas.rect(left - 0.1, top - 0.1, width + 0.2, height + 0.2, trim)
    for column in range(2):
        for row in range(2):
            canvas.rect(left + column * width / 2 + 0.03, top + row * height / 2 + 0.03,
                        width / 2 - 0.06, height / 2 - 0.06, jitter(rng, (62, 76, 92), 0.3))
    if rng.uniform() < 0.4:
        drawn = rng.uniform(0.2, 0.8)
        canvas.rect(left, top, width, drawn * height, random_color(rng, (0.05, 0.5), (0.5, 0.9)))
    if rng.uniform() < 0.3:
        canvas.rect(left - 0.1, sill, width + 0.2, 0.18, (112, 78, 52))
        for _ in range(9):
            canvas.disc(left + rng.uniform(0, width), sill - 0.03, rng.uniform(0.04, 0.09),
                        random_color(rng, (0.5, 1.0), (0.4, 0.95)))


def _shop(canvas: Canvas, trim: Color) -> None:
    """Paint a shop: display window with goods, a door, an awning and a sign with letters."""
    rng, w, bottom = canvas.rng, canvas.width_m, canvas.height_m
    canvas.rect(0.4, bottom - 2.6, w - 0.8, 2.45, scaled(trim, 0.6))
    canvas.rect(0.6, bottom - 2.1, w - 2.2, 1.6, (70, 80, 90))
    for _ in range(int(8 * w)):
        canvas.rect(rng.uniform(0.6, w - 2.0), bottom - rng.uniform(0.7, 1.9),
                    rng.uniform(0.1, 0.35), rng.uniform(0.1, 0.4), random_color(rng, (0.2, 0.9)))
    canvas.rect(w - 1.4, bottom - 2.2, 0.9, 2.2, random_color(rng, (0.3, 0.8), (0.2, 0.5)))
    board = random_color(rng, (0.4, 0.9), (0.25, 0.6))
    canvas.rect(0.4, bottom - 2.9, w - 0.8, 0.5, board)
    x = 0.7
    while x < min(w - 1.0, 0.7 + rng.uniform(2.0, 5.0)):
        _letter(canvas, x, bottom - 2.82, 0.22, 0.34)
        x += 0.34
    stripe = random_color(rng, (0.5, 0.9), (0.5, 0.8))
    for i, x in enumerate(np.arange(0.4, w - 0.7, 0.3)):
        canvas.rect(x, bottom - 2.4, 0.3, 0.35, stripe if i % 2 else (238, 234, 226))


def _entrance(canvas: Canvas, trim: Color, pitch: float) -> None:
    """Paint a ground floor with a door among windows."""
    rng, bottom = canvas.rng, canvas.height_m
    n = max(2, round(canvas.width_m / pitch))
    door = rng.integers(n)
    for column in range(n):
        middle = (column + 0.5) * pitch
        if column != door:
            _window(canvas, middle, bottom - 0.9, 0.5 * pitch, 1.4, trim)
            continue
        color = random_color(rng, (0.3, 0.8), (0.25, 0.6))
        canvas.rect(middle - 0.65, bottom - 2.4, 1.3, 2.4, trim)
        canvas.rect(middle - 0.52, bottom - 2.28, 1.04, 2.28, color)
        for y in (2.1, 1.2):
            canvas.rect(middle - 0.4, bottom - y, 0.8, 0.7, scaled(color, 0.7))
        canvas.disc(middle + 0.4, bottom - 1.1, 0.06, (220, 200, 120))


def _letter(canvas: Canvas, left: float, top: float, width: float, height: float) -> None:
    """Paint something that looks like a letter: strokes between the points of a 2 x 3 grid."""
    points = [(left + column * width, top + row * height / 2)
              for row in range(3) for column in range(2)]
    for _ in range(4):
        first, second = canvas.rng.choice(6, 2, replace=False)
        canvas.line(points[first], points[second], 0.05, (240, 236, 220))
