"""Occupancy grids of a known room."""

import cv2
import numpy as np
import pytest
from room_views import BOX, HEIGHT, K, pose_at, POSES, ROOM, tour, views_at
import yaml

from longrecon_ros.errors import ConfigError, InputError
from longrecon_ros.geometry import se3
from longrecon_ros.io.occupancy import FREE, OCCUPIED, UNKNOWN, write_occupancy
from longrecon_ros.types import Trajectory, View


def _read_map(folder):
    """Return cells (n,) as Nav2's map server has them (100, 0, -1), and their centres (n, 2)."""
    entries = yaml.safe_load((folder / 'map.yaml').read_text())
    assert entries['mode'] == 'trinary' and entries['negate'] == 0 and entries['origin'][2] == 0
    pixels = cv2.imread(str(folder / entries['image']), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(pixels)) <= {OCCUPIED, FREE, UNKNOWN}
    occupied = 1 - pixels[::-1] / 255                   # the map server counts rows from below
    cells = np.where(occupied > entries['occupied_thresh'], 100,
                     np.where(occupied < entries['free_thresh'], 0, -1))
    row, column = np.indices(cells.shape)
    centres = (np.stack([column, row], axis=-1) + 0.5) * entries['resolution']
    return cells.ravel(), (centres + entries['origin'][:2]).reshape(-1, 2), entries


def _inside(points, box, margin):
    return ((points > box[0, :2] - margin) & (points < box[1, :2] + margin)).all(axis=1)


def _check_room(cells, xy):
    """Check cells at xy (n, 2), room axes, of 0.05 m."""
    is_room, is_box = _inside(xy, ROOM, -0.08), _inside(xy, BOX, 0.08)
    assert not (cells[is_room & ~is_box] == 100).any()
    assert (cells[is_room & ~is_box] == 0).mean() > 0.97
    assert (cells[~_inside(xy, ROOM, 0.08)] == -1).all()
    assert not (cells[_inside(xy, BOX, -0.08)] == 0).any()
    for box in (ROOM, BOX):
        for axis in (0, 1):
            for side in box[:, axis]:
                along = np.arange(box[0, 1 - axis] + 0.1, box[1, 1 - axis] - 0.1, 0.05)
                wall = np.insert(along[:, None], axis, side, axis=1)
                near = np.abs(wall[:, None] - xy[cells == 100]).max(axis=2).min(axis=1)
                assert (near < 0.06).mean() > 0.98, (axis, side)


def test_occupancy_of_a_room(tmp_path):
    done = write_occupancy(tmp_path / 'out', views_at(tour()), 0.05, is_metric=True)
    cells, xy, entries = _read_map(tmp_path / 'out')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['map.pgm', 'map.yaml']
    _check_room(cells, xy)                              # the first camera is at the room's origin
    assert entries['resolution'] == done.resolution_m == 0.05
    assert tuple(entries['origin'][:2]) == done.origin_m
    np.testing.assert_allclose(done.origin_m, ROOM[0, :2], atol=0.2)
    assert np.prod(done.size) == len(cells)
    assert done.known_share == (cells >= 0).mean()
    assert done.occupied_share == (cells == 100).mean()
    assert done.warnings == () and '1.10 m above the ground' in str(done)
    np.testing.assert_allclose(done.camera_height_m, HEIGHT, atol=1e-3)
    np.testing.assert_allclose(done.T_grid_map, pose_at(0, 0), atol=1e-3)
    np.testing.assert_allclose(done.ground.normal, [0, -1, 0], atol=1e-3)


