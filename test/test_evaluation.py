import numpy as np
import pytest

from longrecon_ros.errors import InputError
from longrecon_ros.evaluation import (
    align,
    associate,
    ate,
    evaluate,
    kitti_drift,
    path_length,
    rpe,
    Statistics,
)
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.io.trajectory_file import read_tum
from longrecon_ros.types import Trajectory

SIM3 = Sim3(3.7, se3.so3_exp(np.array([.3, -2, .5])), np.array([5., -3, 40]))


def _walk(n, seed=0, step=0.3):
    """Return a smooth random trajectory of about ``step`` metres a frame."""
    rng = np.random.default_rng(seed)
    turn = np.cumsum(rng.normal(size=(n, 3)) * 0.01, axis=0)
    motion = se3.from_parts(se3.so3_exp(turn * 0.1),
                            np.array([0, 0, step]) + rng.normal(size=(n, 3)) * step * 0.1)
    T = [np.eye(4)]
    for k in range(n - 1):
        T.append(T[-1] @ motion[k])
    return Trajectory(10**18 + np.arange(n) * 10**8, np.array(T))


def _disturbed(trajectory, seed=1, noise=0.05, gauge=SIM3.inverse()):
    rng = np.random.default_rng(seed)
    noisy = trajectory.T_map_camera @ se3.exp(rng.normal(size=(len(trajectory), 6)) * noise)
    return Trajectory(trajectory.stamps_ns, gauge.apply_to_poses(noisy))


# --- association -------------------------------------------------------------------------------

