"""Alignment: links between windows of random gauge are recovered, weak ones are refused."""

import dataclasses

from fakes import circle_pose, FakeBackbone, predict
from hypothesis import given, strategies as st
import numpy as np
import pytest

from longrecon_ros.alignment import available, make_aligner
from longrecon_ros.alignment.base import Alignment, apply, common_frames
from longrecon_ros.alignment.log_scale import centre_scale, LogRatios, robust_mean, weighted_median
from longrecon_ros.errors import AlignmentError, ConfigError
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.types import FrameState

SOLVERS = ['sim3', 'sim3_points', 'depth_ratio']


def link(backbone, first=10):
    """Return a window in odom (= world), the next one, and T_world_window of the latter."""
    previous = apply(Alignment(backbone.gauge(0).inverse()), predict(backbone, 0, 16, 0))
    return previous, predict(backbone, first, 16, 1), backbone.gauge(1).inverse()


def error(found, truth):
    """Return log scale, rotation (rad) and position error near the scene."""
    delta = truth.inverse() @ found
    return (abs(np.log(delta.scale)), se3.rotation_angle(delta.R),
            np.linalg.norm(found.t - truth.t))


@pytest.mark.parametrize('name', SOLVERS)
@pytest.mark.parametrize('n_landmarks', [0, 30, 400])
@pytest.mark.parametrize('seed', range(5))
def test_exact_windows_link_exactly(name, n_landmarks, seed):
    previous, current, truth = link(FakeBackbone(seed=seed, n_landmarks=n_landmarks))
    alignment = make_aligner(name).align(previous, current)
    assert max(error(alignment.T_odom_window, truth)) < 1e-4
    assert alignment.n_inliers > 50 and alignment.rmse < 1e-4


@pytest.mark.parametrize('name', ['se3', 'se3_points'])
@pytest.mark.parametrize('seed', range(3))
def test_se3_keeps_a_metric_scale(name, seed):
    previous, current, truth = link(FakeBackbone(seed=seed, scale='metric'))
    found = make_aligner(name).align(previous, current).T_odom_window
    assert found.scale == 1.0 and max(error(found, truth)) < 1e-4


def test_the_first_shared_camera_can_be_made_to_coincide():
    previous, current, truth = link(FakeBackbone(seed=3, scale='metric'))
    found = make_aligner('se3_first').align(previous, current).T_odom_window
    assert found.scale == 1.0 and max(error(found, truth)) < 1e-6
    turned = np.array(current.T_window_camera)
    turned[1:] = turned[1:] @ se3.exp(np.array([0.1, 0, 0, 0, 0.2, 0]))
    worse = dataclasses.replace(current, T_window_camera=turned)
    again = make_aligner('se3_first').align(previous, worse).T_odom_window
    np.testing.assert_allclose(again.t, found.t, atol=1e-12)    # only the first one counts


@pytest.mark.parametrize('how', ['median', 'trimmed_mean'])
@pytest.mark.parametrize('frames', ['one', 'all'])
def test_the_ratio_of_depths_gives_the_scale_of_one_camera(how, frames):
    previous, current, truth = link(FakeBackbone(seed=4))
    aligner = make_aligner('se3_first', scale_by=how, scale_frames=frames)
    assert max(error(aligner.align(previous, current).T_odom_window, truth)) < 1e-4
    half = make_aligner('se3_first', scale_by='half_median').align(previous, current)
    assert half.T_odom_window.scale == pytest.approx((1 + truth.scale) / 2, rel=1e-4)
    nothing = dataclasses.replace(current, local_points=np.full_like(current.local_points, np.nan))
    with pytest.raises(AlignmentError, match='no depth in common'):
        aligner.align(previous, nothing)


@pytest.mark.parametrize('name, tolerance', [('sim3', 0.01), ('sim3_points', 0.03),
                                             ('depth_ratio', 0.01)])
def test_depth_noise(name, tolerance):
    errors = []
    for seed in range(8):
        previous, current, truth = link(FakeBackbone(seed=seed, noise=0.05))
        alignment = make_aligner(name).align(previous, current)
        errors.append(error(alignment.T_odom_window, truth))
    assert np.mean(errors, axis=0)[0] < tolerance
    assert np.mean(errors, axis=0)[1] < tolerance


