"""Axes, velocities and variances of the base."""

import numpy as np
import pytest

from longrecon_ros.geometry import se3
from longrecon_ros.ros.base_motion import BaseMotion, T_BODY_OPTICAL, UNKNOWN_VARIANCE
from longrecon_ros.types import FrameState, PointCloud, Prediction, Update

E = se3.from_parts(T_BODY_OPTICAL[:3, :3] @ se3.so3_exp([0.2, -0.1, 0.05]), [1.2, 0.1, 1.5])


def update(T, states=None, first=0):
    """Return an update with camera poses T (K, 4, 4), 10 a second."""
    n = len(T)
    ids = np.arange(first, first + n)
    empty = np.zeros((n, 1, 1, 3))
    prediction = Prediction(ids, T, empty, empty[..., 0], empty)
    return Update(ids, 10**18 + ids * 10**8, T, np.zeros(n) if states is None else states,
                  np.eye(4), PointCloud.empty(), prediction)


def camera_path(velocity, turn, n=20):
    """Return poses of a camera with constant velocity and turn rate (optical axes, a frame)."""
    return se3.exp(np.arange(n)[:, None] * np.concatenate([velocity, turn])[None])


@pytest.mark.parametrize('optical, body', [
    ([0, 0, 1], [1, 0, 0]), ([1, 0, 0], [0, -1, 0]), ([0, 1, 0], [0, 0, -1])])
def test_optical_axes_become_body_axes(optical, body):
    assert np.allclose(se3.apply(T_BODY_OPTICAL, np.array(optical, float)), body)
    motion = BaseMotion(T_BODY_OPTICAL, 0.02)
    states = motion.take(update(camera_path(0.1 * np.array(optical), [0, 0, 0])))
    assert np.allclose(states[-1].T_odom_base[:3, 3], 1.9 * np.array(body))
    assert np.allclose(states[-1].twist, [*np.array(body, float), 0, 0, 0])


def test_turning_left_is_positive_about_z():
    motion = BaseMotion(T_BODY_OPTICAL, 0.02)
    states = motion.take(update(camera_path([0, 0, 0], [0, -0.02, 0])))
    assert np.allclose(states[-1].twist, [0, 0, 0, 0, 0, 0.2])
    assert np.allclose(se3.so3_log(states[-1].T_odom_base[:3, :3]), [0, 0, 0.38])


def test_with_a_mounting_the_camera_stays_where_it_is():
    T = camera_path([0.02, -0.01, 0.1], [0.01, 0.02, -0.005])
    states = BaseMotion(E, 0.02).take(update(T))
    T_odom_base = np.array([state.T_odom_base for state in states])
    assert np.allclose(T_odom_base[0], np.eye(4))
    assert np.allclose(T_odom_base @ E, E @ T)


def test_points_go_with_the_poses():
    motion = BaseMotion(E, 0.02)
    point = np.array([[0.3, -0.2, 4.0]], np.float32)
    assert np.allclose(motion.to_base_axes(point)[0], se3.apply(E, point[0].astype(float)),
                       atol=1e-6)


def test_velocity_goes_on_across_updates():
    T = camera_path([0, 0, 0.1], [0, 0.03, 0])
    whole = BaseMotion(T_BODY_OPTICAL, 0.02).take(update(T))
    motion = BaseMotion(T_BODY_OPTICAL, 0.02)
    parts = motion.take(update(T[:8])) + motion.take(update(T[8:], first=8))
    for a, b in zip(whole, parts):
        assert np.allclose(a.twist, b.twist) and np.allclose(a.pose_variance, b.pose_variance)
    assert (whole[0].twist_variance == UNKNOWN_VARIANCE).all() and not whole[0].twist.any()


def test_variance_grows_with_the_way_and_for_ever_with_what_was_lost():
    T = camera_path([0, 0, 0.1], [0, 0, 0], 60)
    tracked = BaseMotion(T_BODY_OPTICAL, 0.02).take(update(T))
    sigma = np.array([np.sqrt(state.pose_variance[0]) for state in tracked])
    assert np.all(np.diff(sigma) > 0)
    assert sigma[-1] == pytest.approx(0.01 + 0.02 * 5.9)
    states = np.zeros(60)
    states[30:33] = FrameState.LOST
    broken = BaseMotion(T_BODY_OPTICAL, 0.02).take(update(T, states))
    assert (broken[31].pose_variance == UNKNOWN_VARIANCE).all()
    assert (broken[31].twist_variance == UNKNOWN_VARIANCE).all()
    assert broken[31].state is FrameState.LOST
    lost = np.sqrt(broken[-1].pose_variance) - np.sqrt(tracked[-1].pose_variance)
    assert lost[0] == pytest.approx(3 * 0.1, rel=0.05) and lost[3] == pytest.approx(0.3)
