"""Axes, velocities, corrections and scale of what the robot is told."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')

from longrecon_ros.geometry import se3
from longrecon_ros.ros.odometry import ChainPose, Odometer, T_BODY_OPTICAL, UNKNOWN_VARIANCE
from longrecon_ros.scale import ScaleEstimate
from longrecon_ros.types import FrameState

E = se3.from_parts(T_BODY_OPTICAL[:3, :3] @ se3.so3_exp([0.2, -0.1, 0.05]), [1.2, 0.1, 1.5])
UNIT = ScaleEstimate()
PERIOD_NS = 10**8


def camera_path(velocity, turn, n=20):
    """Return poses of a camera with constant velocity and turn rate (optical axes, a frame)."""
    return se3.exp(np.arange(n)[:, None] * np.concatenate([velocity, turn])[None])


def chain_pose(n, T, state=FrameState.TRACKED, sigma=0.01):
    """Return the pose of image n, 10 a second."""
    covariance = np.eye(6) * sigma**2
    return ChainPose(10**18 + n * PERIOD_NS, np.array(T), covariance, covariance, state)


def run(T, odometer=None, scale=UNIT, first=0):
    """Return the states at poses T (K, 4, 4)."""
    odometer = odometer or Odometer(T_BODY_OPTICAL, 1.0)
    return [odometer.add(chain_pose(first + n, pose), scale) for n, pose in enumerate(T)]


@pytest.mark.parametrize('optical, body', [
    ([0, 0, 1], [1, 0, 0]), ([1, 0, 0], [0, -1, 0]), ([0, 1, 0], [0, 0, -1])])
def test_optical_axes_become_body_axes(optical, body):
    states = run(camera_path(0.1 * np.array(optical), [0, 0, 0]))
    assert np.allclose(states[-1].T_odom_base[:3, 3], 1.9 * np.array(body))
    assert np.allclose(states[-1].twist, [*np.array(body, float), 0, 0, 0])


def test_turning_left_is_positive_about_z():
    states = run(camera_path([0, 0, 0], [0, -0.02, 0]))
    assert np.allclose(states[-1].twist, [0, 0, 0, 0, 0, 0.2])
    assert np.allclose(se3.so3_log(states[-1].T_odom_base[:3, :3]), [0, 0, 0.38])


def test_with_a_mounting_the_camera_stays_where_it_is():
    T = camera_path([0.02, -0.01, 0.1], [0.01, 0.02, -0.005])
    T_odom_base = np.array([state.T_odom_base for state in run(T, Odometer(E, 1.0))])
    assert np.allclose(T_odom_base[0], np.eye(4))
    assert np.allclose(T_odom_base @ E, E @ T)


def test_the_first_velocity_is_unknown():
    first = run(camera_path([0, 0, 0.1], [0, 0, 0]))[0]
    assert not first.twist.any()
    assert (np.diag(first.twist_covariance) == UNKNOWN_VARIANCE).all()


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.floats(0.1, 3.0))
def test_a_correction_never_makes_odom_jump_and_is_taken_in(seed, slew_s):
    rng = np.random.default_rng(seed)
    T = camera_path([0, 0, 0.05], [0, 0.01, 0], 400)
    correction = se3.exp(rng.normal(0, [0.3] * 3 + [0.05] * 3))
    odometer = Odometer(E, slew_s)
    before = run(T[:10], odometer)
    odometer.corrected(T[9], correction @ T[9])
    after = run(correction @ T[10:], odometer, first=10)
    poses = np.array([s.T_odom_base for s in before + after])
    usual = np.linalg.norm(np.diff(poses[:10, :3, 3], axis=0), axis=1).max()
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    # half as fast again, and what a turn of 0.002 rad moves the base, which is not the camera
    assert steps.max() <= 1.5 * usual + 0.01
    target = E @ correction @ T[-1] @ se3.inverse(E)
    assert np.abs(poses[-1] - target).max() < 1e-2
    # the velocity is what was measured, not what is taken in
    assert np.allclose(after[5].twist, before[5].twist, atol=1e-6)


def test_map_odom_takes_up_what_odom_has_not_yet():
    T = camera_path([0, 0, 0.1], [0, 0, 0])
    odometer = Odometer(T_BODY_OPTICAL, 1.0)
    run(T[:10], odometer)
    assert np.allclose(odometer.map_odom(np.eye(4), UNIT), np.eye(4))
    shifted = se3.from_parts(np.eye(3), [0.5, 0, 0]) @ T[9]
    odometer.corrected(T[9], shifted)
    T_map_odom = odometer.map_odom(np.eye(4), UNIT)
    assert np.allclose(T_map_odom[:3, 3], [0, -0.5, 0]), 'right is -y'
    state = odometer.add(chain_pose(10, shifted), UNIT)
    T_map_base = odometer.map_odom(np.eye(4), UNIT) @ state.T_odom_base
    assert np.allclose(T_map_base, odometer.map_base(np.eye(4), shifted, UNIT))


def test_lost_images_keep_the_place_and_say_so_and_being_found_is_no_jump():
    T = camera_path([0, 0, 0.1], [0, 0, 0], 40)
    odometer = Odometer(T_BODY_OPTICAL, 1.0)
    before = run(T[:10], odometer)
    lost = [odometer.add(chain_pose(n, T[9], FrameState.LOST), UNIT) for n in range(10, 15)]
    for state in lost:
        assert np.allclose(state.T_odom_base, before[-1].T_odom_base)
        assert (np.diag(state.pose_covariance) == UNKNOWN_VARIANCE).all()
        assert (np.diag(state.twist_covariance) == UNKNOWN_VARIANCE).all()
    found = [odometer.add(chain_pose(n, T[n]), UNIT) for n in range(15, 40)]
    steps = np.diff([s.T_odom_base[0, 3] for s in [before[-1], *lost, *found]])
    assert steps.max() < 0.151 and found[-1].T_odom_base[0, 3] == pytest.approx(3.9, abs=0.1)
    assert (np.diag(found[0].twist_covariance) == UNKNOWN_VARIANCE).all()
    assert np.diag(found[1].twist_covariance).max() < UNKNOWN_VARIANCE
    assert found[0].pose_covariance[0, 0] > found[-1].pose_covariance[0, 0] > 0


def test_a_scale_that_becomes_known_stretches_what_comes_and_not_what_was():
    T = camera_path([0, 0, 0.1], [0, 0, 0], 30)
    odometer = Odometer(T_BODY_OPTICAL, 1.0)
    before = run(T[:10], odometer)
    metric = ScaleEstimate(3.0, 0.02, 'metric', 'wheel', 9)
    after = run(T[10:], odometer, metric, first=10)
    x = np.array([s.T_odom_base[0, 3] for s in before + after])
    assert np.allclose(np.diff(x[:10]), 0.1) and np.allclose(np.diff(x[9:]), 0.3)
    assert after[-1].twist[0] == pytest.approx(3.0)
    # the map has its newest scale everywhere
    T_map_odom = odometer.map_odom(np.eye(4), metric)
    assert (T_map_odom @ after[-1].T_odom_base)[0, 3] == pytest.approx(3 * 2.9)


def test_an_unsure_scale_is_in_the_covariance():
    T = camera_path([0, 0, 0.1], [0, 0, 0], 30)
    sure, unsure = (run(T, scale=ScaleEstimate(2.0, sigma, 'estimated', 'wheel', 9))[-1]
                    for sigma in (0.01, 0.2))
    extra = np.sqrt(unsure.pose_covariance[0, 0] - sure.pose_covariance[0, 0])
    assert extra == pytest.approx(0.2 * 5.8, rel=0.01)
    assert np.sqrt(unsure.twist_covariance[0, 0]) == pytest.approx(0.2 * 2.0, rel=0.3)
    assert unsure.pose_covariance[1, 1] == pytest.approx(sure.pose_covariance[1, 1])


def test_a_new_chain_goes_on_where_odom_is():
    T = camera_path([0, 0, 0.1], [0, 0, 0], 20)
    odometer = Odometer(T_BODY_OPTICAL, 1.0)
    before = run(T[:10], odometer)
    odometer.begin_chain()
    after = run(T, odometer, first=10)
    assert np.allclose(after[0].T_odom_base, before[-1].T_odom_base)
    assert after[-1].T_odom_base[0, 3] - after[0].T_odom_base[0, 3] == pytest.approx(1.9)


@given(st.integers(0, 2**31))
def test_covariances_are_symmetric_and_positive(seed):
    rng = np.random.default_rng(seed)
    odometer = Odometer(E, 1.0)
    for n in range(8):
        A = rng.normal(size=(6, 6)) * 0.01
        pose = ChainPose(n * PERIOD_NS, se3.exp(rng.normal(0, 0.3, 6)), A @ A.T, A.T @ A,
                         FrameState.TRACKED)
        state = odometer.add(pose, ScaleEstimate(1.5, 0.1, 'estimated', 'depth', 3))
        for covariance in (state.pose_covariance, state.twist_covariance):
            assert np.allclose(covariance, covariance.T)
            assert np.linalg.eigvalsh(covariance).min() > -1e-9