def test_depth_ratio_reports_its_spread():
    previous, current, _ = link(FakeBackbone(noise=0.05))
    alignment = make_aligner('depth_ratio').align(previous, current)
    assert alignment.log_scale_spread == pytest.approx(0.05 * np.sqrt(2), rel=0.4)
    assert alignment.n_inliers > 50


@pytest.mark.parametrize('n_landmarks', [0, 400])
def test_a_third_of_wrong_depths_does_not_matter(n_landmarks):
    rng = np.random.default_rng(4)
    previous, current, truth = link(FakeBackbone(noise=0.01, n_landmarks=n_landmarks))
    points = np.array(current.local_points)
    points[rng.random(points.shape[:3]) < 0.33] *= 1.7
    changes = {'local_points': points}
    if n_landmarks:
        moved = np.array(current.landmarks.points)
        centre = current.T_window_camera[:, :3, 3].mean(axis=0)
        bad = rng.random(len(moved)) < 0.33
        moved[bad] = centre + 1.7 * (moved[bad] - centre)
        changes['landmarks'] = dataclasses.replace(current.landmarks, points=moved)
    found = make_aligner('depth_ratio').align(previous, dataclasses.replace(current, **changes))
    assert error(found.T_odom_window, truth)[0] < 0.01


def test_frames_that_were_not_tracked_are_left_out():
    previous, current, truth = link(FakeBackbone())
    poses = np.array(current.T_window_camera)
    poses[1:4] = se3.exp([50.0, 0, 0, 0, 1.0, 0])
    states = np.zeros(16, np.uint8)
    states[1:4] = FrameState.LOST
    broken = dataclasses.replace(current, T_window_camera=poses, states=states)
    found = make_aligner('depth_ratio').align(previous, broken)
    assert max(error(found.T_odom_window, truth)) < 1e-4


def test_standing_overlap_takes_the_scale_from_depth():
    def stands(index):
        return circle_pose(max(index, 16))

    previous, current, truth = link(FakeBackbone(pose=stands, noise=0.02))
    found = make_aligner('depth_ratio').align(previous, current)
    assert error(found.T_odom_window, truth)[0] < 0.02


def test_too_little_is_refused_with_numbers():
    previous, current, _ = link(FakeBackbone(n_landmarks=0))
    blind = dataclasses.replace(current, confidence=np.zeros_like(current.confidence))
    with pytest.raises(AlignmentError, match='0 landmarks and 0 defined pixels, 20 are needed'):
        make_aligner('depth_ratio').align(previous, blind)
    with pytest.raises(AlignmentError, match='share 0 defined points, 100 are needed'):
        make_aligner('sim3_points').align(previous, blind)
    with pytest.raises(AlignmentError, match='share 0 confident pixels, 50 are needed'):
        make_aligner('sim3').align(previous, blind)


@pytest.mark.parametrize('name', SOLVERS)
def test_no_shared_frame_is_refused(name):
    previous, current, _ = link(FakeBackbone(), first=100)
    with pytest.raises(AlignmentError, match='share no frame'):
        make_aligner(name).align(previous, current)


def test_contradictions_are_refused():
    previous, current, _ = link(FakeBackbone(n_landmarks=0))
    rng = np.random.default_rng(1)
    wild = current.local_points * np.exp(rng.normal(size=(16, 12, 16, 1)))
    with pytest.raises(AlignmentError, match='depths of the windows disagree'):
        make_aligner('depth_ratio').align(previous,
                                          dataclasses.replace(current, local_points=wild))
    with pytest.raises(AlignmentError, match='points of the windows disagree: .*% of their'):
        make_aligner('sim3_points').align(previous,
                                          dataclasses.replace(current, local_points=wild))
    with pytest.raises(AlignmentError, match='depths of the windows disagree: .*% off'):
        make_aligner('sim3').align(previous, dataclasses.replace(current, local_points=wild))
    turned = np.array(current.T_window_camera)
    turned[:, :3, :3] = turned[:, :3, :3] @ se3.so3_exp(rng.normal(size=(16, 3)))
    with pytest.raises(AlignmentError, match='rotations of the 6 shared cameras differ by'):
        make_aligner('depth_ratio').align(previous,
                                          dataclasses.replace(current, T_window_camera=turned))
    moved = np.array(current.T_window_camera)
    moved[:, :3, 3] += rng.normal(size=(16, 3)) * 10
    with pytest.raises(AlignmentError, match='shared cameras disagree by'):
        make_aligner('depth_ratio').align(previous,
                                          dataclasses.replace(current, T_window_camera=moved))
    with pytest.raises(AlignmentError, match='shared cameras disagree by'):
        make_aligner('sim3').align(previous, dataclasses.replace(current, T_window_camera=moved))


