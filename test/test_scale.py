"""The filter of scale, its settings, its front, and metric motion without jumps."""

import math

import numpy as np
import pytest

from longrecon_ros.geometry import se3
from longrecon_ros.scale import (
    MetricMotion,
    Scale,
    ScaleConfig,
    ScaleEstimate,
    WindowEvidence,
)
from longrecon_ros.scale.filter import robust_mean, ScaleFilter
from longrecon_ros.scale.records import Measurement

TRUTH = 2.7
SECOND_NS = 1_000_000_000
DT_S = 0.5                              # between measurements


def series(n, sigma, rng, truth=TRUTH, correlation=0.0, outliers=0.0):
    """Return ln of n measured scales; errors of neighbours are alike, outliers are too high."""
    error = rng.standard_normal(n)
    for i in range(1, n):
        error[i] = correlation * error[i - 1] + math.sqrt(1 - correlation**2) * error[i]
    is_outlier = rng.random(n) < outliers
    return math.log(truth) + sigma * error + is_outlier * rng.uniform(0.1, 1.5, n)


def fed(mode, values, claimed=0.03, **options):
    """Return the filter after measurements, and the estimates on the way."""
    scale_filter = ScaleFilter(ScaleConfig('wheel', mode, **options))
    estimates = []
    for i, value in enumerate(values):
        scale_filter.add(Measurement(round(i * DT_S * SECOND_NS), float(value), claimed))
        estimates.append(scale_filter.estimate())
    return scale_filter, estimates


@pytest.mark.parametrize('mode', ['freeze', 'adapt'])
@pytest.mark.parametrize('sigma, claimed, correlation, outliers', [
    (0.03, 0.03, 0, 0), (0.05, 0.02, 0, 0), (0.03, 0.03, 0, 0.25), (0.04, 0.04, 0.8, 0)])
def test_truth_is_within_two_stated_sigmas(mode, sigma, claimed, correlation, outliers):
    is_within, errors = [], []
    for seed in range(60):
        values = series(25, sigma, np.random.default_rng(seed), TRUTH, correlation, outliers)
        last = fed(mode, values, claimed)[1][-1]
        errors.append(math.log(last.metres_per_unit / TRUTH))
        is_within.append(abs(errors[-1]) < 2 * last.sigma)
        assert last.sigma >= 0.01
    assert 0.85 <= np.mean(is_within) <= 1.0
    assert np.sqrt(np.mean(np.square(errors))) < 0.035


def test_states_in_their_order():
    _, estimates = fed('freeze', np.full(20, math.log(TRUTH)))
    assert [e.state for e in estimates] == ['arbitrary'] * 2 + ['estimated'] * 7 + ['metric'] * 11
    assert estimates[0] == ScaleEstimate(1.0, math.inf, 'arbitrary', 'wheel', 1)
    assert estimates[2].metres_per_unit == pytest.approx(TRUTH)
    assert [e.n_measurements for e in estimates] == list(range(1, 21))


def test_noise_too_large_is_not_metric():
    _, estimates = fed('freeze', series(12, 0.4, np.random.default_rng(0)), 0.4)
    assert estimates[-1].state == 'estimated' and estimates[-1].sigma > 0.05


def test_sigma_has_a_floor_whatever_the_number():
    _, estimates = fed('adapt', np.full(300, math.log(TRUTH)), memory=300, min_sigma=0.015)
    assert 0.015 <= estimates[-1].sigma < 0.0155


def test_frozen_value_stays_and_says_that_it_is_contradicted():
    values = np.r_[series(15, 0.02, np.random.default_rng(0)), np.full(100, math.log(1.5 * TRUTH))]
    scale_filter, estimates = fed('freeze', values)
    frozen = [e for e in estimates if e.state == 'metric']
    assert len({(e.metres_per_unit, e.sigma) for e in frozen}) == 1
    assert len(frozen) > 100 and abs(frozen[0].disagreement) < 0.05
    assert frozen[-1].disagreement == pytest.approx(math.log(1.5 * TRUTH
                                                             / frozen[-1].metres_per_unit))


def test_adapt_follows_a_sudden_change_no_faster_than_its_rate():
    rng = np.random.default_rng(1)
    values = np.r_[series(40, 0.02, rng), series(150, 0.02, rng, 1.3 * TRUTH)]
    _, estimates = fed('adapt', values, adapt_rate=0.02)
    logs = np.log([e.metres_per_unit for e in estimates])
    first = next(i for i, e in enumerate(estimates) if e.state == 'metric')
    assert np.abs(np.diff(logs[first:])).max() <= math.log(1.02) * DT_S * (1 + 1e-9)
    assert estimates[-1].metres_per_unit == pytest.approx(1.3 * TRUTH, rel=0.01)
    assert estimates[-1].state == 'metric'
    # on the way it knows that it is wrong
    behind = [e for e in estimates[60:] if abs(e.metres_per_unit / TRUTH / 1.3 - 1) > 0.1]
    assert behind and all(e.state == 'estimated' and e.sigma > 0.08 for e in behind)


