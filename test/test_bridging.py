"""Windows without a link: motion is kept, and statistics of links."""

import dataclasses

from fakes import circle_pose, FakeBackbone, predict
import numpy as np
import pytest

from longrecon_ros.alignment.base import Alignment, apply
from longrecon_ros.alignment.bridging import bridge, carry_on, extrapolate, is_lost, median_depth
from longrecon_ros.alignment.links import LinkStatistics
from longrecon_ros.geometry import se3


def two_windows(first=10, **faults):
    backbone = FakeBackbone(seed=5, **faults)
    previous = apply(Alignment(backbone.gauge(0).inverse()), predict(backbone, 0, 16, 0))
    return previous, predict(backbone, first, 16, 1), backbone.gauge(1).inverse()


def blind(prediction):
    return dataclasses.replace(prediction, confidence=np.zeros_like(prediction.confidence))


def test_shared_depths_bridge_exactly():
    previous, current, truth = two_windows()
    found = bridge(previous, current).T_odom_window
    np.testing.assert_allclose(found.as_matrix(), truth.as_matrix(), atol=1e-5)


def test_without_depth_the_speed_is_kept():
    previous, current, truth = two_windows()
    found = bridge(blind(previous), blind(current)).T_odom_window
    assert found.scale == pytest.approx(truth.scale, rel=0.05)
    np.testing.assert_allclose(found.R, truth.R, atol=1e-9)
    moved = found.apply_to_poses(current.T_window_camera)
    np.testing.assert_allclose(moved[5], circle_pose(15), atol=1e-9)


def test_the_noise_of_standing_is_no_speed():
    previous, current, truth = two_windows(first=16)
    poses = np.broadcast_to(previous.T_window_camera[-1], (16, 4, 4)).copy()
    poses[:, :3, 3] += np.random.default_rng(0).normal(scale=1e-4, size=(16, 3))
    standing = dataclasses.replace(previous, T_window_camera=poses)
    assert bridge(standing, current).T_odom_window.scale == pytest.approx(truth.scale, rel=0.2)


def test_without_shared_frames_the_last_motion_leads():
    previous, current, truth = two_windows(first=16)
    moved = apply(bridge(previous, current), current)
    assert np.linalg.norm(moved.T_window_camera[0] - circle_pose(16)) < 0.02
    steps = np.linalg.norm(np.diff(moved.T_window_camera[:, :3, 3], axis=0), axis=1)
    np.testing.assert_allclose(steps, 0.1, rtol=0.1)
    rest = apply(bridge(previous, current, use_motion=False), current)
    np.testing.assert_allclose(rest.T_window_camera[0], circle_pose(15), atol=1e-9)


def test_nothing_known_gives_scale_one():
    previous, current, _ = two_windows(lost=range(100))
    assert bridge(previous, current).T_odom_window.scale == 1.0
    assert median_depth(current) == 0.0


def test_a_lost_window_carries_on():
    previous, current, _ = two_windows(lost=range(16, 40))
    assert is_lost(current, 6) and not is_lost(previous, 0)
    moved = carry_on(previous, current, use_motion=True)
    np.testing.assert_array_equal(moved.T_window_camera[:6], previous.T_window_camera[10:])
    assert np.linalg.norm(moved.T_window_camera[6] - circle_pose(16)) < 0.02
    assert np.linalg.norm(moved.T_window_camera[-1, :3, 3] - circle_pose(25)[:3, 3]) < 0.5
    rest = carry_on(previous, current, use_motion=False)
    np.testing.assert_array_equal(rest.T_window_camera[6:],
                                  np.broadcast_to(previous.T_window_camera[-1], (10, 4, 4)))


def test_extrapolation_of_one_frame_stays():
    single = predict(FakeBackbone(), 0, 1, 0)
    np.testing.assert_array_equal(extrapolate(single, 2),
                                  np.broadcast_to(single.T_window_camera[-1], (2, 4, 4)))
    pose = extrapolate(predict(FakeBackbone(), 0, 2, 0), 3)
    np.testing.assert_allclose(se3.relative(pose[0], pose[1]), se3.relative(pose[1], pose[2]),
                               atol=0.1)


def test_link_statistics():
    values = np.random.default_rng(0).normal(0.01, 0.03, size=200)
    links = LinkStatistics()
    assert links.std_log_scale == 0.0
    for value in values:
        links.add(value)
    links.add_unlinked()
    assert (links.n_linked, links.n_unlinked) == (200, 1)
    assert links.mean_log_scale == pytest.approx(values.mean())
    assert links.std_log_scale == pytest.approx(values.std(ddof=1))