@pytest.mark.parametrize('use_up', [False, True])
def test_ground_below_a_camera_that_looks_down(tmp_path, use_up):
    # ahead only: on average these cameras are not level
    poses = [pose_at(0.1 * i - 1, 0, 0, 10) for i in range(9)]
    up = poses[0][:3, :3].T @ (0, 0, 1.0)
    done = write_occupancy(tmp_path / 'a.yaml', views_at(poses), 0.05, True,
                           up=3 * up if use_up else None)
    assert np.degrees(np.arccos(min(done.ground.normal @ up, 1))) < 0.1
    np.testing.assert_allclose(done.camera_height_m, HEIGHT, atol=2e-3)
    np.testing.assert_allclose(done.T_grid_map, pose_at(0, 0, 0, 10), atol=2e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.pgm', 'a.yaml']


def test_occupancy_of_looking_down_and_turning(tmp_path):
    write_occupancy(tmp_path / 'out', views_at(tour(pitch_deg=10)), 0.05, True)
    _check_room(*_read_map(tmp_path / 'out')[:2])


def test_a_large_table_is_not_the_ground(tmp_path):
    table = np.array([[0.6, -1.4, 0], [3.9, 1.4, 0.75]])
    poses = [pose_at(x, 0.5) for x in (-1.8, -1.5, -1.2)]
    done = write_occupancy(tmp_path / 'out', views_at(poses, boxes=(table,)), 0.05, True)
    np.testing.assert_allclose(done.camera_height_m, HEIGHT, atol=5e-3)


def test_occupancy_with_noise_and_drift(tmp_path):
    rng = np.random.default_rng(0)
    poses = [pose_at(0.04 * i - 1.5, 1.2, 15 * i) for i in range(48)]

    def drifting():
        for i, view in enumerate(views_at(poses)):
            T = view.T_submap_camera.copy()
            T[1, 3] += 0.012 * i                        # down, 0.56 m in all
            noise = 1 + 0.015 * rng.normal(size=view.depth.shape)
            yield View(i, i, T, K, view.rgb, view.depth * noise)
    write_occupancy(tmp_path / 'out', drifting(), 0.05, True)
    cells, xy, _ = _read_map(tmp_path / 'out')
    xy = xy + poses[0][:2, 3]
    is_open = _inside(xy, ROOM, -0.4) & ~_inside(xy, BOX, 0.4)
    assert (cells[is_open] == 100).mean() < 0.005
    assert (cells[is_open] == 0).mean() > 0.65         # the rest is hidden, or below the image


def test_scale_of_the_grid(tmp_path):
    with pytest.raises(ConfigError, match='scale of this map is unknown: give metres_per_unit'):
        write_occupancy(tmp_path / 'no', views_at(tour()), 0.05, is_metric=False)
    assert list(tmp_path.iterdir()) == []
    write_occupancy(tmp_path / 'out', views_at(tour(), unit_m=20.0), 0.05, False,
                    metres_per_unit=20.0)
    _check_room(*_read_map(tmp_path / 'out')[:2])
    done = write_occupancy(tmp_path / 'twice', views_at(tour()), 0.1, False, metres_per_unit=2.0,
                           height_range_m=(0.2, 3.0), max_range_m=20.0)
    cells, xy, _ = _read_map(tmp_path / 'twice')
    _check_room(cells, xy / 2)
    np.testing.assert_allclose(done.origin_m, 2 * ROOM[0, :2], atol=0.4)
    np.testing.assert_allclose(done.camera_height_m, 2 * HEIGHT, atol=2e-3)


def test_what_is_below_the_image_stays_unknown(tmp_path):
    # 1.1 m high, 57 rows below the middle at 105 px: the floor begins 1.84 m ahead
    write_occupancy(tmp_path / 'out', views_at([pose_at(-1, 0)], boxes=()), 0.05, True)
    cells, xy, _ = _read_map(tmp_path / 'out')
    ahead = (np.abs(xy[:, 1]) < 0.06) & (xy[:, 0] > 0.25)
    assert (cells[ahead & (xy[:, 0] < 1.6)] == -1).all()
    assert (cells[ahead & (xy[:, 0] > 1.95) & (xy[:, 0] < 4.9)] == 0).all()
    assert (cells[ahead & (xy[:, 0] > 4.97) & (xy[:, 0] < 5.03)] == 100).all()
    assert (cells[(xy**2).sum(axis=1) < 0.15**2] == 0).all()    # the camera is there

    path = Trajectory([0, 1], [np.eye(4), se3.from_parts(np.eye(3), np.array([0, 0, 1.0]))])
    write_occupancy(tmp_path / 'b', views_at([pose_at(-1, 0)], boxes=()), 0.05, True,
                    trajectory=path)
    cells, xy, _ = _read_map(tmp_path / 'b')
    assert (cells[((xy - (1, 0))**2).sum(axis=1) < 0.15**2] == 0).all()


def test_max_range_and_heights(tmp_path):
    write_occupancy(tmp_path / 'out', views_at(tour()[:9], boxes=()), 0.05, True,
                    max_range_m=2.2)
    cells, xy, _ = _read_map(tmp_path / 'out')
    assert np.hypot(*xy[cells == 100].T).max() < 2.3
    assert np.hypot(*xy[cells == 0].T).max() < 2.3
    write_occupancy(tmp_path / 'high', views_at(tour()), 0.05, True, height_range_m=(0.8, 1.5))
    cells, xy, _ = _read_map(tmp_path / 'high')
    assert not (cells[_inside(xy, BOX, 0.0)] == 100).any()      # it is lower


def test_occupancy_says_what_is_odd(tmp_path):
    def without_floor():
        for view in views_at(tour()[:9], boxes=()):
            depth = np.array(view.depth)
            depth[int(K[1, 2]) + 5:] = 0
            yield View(0, 0, view.T_submap_camera, K, view.rgb, depth)
    done = write_occupancy(tmp_path / 'a', without_floor(), 0.05, True)
    assert any('no floor was found' in text and 'give up' in text for text in done.warnings)
    done = write_occupancy(tmp_path / 'b', views_at(tour()[:9]), 0.5, False, metres_per_unit=10.0,
                           max_range_m=100)
    assert 'is metres_per_unit right?' in done.warnings[0]


@pytest.mark.parametrize('options, words', [
    ({'metres_per_unit': -1.0}, 'metres_per_unit must be above 0'),
    ({'height_range_m': (1.0, 0.5)}, 'height_range_m must be above 0 and ascend'),
    ({'up': np.zeros(3)}, 'up: expected a direction')])
def test_occupancy_refuses(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        write_occupancy(tmp_path / 'out', views_at(POSES), 0.05, True, **options)
    assert list(tmp_path.iterdir()) == []


def test_occupancy_too_large(tmp_path):
    far = next(views_at([pose_at(0, 0)]))
    T = se3.from_parts(np.eye(3), np.array([0, 0, 1e5]))
    far = [far, View(1, 1, T, K, far.rgb, far.depth)]
    with pytest.raises(InputError, match='cells are too many; use a coarser resolution'):
        write_occupancy(tmp_path / 'out', far, 0.01, True)
    assert list(tmp_path.iterdir()) == []
