"""Motions and paths: speed, closure, pauses, cuts."""

import numpy as np
import pytest

from longrecon_ros.geometry import se3
from longrecon_ros.synthetic.motion import (
    Cut,
    Lap,
    level_pose,
    Paused,
    Still,
    Straight,
    Sway,
    Swaying,
    Turning,
)
from longrecon_ros.synthetic.path import ClosedPath

SQUARE = ((-4, -3), (4, -3), (4, 3), (-4, 3))
START = level_pose(1.0, 2.0, 1.5, 0.4)


def test_level_pose_has_opencv_axes_in_a_z_up_world():
    T = level_pose(1, 2, 3, np.pi / 2)
    np.testing.assert_allclose(T[:3, 2], [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose(T[:3, 1], [0, 0, -1], atol=1e-15)
    np.testing.assert_allclose(T[:3, 0], [1, 0, 0], atol=1e-15)
    np.testing.assert_allclose(T[:3, 3], [1, 2, 3])


@pytest.mark.parametrize('path', [ClosedPath.rounded(SQUARE, 1.0),
                                  ClosedPath.figure_eight(6.0, 2.5)])
def test_paths_are_closed_smooth_and_measured_by_arc_length(path):
    s = np.linspace(0, path.length_m, 2001)
    places = np.array([path.at(v) for v in s])
    steps = np.linalg.norm(np.diff(places[:, :2], axis=0), axis=1)
    np.testing.assert_allclose(steps, path.length_m / 2000, rtol=2e-3)
    turns = np.abs(np.diff(np.unwrap(places[:, 2])))
    assert turns.max() < 0.05
    np.testing.assert_allclose(path.at(path.length_m), path.at(0.0), atol=1e-9)
    np.testing.assert_allclose(path.at(3.7 + 2 * path.length_m), path.at(3.7), atol=1e-9)


def test_rounded_path_is_a_little_shorter_than_its_polygon():
    assert 24 < ClosedPath.rounded(SQUARE, 1.0).length_m < 28


def test_paths_need_points():
    with pytest.raises(ValueError, match='points'):
        ClosedPath(np.zeros((2, 2)))


def test_lap_drives_where_it_looks_and_closes_in_spite_of_sway():
    steady = Lap(ClosedPath.rounded(SQUARE, 1.0), 0.8, 1.2)
    lap = Swaying(steady, Sway(0.02, 0.01, 1.7, seed=3), steady.lap_s)
    np.testing.assert_allclose(lap.pose(steady.lap_s), lap.pose(0.0), atol=1e-9)
    for t in np.arange(0, steady.lap_s, 0.7):
        motion = se3.relative(steady.pose(t), steady.pose(t + 0.01))[:3, 3]
        np.testing.assert_allclose(motion, [0, 0, 0.008], atol=1e-4)
        shake = se3.relative(steady.pose(t), lap.pose(t))
        assert 0 < np.linalg.norm(shake[:3, 3]) < 0.1
        assert se3.rotation_angle(shake[:3, :3]) < 0.05


def test_still_and_straight_and_turning():
    np.testing.assert_array_equal(Still(START).pose(7.0), START)
    moved = se3.relative(START, Straight(START, (0, 0, 2.0)).pose(1.5))
    np.testing.assert_allclose(moved, se3.from_parts(np.eye(3), np.array([0, 0, 3.0])), atol=1e-12)
    turned = se3.relative(START, Turning(START, 0.5).pose(1.0))
    np.testing.assert_allclose(turned[:3, 3], 0, atol=1e-12)
    np.testing.assert_allclose(turned[:3, 2], [np.sin(0.5), 0, np.cos(0.5)], atol=1e-12)


def test_paused_stops_and_goes_on_from_there():
    motion = Paused(Straight(START, (0, 0, 1.0)), start_s=2.0, pause_s=3.0)

    def ahead(t):
        return se3.relative(START, motion.pose(t))[2, 3]
    np.testing.assert_allclose([ahead(t) for t in (1, 2, 3.5, 5, 6)], [1, 2, 2, 2, 3])


def test_cut_jumps():
    elsewhere = level_pose(-3, 0, 1, 2.0)
    motion = Cut(Still(START), Still(elsewhere), at_s=1.0)
    np.testing.assert_array_equal(motion.pose(0.999), START)
    np.testing.assert_array_equal(motion.pose(1.0), elsewhere)
