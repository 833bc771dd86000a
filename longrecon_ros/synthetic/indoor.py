"""Two furnished rooms joined by two doorways; the camera walks through both and comes back."""

from .materials import (
    bricks,
    crate,
    panels,
    picture,
    plain,
    planks,
    random_color,
    scaled,
    shelf,
    wallpaper,
    wood_color,
)
from .scene import Scene, SceneBuilder
from .texture import Canvas

_TEXEL_M = 0.006
_HALF_X, _HALF_Y, _HEIGHT = 5.6, 3.6, 2.6
_DOORS_Y, _DOOR_WIDTH, _DOOR_HEIGHT = (-2.0, 2.0), 1.3, 2.1
ROUTE = ((-4.1, -2.0), (4.1, -2.0), (4.1, 2.0), (-4.1, 2.0))
"""Corners (x, y) of the closed route, m, anticlockwise, through both doors."""


def indoor_scene(seed: int) -> Scene:
    """Build the flat: walls, a dividing wall with two doors, furniture, pictures."""
    builder = SceneBuilder(seed, _TEXEL_M)
    rng = builder.rng
    builder.floor(-_HALF_X, -_HALF_Y, _HALF_X, _HALF_Y, 0.0,
                  planks(wood_color(rng, (0.5, 0.65))))
    builder.floor(-_HALF_X, -_HALF_Y, _HALF_X, _HALF_Y, _HEIGHT, _ceiling, faces_up=False)
    _outer_walls(builder)
    _dividing_wall(builder)
    _furniture(builder)
    return builder.build()


def _ceiling(canvas: Canvas) -> None:
    """Boards with lamps."""
    plain((205, 203, 198), 0.06)(canvas)
    for x in range(int(canvas.width_m / 0.6) + 1):
        canvas.line((0.6 * x, 0), (0.6 * x, canvas.height_m), 0.012, (130, 128, 125))
    for y in range(int(canvas.height_m / 0.6) + 1):
        canvas.line((0, 0.6 * y), (canvas.width_m, 0.6 * y), 0.012, (130, 128, 125))
    for _ in range(14):
        column = 0.6 * canvas.rng.integers(0, int(canvas.width_m / 0.6))
        row = 0.6 * canvas.rng.integers(0, int(canvas.height_m / 0.6))
        canvas.rect(column + 0.06, row + 0.06, 0.48, 0.48, (250, 248, 235))


def _outer_walls(builder: SceneBuilder) -> None:
    rng = builder.rng
    x, y = _HALF_X, _HALF_Y
    for start, end in (((-x, y), (0, y)), ((0, y), (x, y)), ((x, y), (x, -y)),
                       ((x, -y), (0, -y)), ((0, -y), (-x, -y)), ((-x, -y), (-x, y))):
        if rng.uniform() < 0.25:
            paint = bricks(random_color(rng, (0.4, 0.6), (0.5, 0.7), hue=(0.01, 0.07)))
        else:
            paint = wallpaper(random_color(rng, (0.05, 0.3), (0.7, 0.92)), random_color(rng))
        builder.wall(start, end, 0.0, _HEIGHT, paint)
        _hang_pictures(builder, start, end)


def _hang_pictures(builder: SceneBuilder, start, end) -> None:
    """Hang pictures along a wall, 2 cm in front of it, clear of each other."""
    rng = builder.rng
    length = abs(end[0] - start[0]) + abs(end[1] - start[1])
    ex, ey = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    along = rng.uniform(0.3, 0.8)
    while along < length - 1.2:
        width, height = rng.uniform(0.5, 1.0), rng.uniform(0.4, 0.8)
        top = rng.uniform(1.9, 2.3)
        x, y = start[0] + along * ex + 0.02 * ey, start[1] + along * ey - 0.02 * ex
        builder.quad((x, y, top), (width * ex, width * ey, 0), (0, 0, -height), picture)
        along += width + rng.uniform(0.3, 1.2)


def _dividing_wall(builder: SceneBuilder) -> None:
    """Build the wall at x = 0: three piers, and a lintel over each door."""
    rng = builder.rng
    half, thickness = _DOOR_WIDTH / 2, 0.2
    cuts = [-_HALF_Y, *(y + side * half for y in _DOORS_Y for side in (-1, 1)), _HALF_Y]
    paint = wallpaper(random_color(rng, (0.1, 0.35), (0.65, 0.9)), random_color(rng))
    for low, high in zip(cuts[::2], cuts[1::2]):
        builder.box((0, (low + high) / 2, 0), (thickness, high - low, _HEIGHT), paint,
                    faces='xXyY')
    for y in _DOORS_Y:
        builder.box((0, y, _DOOR_HEIGHT), (thickness, _DOOR_WIDTH, _HEIGHT - _DOOR_HEIGHT),
                    plain(random_color(rng)), faces='xXz')
    for side in (-1, 1):
        x = side * thickness / 2
        _hang_pictures(builder, (x, -1.2 * side), (x, 1.2 * side))


def _furniture(builder: SceneBuilder) -> None:
    rng = builder.rng
    for side in (-1, 1):
        _island(builder, side * 2.6)
        for x in (0.9, 2.3, 3.7, 4.9):
            for wall in (-1, 1):
                _against_wall(builder, side * x + rng.uniform(-0.15, 0.15), wall)
        for y in (-1.1, 0.0, 1.1):
            wood = wood_color(rng)
            builder.box((side * (_HALF_X - 0.2), y + rng.uniform(-0.1, 0.1), 0),
                        (0.4, rng.uniform(0.6, 1.0), rng.uniform(0.5, 1.9)),
                        shelf(wood) if rng.uniform() < 0.6 else panels(wood), plain(wood))


def _against_wall(builder: SceneBuilder, x: float, wall: int) -> None:
    """Stand a low piece against the wall at y = wall * _HALF_Y."""
    rng = builder.rng
    wood = wood_color(rng)
    width, depth = rng.uniform(0.5, 1.0), rng.uniform(0.25, 0.45)
    paint = (shelf, panels, crate)[rng.integers(3)](wood)
    builder.box((x, wall * (_HALF_Y - depth / 2), 0), (width, depth, rng.uniform(0.4, 1.5)), paint,
                plain(wood))


def _island(builder: SceneBuilder, x: float) -> None:
    """Group furniture in the middle of a room: a table, crates on and round it."""
    rng = builder.rng
    wood = wood_color(rng)
    builder.box((x, 0, 0), (1.6, 0.9, 0.75), panels(wood), plain(scaled(wood, 1.2), 0.15))
    for dx in (-0.5, 0.1, 0.55):
        size = rng.uniform(0.15, 0.35, 3)
        builder.box((x + dx, rng.uniform(-0.25, 0.25), 0.75), size,
                    crate(random_color(rng)), yaw_rad=rng.uniform(-0.5, 0.5))
    for dx, dy in ((-1.15, 0.1), (1.2, -0.1), (-0.4, 0.75), (0.5, -0.75)):
        builder.box((x + dx, dy, 0), (0.45, 0.4, rng.uniform(0.4, 1.0)),
                    crate(random_color(rng, (0.3, 0.8))), yaw_rad=rng.uniform(-0.6, 0.6))