def test_nearest_in_time_and_each_truth_once():
    gt = Trajectory(np.arange(10) * 10**8, np.tile(np.eye(4), (10, 1, 1)))
    stamps = np.array([0, 98, 104, 219, 221, 300, 2000]) * 10**6
    est = Trajectory(stamps, np.tile(np.eye(4), (7, 1, 1)))
    pairs = associate(est, gt, max_dt_s=0.02)
    assert (pairs.stamps_ns // 10**6).tolist() == [0, 98, 219, 300]


def test_trajectories_of_other_times_are_told_apart():
    gt, est = _walk(10), _walk(10)
    est = Trajectory(est.stamps_ns - 10**18, est.T_map_camera)
    with pytest.raises(InputError, match=r'0 of 10 .* covers 0.000 to 0.900 s, the truth 1000000'):
        associate(est, gt)


def test_single_true_pose():
    gt, est = _walk(1), _walk(10)
    with pytest.raises(InputError, match='only 1 of 10'):
        associate(est, gt)
    with pytest.raises(InputError, match='0 estimated'):
        associate(Trajectory(np.zeros(0, np.int64), np.zeros((0, 4, 4))), gt)


# --- known answers -----------------------------------------------------------------------------

def test_perfect_estimate_in_another_gauge_has_no_error():
    gt = _walk(200)
    evaluation = evaluate(_disturbed(gt, noise=0), gt)
    assert evaluation.scale == pytest.approx(3.7)
    assert evaluation.ate_sim3_m.max < 1e-9
    assert evaluation.rpe_frame.translation_m.max < 1e-9
    assert evaluation.rpe_metre.rotation_deg.max < 1e-5
    assert evaluation.drift.percent < 1e-8
    assert evaluation.ate_se3_m.rmse > 1
    np.testing.assert_allclose(evaluation.T_gt_camera, gt.T_map_camera, atol=1e-9)


def test_statistics_of_known_numbers():
    s = Statistics.of(np.array([3., 4, 5]))
    assert (s.rmse, s.mean, s.median) == (pytest.approx(np.sqrt(50 / 3)), 4, 4)
    assert (s.std, s.min, s.max) == (pytest.approx(np.sqrt(2 / 3)), 3, 5)


def test_scale_error_is_drift_of_the_same_percentage():
    T = np.tile(np.eye(4), (2000, 1, 1))
    T[:, 2, 3] = np.arange(2000) * 0.5
    drift = kitti_drift(Sim3(1.02, np.eye(3), np.zeros(3)).apply_to_poses(T), T)
    assert drift.is_standard
    assert drift.lengths_m == (100, 200, 300, 400, 500, 600, 700, 800)
    np.testing.assert_allclose(drift.percent_by_length, 2)
    assert drift.n_segments == sum((999.5 - length) // 5 + 1 for length in drift.lengths_m)
    assert drift.deg_per_m < 1e-9


def test_constant_turn_is_degrees_per_metre():
    n = 400
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, 2, 3] = np.arange(n)
    bent = T.copy()
    bent[:, :3, :3] = se3.so3_exp(np.radians(0.1) * np.arange(n)[:, None] * [0, 1, 0])
    drift = kitti_drift(bent, T)
    assert drift.deg_per_m == pytest.approx(0.1)
    assert drift.lengths_m == (100, 200, 300)


def test_short_paths_have_shortened_lengths():
    gt = _walk(100)
    drift = kitti_drift(gt.T_map_camera, gt.T_map_camera)
    length = path_length(gt.positions)
    assert not drift.is_standard
    np.testing.assert_allclose(drift.lengths_m, np.arange(1, 9) * length / 10)


def test_rpe_per_frame_is_the_step_error():
    gt = np.tile(np.eye(4), (11, 1, 1))
    gt[:, 0, 3] = np.arange(11)
    est = gt.copy()
    est[:, 0, 3] *= 1.5
    result = rpe(est, gt)
    assert (result.n_pairs, result.translation_m.rmse) == (10, pytest.approx(0.5))
    per_metre = rpe(est, gt, 3, 'm')
    assert (per_metre.n_pairs, per_metre.translation_m.max) == (3, pytest.approx(1.5))


def test_too_short_for_a_pair():
    with pytest.raises(InputError, match='too short for pairs 5 frames'):
        rpe(np.tile(np.eye(4), (3, 1, 1)), np.tile(np.eye(4), (3, 1, 1)), 5)


def test_standing_still_and_straight_lines_are_refused():
    still = Trajectory(np.arange(9) * 10**8, np.tile(np.eye(4), (9, 1, 1)))
    with pytest.raises(InputError, match='stands still or is a perfectly straight line'):
        evaluate(_walk(9), Trajectory(_walk(9).stamps_ns, still.T_map_camera))
    with pytest.raises(InputError, match='stands still'):
        kitti_drift(still.T_map_camera, still.T_map_camera)


# --- agreement with evo ------------------------------------------------------------------------

CLIPS = ['kitti_clip_a', 'kitti00_low', 'hololens_150', 'tum_fr1_xyz_95']


@pytest.fixture(params=['walk', 'tumble', *CLIPS])
def trajectories(request):
    if request.param in CLIPS:
        folder = request.getfixturevalue('shared_data') / request.param
        if not folder.is_dir():
            pytest.skip(f'no clip {folder}')
        gt = read_tum(folder / 'gt_tum.txt')
        return _disturbed(gt, noise=0.02), gt
    gt = _walk(150)
    if request.param == 'tumble':
        rng = np.random.default_rng(7)
        gt = Trajectory(gt.stamps_ns, se3.exp(rng.normal(size=(150, 6)) * 2))
    return _disturbed(gt), gt


def _as_evo(T):
    trajectory = pytest.importorskip('evo.core.trajectory', reason='evo is not installed')
    return trajectory.PosePath3D(poses_se3=list(T))


@pytest.mark.parametrize('with_scale', [True, False])
def test_ate_agrees_with_evo(trajectories, with_scale):
    metrics = pytest.importorskip('evo.core.metrics', reason='evo is not installed')
    pairs = associate(*trajectories)
    est, gt = _as_evo(pairs.T_est), _as_evo(pairs.T_gt)
    est.align(gt, correct_scale=with_scale)
    theirs = metrics.APE(metrics.PoseRelation.translation_part)
    theirs.process_data((gt, est))
    T = align(pairs, with_scale)
    errors = ate(T.apply_to_poses(pairs.T_est), pairs.T_gt)
    np.testing.assert_allclose(errors, theirs.error, atol=1e-6)
    ours = Statistics.of(errors)
    for name, value in theirs.get_all_statistics().items():
        if name != 'sse':
            assert getattr(ours, name) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize('delta, unit', [(1, 'frames'), (5, 'frames'), (1.0, 'm'), (2.5, 'm')])
def test_rpe_agrees_with_evo(trajectories, delta, unit):
    metrics = pytest.importorskip('evo.core.metrics', reason='evo is not installed')
    from evo.core.units import Unit
    pairs = associate(*trajectories)
    T_est = align(pairs, True).apply_to_poses(pairs.T_est)
    if unit == 'm' and path_length(pairs.T_gt[:, :3, 3]) < 2 * delta:
        pytest.skip('the clip is too short for such pairs')
    ours = rpe(T_est, pairs.T_gt, delta, unit)
    for relation, statistics in (
            (metrics.PoseRelation.translation_part, ours.translation_m),
            (metrics.PoseRelation.rotation_angle_deg, ours.rotation_deg)):
        theirs = metrics.RPE(relation, delta, Unit.frames if unit == 'frames' else Unit.meters,
                             all_pairs=unit == 'frames', pairs_from_reference=True)
        theirs.process_data((_as_evo(pairs.T_gt), _as_evo(T_est)))
        assert len(theirs.error) == ours.n_pairs
        for name in ('rmse', 'mean', 'median', 'std', 'min', 'max'):
            assert getattr(statistics, name) == pytest.approx(
                theirs.get_statistic(metrics.StatisticsType[name]), abs=1e-6)