def test_identity_takes_windows_as_they_are():
    previous, current, _ = link(FakeBackbone())
    alignment = make_aligner('identity').align(previous, current)
    np.testing.assert_array_equal(alignment.T_odom_window.as_matrix(), np.eye(4))
    assert alignment.n_inliers == 6


def test_common_frames_go_by_id_not_by_place():
    previous, current, _ = link(FakeBackbone())
    order = np.random.default_rng(0).permutation(16)
    shuffled = dataclasses.replace(current, frame_ids=current.frame_ids[order])
    i, j = common_frames(previous, shuffled)
    np.testing.assert_array_equal(previous.frame_ids[i], shuffled.frame_ids[j])
    assert len(i) == 6


def test_apply_moves_points_and_poses_together():
    backbone = FakeBackbone(seed=3)
    prediction = predict(backbone, 0, 5, 0)
    T = Sim3(1.7, se3.so3_exp([0.3, 0.2, 0.1]), np.array([1.0, 2.0, 3.0]))
    moved = apply(Alignment(T), prediction)
    before = T.apply(se3.apply(prediction.T_window_camera,
                               prediction.local_points.reshape(5, -1, 3)))
    after = se3.apply(moved.T_window_camera, moved.local_points.reshape(5, -1, 3))
    np.testing.assert_allclose(after, before, atol=1e-4)
    np.testing.assert_allclose(moved.landmarks.points, T.apply(prediction.landmarks.points))
    layered = apply(Alignment(T, depth_scale=np.full((5, 12, 16), 2.0)), prediction)
    np.testing.assert_allclose(layered.depth, 2 * moved.depth, rtol=1e-6)
    with pytest.raises(ValueError, match='depth_scale'):
        apply(Alignment(T, depth_scale=np.ones((5, 12, 15))), prediction)
    with pytest.raises(ValueError, match='depth_scale'):
        Alignment(T, depth_scale=np.ones(3))
    with pytest.raises(ValueError, match='T_odom_window'):
        Alignment(np.eye(4))


@given(st.integers(0, 10**6), st.floats(-3, 3))
def test_robust_mean_of_log_ratios(seed, truth):
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.01, 0.1, size=300)
    values = truth + sigma * rng.normal(size=300)
    values[:90] += rng.uniform(0.5, 2.0, size=90)
    found = robust_mean(LogRatios(values, sigma**2, np.ones(300)))
    assert abs(found.value - truth) < 0.02
    assert 200 <= found.n_inliers <= 215 and found.n_samples == 300


def test_weighted_median():
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.ones(3)) == 2.0
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([5.0, 1.0, 1.0])) == 3.0


def test_centre_scale():
    rng = np.random.default_rng(2)
    current = rng.normal(size=(6, 3))
    found = centre_scale(2.0 * current + 7.0 + 0.01 * rng.normal(size=(6, 3)), current)
    assert abs(found.value - np.log(2)) < 4 * np.sqrt(found.variance) < 0.02
    assert centre_scale(np.zeros((6, 3)), current).variance == np.inf
    assert centre_scale(current[:1], current[:1]).variance == np.inf


def test_unknown_names_are_refused():
    assert set(available()) == {'identity', 'camera', 'se3_first', 'sim3', 'se3', 'sim3_points',
                                'se3_points', 'depth_ratio'}
    with pytest.raises(ConfigError, match="align: there is no 'sim4'; choose auto or one of"):
        make_aligner('sim4')
