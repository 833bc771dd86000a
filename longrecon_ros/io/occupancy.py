"""Occupancy grids out of views, as Nav2's map server reads them: map.yaml and map.pgm.

The format: https://docs.nav2.org/configuration/packages/map_server/configuring-map-server.html.
Cells are updated by log odds along rays (Moravec and Elfes, High resolution maps from wide angle
sonar, ICRA 1985; the steps are those of OctoMap, Hornung et al. 2013).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
import math
import os
from pathlib import Path
import tempfile

import cv2
import numpy as np

from ..atomic import atomic_file
from ..errors import ConfigError, InputError
from ..geometry import se3
from ..geometry.camera import pointmap_from_depth
from ..types import Trajectory, View
from .depth_maps import checked_views, defined_depth, writing
from .ground_plane import axes_of, find_ground, Floor, Ground

OCCUPIED, FREE, UNKNOWN = 0, 254, 205
# 205 is 0.1961 occupied: with 0.25, the other usual value, Nav2 would take the unknown for free
_OCCUPIED_THRESH, _FREE_THRESH = 0.65, 0.196

_WORK_PIXELS = 80_000           # a depth map is thinned to about so many
_MEMORY_BYTES = 64 << 20        # thinned depth maps beyond this wait on the disk
_SAMPLES_PER_VIEW = 400         # for the ground plane
_FIRST_VIEWS = 8                # the ground is below these
_HIT, _MISS, _MOST = 0.85, -0.4, 3.5
_FLOOR_M = 0.2                  # what is further below the floor is a hole, not floor
_CARRIER_M = 0.2                # where a camera was there is room for what carried it
_MAX_CELLS = 100_000_000
_USUAL_HEIGHTS_M = (0.05, 4.0)
_MARGIN = 2                     # cells round what is known


@dataclass(frozen=True, slots=True, eq=False)
class Occupancy:
    """What was written.

    The grid's frame has ROS axes: x ahead of the first camera, y left, z up, its origin on the
    ground below that camera; x_grid = T_grid_map (metres_per_unit x_map).
    """

    size: tuple[int, int]               # width, height, cells
    resolution_m: float
    origin_m: tuple[float, float]       # x, y of the outer corner of the lower left cell
    known_share: float                  # of all cells
    occupied_share: float               # of all cells
    metres_per_unit: float
    T_grid_map: np.ndarray              # (4, 4) f64 m, rigid
    camera_height_m: float              # of the first camera
    ground: Ground                      # in map axes, metres
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        width, height = self.size
        free = self.known_share - self.occupied_share
        return '; '.join([
            f'{width} x {height} cells of {self.resolution_m:g} m, {free:.0%} free, '
            f'{self.occupied_share:.0%} occupied, others unknown',
            f'the first camera is {self.camera_height_m:.2f} m above the ground', *self.warnings])


def write_occupancy(path: Path, views: Iterable[View], resolution_m: float, is_metric: bool,
                    metres_per_unit: float | None = None,
                    height_range_m: tuple[float, float] = (0.1, 1.5),
                    up: np.ndarray | None = None, max_range_m: float = 10.0,
                    trajectory: Trajectory | None = None) -> Occupancy:
    """Write map.yaml and map.pgm into a folder, or NAME.yaml and NAME.pgm for a path NAME.yaml.

    ``View.T_submap_camera`` is taken as T_map_camera. What lies ``height_range_m`` above the floor
    is an obstacle, as far as ``max_range_m`` from a camera. As in the scan of a laser, what is
    before the nearest obstacle in a direction (without one: up to where floor was seen) is free,
    but not what is below the image, where a low obstacle would not be seen. Free is, too, what is
    0.2 m or less from a camera, or from a pose of ``trajectory`` (T_map_camera, the map's unit).
    The rest is unknown.

    The ground is found among points below the cameras, which must be level within 40 degrees on
    average; ``up`` (3,), in map axes, replaces that guess and is taken as exact. From view to view
    heights follow the floor, so that ramps and a slow drift of the map are no obstacles.

    ``metres_per_unit`` scales the map; it is needed unless the unit is metres.

    Raises
    ------
    ConfigError
        The scale is unknown, or a number is impossible.
    InputError
        There are no views, one is unusable, the map is too large for the resolution, or the files
        cannot be written (a full disk).

    """
    yaml = Path(path) if Path(path).suffix == '.yaml' else Path(path) / 'map.yaml'
    scale = _scale(yaml, is_metric, metres_per_unit)
    low, high = height_range_m
    if not (0 < resolution_m < np.inf and 0 < max_range_m < np.inf and 0 < low < high):
        raise ConfigError(f'{yaml}: resolution_m, max_range_m and height_range_m must be above 0 '
                          'and ascend')
    with writing(yaml):
        pixels, found = draw_occupancy(yaml, views, resolution_m, scale, height_range_m, up,
                                       max_range_m, trajectory)
        yaml.parent.mkdir(parents=True, exist_ok=True)
        _write(yaml, pixels, found.origin_m, resolution_m)
    return found


def draw_occupancy(name: Path, views: Iterable[View], resolution_m: float, scale: float,
                   height_range_m: tuple[float, float] = (0.1, 1.5),
                   up: np.ndarray | None = None, max_range_m: float = 10.0,
                   trajectory: Trajectory | None = None) -> tuple[np.ndarray, Occupancy]:
    """Return a grid as pixels (h, w) uint8, y upwards, and what is known of it.

    ``scale`` is in metres per unit of the map; ``name`` stands in errors; all else is as in
    `write_occupancy`. Pixels are `OCCUPIED`, `FREE` or `UNKNOWN`.
    """
    with _Store() as store:
        for view in checked_views(views, name):
            store.add(view, scale)
        ground, T_grid_map = _place(store, up)
        positions = store.poses[:, :3, 3]
        if trajectory is not None:
            positions = np.concatenate([positions, trajectory.positions * scale])
        positions = se3.apply(T_grid_map, positions[np.isfinite(positions).all(axis=1)])
        grid = _Grid(name, positions[:, :2], resolution_m, max_range_m)
        _draw(grid, store, T_grid_map, height_range_m, max_range_m)
        grid.clear(positions[:, :2], _CARRIER_M)
        pixels, origin = grid.image()
    height_m = float(positions[0, 2])
    return pixels, Occupancy(
        pixels.shape[::-1], resolution_m, origin, float((pixels != UNKNOWN).mean()),
        float((pixels == OCCUPIED).mean()), scale, T_grid_map, height_m, ground,
        tuple(_warnings(ground, height_m)))


def _scale(yaml: Path, is_metric: bool, metres_per_unit: float | None) -> float:
    if metres_per_unit is None:
        if not is_metric:
            raise ConfigError(
                f'{yaml}: an occupancy grid is in metres, but the scale of this map is unknown: '
                'give metres_per_unit, a length in metres over the same length in the map, or '
                'use a metric backbone')
        return 1.0
    if not 0 < metres_per_unit < np.inf:
        raise ConfigError(f'{yaml}: metres_per_unit must be above 0, got {metres_per_unit}')
    return metres_per_unit


class _Store:
    """Thinned depth maps in metres; many wait on the disk. Iterating gives them back in order."""

    def __init__(self):
        self._file = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)
        self._metas: list[tuple] = []

    def __enter__(self) -> '_Store':
        return self

    def __exit__(self, *problem) -> None:
        self._file.close()

    def add(self, view: View, scale: float) -> None:
        step = max(1, math.ceil((view.depth.size / _WORK_PIXELS)**0.5))
        first = step // 2
        depth = defined_depth(view.depth[first::step, first::step]) * np.float32(scale)
        K = view.K.copy()
        K[:2, 2] -= first
        K[:2] /= step
        T = view.T_submap_camera.copy()
        T[:3, 3] *= scale
        self._file.write(depth.tobytes())
        self._metas.append((depth.shape, K, T))

    @property
    def poses(self) -> np.ndarray:
        """(N, 4, 4) T_map_camera, m."""
        return np.array([T for *_, T in self._metas])

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Yield points (n, 3) f32 m in camera axes, T_map_camera (4, 4), rad between columns."""
        self._file.seek(0)
        for shape, K, T in self._metas:
            depth = np.frombuffer(self._file.read(4 * shape[0] * shape[1]), np.float32)
            depth = depth.reshape(shape)
            yield pointmap_from_depth(depth, K)[depth > 0], T, 1 / K[0, 0]


def _place(store: _Store, up: np.ndarray | None) -> tuple[Ground, np.ndarray]:
    """Return the ground plane in map axes, m, and T_grid_map (4, 4)."""
    guess = -store.poses[:, :3, 1].sum(axis=0) if up is None else np.asarray(up, np.float64)
    if guess.shape != (3,) or not np.isfinite(guess).all() or np.linalg.norm(guess) < 1e-6:
        raise ConfigError(f'up: expected a direction of three numbers, got {guess}; without one '
                          'the cameras must be level on average')
    guess = guess / np.linalg.norm(guess)
    below = [_below(points, T, guess) for points, T, _ in store]
    centres = store.poses[:, :3, 3]
    ground = find_ground(below, centres, guess, is_exact=up is not None)
    # drift of the map bends the floor: the height is that at the beginning
    start = find_ground(below[:_FIRST_VIEWS], centres, ground.normal, is_exact=True)
    offset = start.offset if start.is_seen else ground.offset
    first = store.poses[0]
    ahead = first[:3, 2]
    if abs(ahead @ ground.normal) > 0.95:
        ahead = -first[:3, 1]               # it looks down: ahead is where the top of the image is
    R = axes_of(ground.normal, ahead)
    foot = first[:3, 3] - (first[:3, 3] @ ground.normal + offset) * ground.normal
    ground = Ground(ground.normal, offset, ground.share, ground.is_seen)
    return ground, se3.from_parts(R, -R @ foot)


def _below(points: np.ndarray, T: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return some points (n, 3) of a view, in map axes, that lie below its camera."""
    points = points[(points @ (T[:3, :3].T @ up)) < 0]
    step = max(1, len(points) // _SAMPLES_PER_VIEW)
    return se3.apply(T, points[step // 2::step])


def _draw(grid: '_Grid', store: _Store, T_grid_map: np.ndarray, band_m: tuple[float, float],
          max_range_m: float) -> None:
    """Enter all views."""
    floor = Floor()
    for points, T_map_camera, column_rad in store:
        T_grid_camera = T_grid_map @ T_map_camera
        points, camera = se3.apply(T_grid_camera, points), T_grid_camera[:3, 3]
        floor.follow(points, camera)
        heights = floor.heights(points)
        offsets = points[:, :2] - camera[:2]
        ranges = np.maximum(np.hypot(offsets[:, 0], offsets[:, 1]), 1e-6)
        is_obstacle = (heights >= band_m[0]) & (heights <= band_m[1])
        sectors = _Sectors(column_rad)
        sectors.enter(offsets, ranges, heights, is_obstacle, band_m[0],
                      float(floor.heights(camera[None])[0]))
        hits = points[is_obstacle & (ranges <= max_range_m), :2]
        grid.update(hits, camera[:2], sectors, max_range_m)


class _Sectors:
    """Directions about a camera, and from where to where each is free."""

    def __init__(self, column_rad: float):
        # half as wide again as a column of the image: none between two columns is empty
        self._n = int(np.clip(2 * np.pi / (1.5 * column_rad), 90, 4000))
        self._near = np.full(self._n, np.inf)
        self._far = np.zeros(self._n)

    def enter(self, offsets: np.ndarray, ranges: np.ndarray, heights: np.ndarray,
              is_obstacle: np.ndarray, low_m: float, camera_m: float) -> None:
        """Take the points of a view, (n, 2) from the camera, and its own height."""
        sector = self._of(offsets[:, 0], offsets[:, 1])
        obstacle, floor = np.full(self._n, np.inf), np.zeros(self._n)
        np.minimum.at(obstacle, sector[is_obstacle], ranges[is_obstacle])
        is_floor = (heights < low_m) & (heights > -max(low_m, _FLOOR_M))
        np.maximum.at(floor, sector[is_floor], ranges[is_floor])
        self._far = np.where(np.isfinite(obstacle), obstacle, floor)
        if camera_m <= low_m:
            self._near[:] = 0
            return
        # nearer than where the lowest ray comes down to obstacles, one might stand unseen
        slope = np.full(self._n, np.inf)
        np.minimum.at(slope, sector, (heights - camera_m) / ranges)
        falls = slope < 0
        self._near[falls] = (low_m - camera_m) / slope[falls]

    def contain(self, dx: np.ndarray, dy: np.ndarray, margin_m: float) -> np.ndarray:
        """Tell which places are free, at least ``margin_m`` before what limits them."""
        sector, distance = self._of(dx, dy), np.hypot(dx, dy)
        return (distance >= self._near[sector]) & (distance < self._far[sector] - margin_m)

    def _of(self, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        turn = np.arctan2(dy, dx) / (2 * np.pi) + 0.5
        return np.minimum((turn * self._n).astype(np.int64), self._n - 1)


class _Grid:
    """Log odds of cells, row 0 at the smallest y."""

    def __init__(self, yaml: Path, positions: np.ndarray, resolution_m: float, reach_m: float):
        self._resolution_m = resolution_m
        self._first = np.floor((positions.min(axis=0) - reach_m) / resolution_m).astype(np.int64)
        last = np.ceil((positions.max(axis=0) + reach_m) / resolution_m).astype(np.int64)
        width, height = (last - self._first + 1).tolist()
        if width * height > _MAX_CELLS:
            raise InputError(f'{yaml}: not written: {width} x {height} cells are too many; use a '
                             'coarser resolution, or correct metres_per_unit')
        self._odds = np.zeros((height, width), np.float32)
        self._n_points = np.zeros((height, width), np.int32)

    def update(self, hits: np.ndarray, camera: np.ndarray, sectors: _Sectors,
               reach_m: float) -> None:
        """Enter a view: points (n, 2) on obstacles and the free sectors of the camera (2,)."""
        start = self._cells(camera - reach_m)
        stop = self._cells(camera + reach_m) + 1
        x, y = ((np.arange(start[i], stop[i]) + self._first[i] + 0.5) * self._resolution_m
                - camera[i] for i in range(2))
        is_free = sectors.contain(x[None], y[:, None], self._resolution_m / 2)
        is_free &= x[None]**2 + y[:, None]**2 <= reach_m**2
        column, row = self._cells(hits).T
        flat, counts = np.unique(row * self._odds.shape[1] + column, return_counts=True)
        row, column = np.divmod(flat, self._odds.shape[1])
        is_free[row - start[1], column - start[0]] = False
        part = self._odds[start[1]:stop[1], start[0]:stop[0]]
        part[is_free] += _MISS
        self._odds[row, column] += _HIT
        self._n_points[row, column] += counts.astype(np.int32)
        np.clip(part, -_MOST, _MOST, out=part)

    def clear(self, positions: np.ndarray, radius_m: float) -> None:
        """Take one more look at the discs round positions (n, 2): nothing is there."""
        n = math.ceil(radius_m / self._resolution_m)
        disc = np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * 2), axis=-1).reshape(-1, 2)
        disc = disc[(disc**2).sum(axis=1) <= (radius_m / self._resolution_m)**2]
        cells = np.unique((self._cells(positions)[:, None] + disc).reshape(-1, 2), axis=0)
        cells = cells[((cells >= 0) & (cells < self._odds.shape[::-1])).all(axis=1)]
        self._odds[cells[:, 1], cells[:, 0]] += _MISS

    def image(self) -> tuple[np.ndarray, tuple[float, float]]:
        """Return the known part as pixels (h, w) uint8, y upwards, and its lower left corner."""
        is_occupied = self._odds > 0.5
        neighbours = cv2.boxFilter(is_occupied.astype(np.float32), -1, (3, 3), normalize=False,
                                   borderType=cv2.BORDER_CONSTANT)
        # one pixel of depth in all the views, alone: more often an error than a thing
        is_occupied &= (self._n_points > 1) | (neighbours > 1.5)
        pixels = np.full(self._odds.shape, UNKNOWN, np.uint8)
        pixels[self._odds < -0.3] = FREE
        pixels[is_occupied] = OCCUPIED
        rows, columns = (np.flatnonzero((pixels != UNKNOWN).any(axis=axis)) for axis in (1, 0))
        top, left = max(rows[0] - _MARGIN, 0), max(columns[0] - _MARGIN, 0)
        x, y = np.round((self._first + (left, top)) * self._resolution_m, 9).tolist()
        part = pixels[top:rows[-1] + 1 + _MARGIN, left:columns[-1] + 1 + _MARGIN]
        return part[::-1], (x, y)

    def _cells(self, points: np.ndarray) -> np.ndarray:
        """Return column and row (..., 2) of points (..., 2)."""
        return np.floor(points / self._resolution_m).astype(np.int64) - self._first


def _write(yaml: Path, pixels: np.ndarray, origin_m: tuple[float, float],
           resolution_m: float) -> None:
    pgm = yaml.with_suffix('.pgm')
    x, y = origin_m
    text = ('# x ahead of the first camera, y left, metres\n'
            f'image: {pgm.name}\nmode: trinary\nresolution: {resolution_m:.9g}\n'
            f'origin: [{x!r}, {y!r}, 0.0]\nnegate: 0\n'
            f'occupied_thresh: {_OCCUPIED_THRESH}\nfree_thresh: {_FREE_THRESH}\n')
    with atomic_file(yaml) as words, atomic_file(pgm) as image:
        image.write(b'P5\n%d %d\n255\n' % pixels.shape[::-1] + pixels.tobytes())
        words.write(text.encode('utf-8'))
        for stream in (image, words):       # both are on the disk before one takes its place
            stream.flush()
            os.fsync(stream.fileno())


def _warnings(ground: Ground, height_m: float) -> Iterator[str]:
    if not ground.is_seen:
        yield ('no floor was found below the cameras: the ground is at the lowest points, and the '
               'grid may be wrong; give up, the direction that is up in map axes, or film more '
               'of the floor')
    low, high = _USUAL_HEIGHTS_M
    if not low <= height_m <= high:
        yield (f'the first camera is {height_m:.2g} m above the ground: is metres_per_unit right?')
