"""Umeyama: exact on exact data, unbiased under noise, and robust against wrong pairs."""

from hypothesis import given, strategies as st
import numpy as np
import pytest

from longrecon_ros.errors import AlignmentError
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.geometry.umeyama import robust_umeyama, umeyama


def random_similarity(rng, with_scale=True):
    scale = np.exp(rng.uniform(-2, 2)) if with_scale else 1.0
    return Sim3(scale, se3.so3_exp(rng.normal(size=3) * 2), rng.normal(size=3) * 10)


def angle_deg(a, b):
    return np.degrees(se3.rotation_angle(a.R.T @ b.R))


@given(st.integers(0, 10**6), st.booleans(), st.integers(4, 200))
def test_recovers_exact_transforms(seed, with_scale, n):
    rng = np.random.default_rng(seed)
    truth = random_similarity(rng, with_scale)
    source = rng.normal(size=(n, 3))
    weights = rng.uniform(0.1, 5.0, size=n)
    found = umeyama(source, truth.apply(source), weights, with_scale)
    np.testing.assert_allclose(found.as_matrix(), truth.as_matrix(), atol=1e-7)
    robust = robust_umeyama(source, truth.apply(source), weights, with_scale)
    np.testing.assert_allclose(robust.T_target_source.as_matrix(), truth.as_matrix(), atol=1e-6)


def test_points_in_a_plane_are_enough_and_do_not_mirror():
    rng = np.random.default_rng(3)
    source = rng.normal(size=(30, 3)) * [1, 1, 0]
    truth = random_similarity(rng)
    found = umeyama(source, truth.apply(source))
    np.testing.assert_allclose(found.as_matrix(), truth.as_matrix(), atol=1e-9)


def test_mirrored_points_give_a_proper_rotation():
    source = np.random.default_rng(4).normal(size=(50, 3))
    assert np.linalg.det(umeyama(source, source * [1, 1, -1]).R) == pytest.approx(1.0)


def test_scale_is_unbiased_under_noise_in_the_target():
    rng = np.random.default_rng(5)
    source = rng.normal(size=(2000, 3))
    scales = []
    for _ in range(20):
        target = 3.0 * source + rng.normal(scale=0.1, size=source.shape)
        scales.append(robust_umeyama(source, target).T_target_source.scale)
    assert np.mean(scales) == pytest.approx(3.0, rel=5e-4)


def test_weights_decide():
    rng = np.random.default_rng(6)
    source = rng.normal(size=(100, 3))
    truth, wrong = random_similarity(rng), random_similarity(rng)
    target = truth.apply(source)
    target[50:] = wrong.apply(source[50:])
    weights = np.r_[np.ones(50), np.zeros(50)]
    target[99] = np.nan      # without weight it may be undefined
    np.testing.assert_allclose(umeyama(source, target, weights).as_matrix(), truth.as_matrix(),
                               atol=1e-9)
    doubled = umeyama(np.r_[source[:50], source[:10]], np.r_[target[:50], target[:10] + 0.1])
    weighted = umeyama(np.r_[source[:50], source[:10]], np.r_[target[:50], target[:10] + 0.1],
                       np.r_[np.ones(50), np.full(10, 0.01)])
    assert np.linalg.norm(weighted.t - truth.t) < np.linalg.norm(doubled.t - truth.t)


@pytest.mark.parametrize('loss', ['cauchy', 'huber'])
@pytest.mark.parametrize('share', [0.1, 0.3, 0.4])
@pytest.mark.parametrize('seed', range(3))
def test_wrong_pairs_do_not_matter(loss, share, seed):
    rng = np.random.default_rng(seed)
    truth = random_similarity(rng)
    source = rng.normal(size=(1500, 3))
    target = truth.apply(source) + rng.normal(scale=0.01 * truth.scale, size=source.shape)
    bad = rng.random(1500) < share
    target[bad] += rng.normal(scale=5 * truth.scale, size=(bad.sum(), 3)) + truth.scale
    fit = robust_umeyama(source, target, loss=loss)
    plain = umeyama(source, target)
    tolerance = 1.0 if loss == 'cauchy' else 5.0
    assert abs(np.log(fit.T_target_source.scale / truth.scale)) < 2e-3 * tolerance
    assert angle_deg(fit.T_target_source, truth) < 0.1 * tolerance
    assert angle_deg(fit.T_target_source, truth) < angle_deg(plain, truth)
    assert not (fit.is_inlier & bad).sum() > 0.02 * len(bad)
    assert fit.is_inlier[~bad].mean() > 0.95
    assert fit.rmse == pytest.approx(0.01 * np.sqrt(3) * truth.scale, rel=0.2)
    if loss == 'cauchy' and share <= 0.1:
        assert fit.sigma == pytest.approx(0.01 * truth.scale, rel=0.2)


def test_same_input_same_result():
    rng = np.random.default_rng(8)
    source, target = rng.normal(size=(2, 300, 3))
    a, b = (robust_umeyama(source, target).T_target_source for _ in range(2))
    np.testing.assert_array_equal(a.as_matrix(), b.as_matrix())


@pytest.mark.parametrize('source', [
    np.arange(10.0)[:, None] * [1, 2, 3], np.ones((10, 3)), np.zeros((2, 3))])
@pytest.mark.parametrize('solve', [umeyama, robust_umeyama])
def test_degenerate_points_are_refused(solve, source):
    with pytest.raises(AlignmentError):
        solve(source, source + 1)


@pytest.mark.parametrize('arguments, words', [
    ((np.zeros((5, 2)), np.zeros((5, 2))), 'source, target'),
    ((np.zeros((5, 3)), np.zeros((6, 3))), 'source, target'),
    ((np.eye(3), np.eye(3), np.ones(4)), 'weights'),
    ((np.eye(3), np.eye(3), -np.ones(3)), 'weights'),
    ((np.eye(3) * np.nan, np.eye(3)), 'finite'),
])
def test_misuse_names_the_argument(arguments, words):
    with pytest.raises(ValueError, match=words):
        umeyama(*arguments)
    with pytest.raises(ValueError, match="loss.*'cauchy', 'huber'.*'l7'"):
        robust_umeyama(np.eye(3), np.eye(3), loss='l7')