def test_a_pause_allows_no_large_step():
    scale_filter, estimates = fed('adapt', np.full(20, math.log(TRUTH)))
    before = estimates[-1].metres_per_unit
    for i in range(15):
        scale_filter.add(Measurement(1000 * (i + 1) * SECOND_NS, math.log(2 * TRUTH), 0.03))
        after = scale_filter.estimate().metres_per_unit
        assert before / 1.0101 <= after <= 1.0101 * before
        before = after
    assert before > TRUTH * 1.01


def test_adapt_recovers_from_a_wrong_start():
    rng = np.random.default_rng(2)
    values = np.r_[series(6, 0.02, rng, 4 * TRUTH), series(60, 0.02, rng)]
    _, estimates = fed('adapt', values)             # not metric yet: free to move
    assert estimates[-1].metres_per_unit == pytest.approx(TRUTH, rel=0.02)
    assert estimates[-1].state == 'metric'
    values = np.r_[series(30, 0.02, rng, 1.2 * TRUTH), series(150, 0.02, rng)]
    _, estimates = fed('adapt', values)             # metric, and yet wrong: at its rate
    assert estimates[-1].metres_per_unit == pytest.approx(TRUTH, rel=0.02)


def test_freeze_outvotes_a_wrong_start_that_was_not_metric():
    rng = np.random.default_rng(3)
    values = np.r_[series(6, 0.02, rng, 4 * TRUTH), series(40, 0.02, rng)]
    _, estimates = fed('freeze', values)
    assert estimates[-1].metres_per_unit == pytest.approx(TRUTH, rel=0.03)
    assert estimates[-1].state == 'metric'
    assert all(abs(e.metres_per_unit / TRUTH - 1) < 0.05 for e in estimates
               if e.state == 'metric')


def test_gross_outliers_hardly_move_the_mean():
    rng = np.random.default_rng(4)
    values = series(50, 0.02, rng)
    values[::4] = math.log(TRUTH) + rng.choice([-5.0, 3.0, 9.0], len(values[::4]))
    mean = robust_mean([Measurement(i, value, 0.02) for i, value in enumerate(values)])
    assert abs(mean.log_scale - math.log(TRUTH)) < 0.01
    assert 0.7 < mean.inlier_share <= 0.76


def test_surer_measurements_weigh_more():
    measurements = [Measurement(i, 0.0 if i % 2 else 0.1, 0.01 if i % 2 else 0.1)
                    for i in range(20)]
    assert abs(robust_mean(measurements).log_scale) < 0.01


def test_stamps_out_of_order_do_no_harm():
    scale_filter, _ = fed('adapt', np.full(20, math.log(TRUTH)))
    before = scale_filter.estimate().metres_per_unit
    for _ in range(30):
        scale_filter.add(Measurement(0, math.log(2 * TRUTH), 0.03))
    assert scale_filter.estimate().metres_per_unit == before      # no time has passed


# ---- front and settings ----

def test_sources_that_need_no_evidence():
    assert Scale(ScaleConfig()).estimate() == ScaleEstimate()
    constant = Scale(ScaleConfig('constant', metres_per_unit=0.4, constant_sigma=0.2)).estimate()
    assert constant == ScaleEstimate(0.4, 0.2, 'estimated', 'constant')
    metric = Scale(ScaleConfig('metric', metres_per_unit=0.4)).estimate()
    assert metric == ScaleEstimate(1.0, 0.02, 'metric', 'metric')


@pytest.mark.parametrize('source', ['none', 'wheel', 'depth', 'height', 'metric', 'constant'])
def test_every_source_takes_all_evidence_and_starts_again(source):
    scale = Scale(ScaleConfig(source, camera_height_m=1.0))
    before = scale.estimate()
    for i in range(200):
        T = se3.from_parts(np.eye(3), [0.1 * i, 0, 0])
        stamp = i * SECOND_NS // 10
        scale.add_wheel(stamp, T)
        scale.add_depth(stamp, np.full((6, 8), 2.0))
        points = np.full((1, 6, 8, 3), 1.0)
        scale.add_window(WindowEvidence([stamp], T[None], points, np.ones((1, 6, 8)), [stamp],
                                        np.eye(4)))
    has_measured = scale.estimate().n_measurements > 10
    assert has_measured == (source in ('wheel', 'depth'))
    scale.reset()
    assert scale.estimate() == before


@pytest.mark.parametrize('field, value', [
    ('source', 'gps'), ('mode', 'both'), ('metric_sigma', 0.0), ('metric_sigma', math.nan),
    ('min_sigma', 0.2), ('min_measurements', 2), ('memory', 5), ('adapt_rate', 0.0),
    ('metres_per_unit', -1.0), ('metres_per_unit', math.inf), ('constant_sigma', 2.0),
    ('camera_height_m', -0.1), ('camera_height_m', math.nan), ('min_distance_m', 0.0),
    ('wheel_sigma', 0.0), ('min_depth_m', 0.0), ('max_depth_m', 0.1), ('depth_tolerance_s', -1.0)])
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=f'^{field}: expected .*, got '):
        ScaleConfig(**{field: value})


def test_height_needs_a_height():
    with pytest.raises(ValueError, match='^camera_height_m: expected a height above 0 for source'):
        ScaleConfig('height')


@pytest.mark.parametrize('field, value', [
    ('T_odom_camera', np.eye(4)), ('local_points', np.zeros((2, 4, 5, 3))),
    ('confidence', np.zeros((1, 5, 4))), ('tail_stamps_ns', [[0]]),
    ('T_base_camera', np.eye(3)), ('T_base_camera', np.full((4, 4), np.nan)),
    ('is_measured', [True, False])])
def test_evidence_of_a_wrong_shape_is_named(field, value):
    good = dict(stamps_ns=[0], T_odom_camera=np.eye(4)[None], local_points=np.zeros((1, 4, 5, 3)),
                confidence=np.ones((1, 4, 5)), tail_stamps_ns=[0])
    WindowEvidence(**good)
    with pytest.raises(ValueError, match=f'WindowEvidence.{field}: '):
        WindowEvidence(**{**good, field: value})


# ---- metric motion ----

def random_way(seed, n=40):
    """Return poses (n, 4, 4) of a random walk that does not begin at the origin."""
    rng = np.random.default_rng(seed)
    T = se3.exp(rng.uniform(-2, 2, 6))
    poses = []
    for _ in range(n):
        T = T @ se3.exp(rng.normal(0, 0.3, 6))
        poses.append(T)
    return np.array(poses)


@pytest.mark.parametrize('seed', range(5))
def test_scale_one_leaves_poses_bit_identical(seed):
    motion = MetricMotion()
    poses = random_way(seed)
    poses[3, 0, 3] = -0.0
    for T in poses:
        assert motion.add(T, 1.0).tobytes() == T.tobytes()


@pytest.mark.parametrize('scale', [0.37, 2.7])
def test_constant_scale_scales_positions(scale):
    motion = MetricMotion()
    for T in random_way(1):
        got = motion.add(T, scale)
        np.testing.assert_array_equal(got[:3, 3], T[:3, 3] * scale)
        np.testing.assert_array_equal(got[:3, :3], T[:3, :3])


@pytest.mark.parametrize('seed', range(10))
def test_increments_have_the_scale_of_their_time(seed):
    rng = np.random.default_rng(seed)
    poses = random_way(seed)
    scales = np.exp(rng.normal(0, 1, len(poses)))
    scales[rng.random(len(poses)) < 0.5] = 1.7
    motion = MetricMotion()
    metric = np.array([motion.add(T, s) for T, s in zip(poses, scales)])
    np.testing.assert_allclose(np.diff(metric[:, :3, 3], axis=0),
                               scales[1:, None] * np.diff(poses[:, :3, 3], axis=0), atol=1e-9)
    np.testing.assert_array_equal(metric[:, :3, :3], poses[:, :3, :3])
    # the same pose again, at any scale, is where it was
    for scale in (0.01, 1.0, 55.0):
        np.testing.assert_allclose(motion.add(poses[-1], scale), metric[-1], atol=1e-9)


def test_points_and_map_go_with_the_poses():
    poses = random_way(7)
    motion = MetricMotion()
    assert motion.T_metric_odom.scale == 1.0
    for i, T in enumerate(poses):
        metric = motion.add(T, 1.0 + 0.1 * (i // 8))
    point = np.array([0.3, -0.2, 1.5])              # seen by the last camera, odom units
    scale = motion.T_metric_odom.scale
    np.testing.assert_allclose(motion.T_metric_odom.apply(se3.apply(poses[-1], point)[None])[0],
                               se3.apply(metric, scale * point), atol=1e-9)
    T_map_odom = se3.exp(np.array([1.0, 2, 3, 0.3, 0.2, -0.4]))
    want = T_map_odom @ poses[-1]
    want[:3, 3] *= scale
    np.testing.assert_allclose(motion.map_over_odom(T_map_odom) @ metric, want, atol=1e-9)
    np.testing.assert_array_equal(motion.pose(poses[-1]), metric)


@pytest.mark.parametrize('T, scale, name', [
    (np.eye(3), 1.0, 'T_odom_camera'), (np.full((4, 4), np.nan), 1.0, 'T_odom_camera'),
    (np.eye(4), 0.0, 'metres_per_unit'), (np.eye(4), -1.0, 'metres_per_unit'),
    (np.eye(4), math.nan, 'metres_per_unit'), (np.eye(4), math.inf, 'metres_per_unit')])
def test_motion_refuses_what_is_no_pose_or_scale_and_goes_on(T, scale, name):
    motion, poses = MetricMotion(), random_way(0)
    motion.add(poses[0], 2.0)
    with pytest.raises(ValueError, match=f'^{name}: expected'):
        motion.add(T, scale)
    np.testing.assert_array_equal(motion.add(poses[1], 2.0)[:3, 3], 2.0 * poses[1, :3, 3])
