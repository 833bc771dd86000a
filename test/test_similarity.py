"""Registration by camera anchors and by points: reference values, invariance, robustness."""

import dataclasses

from fakes import FakeBackbone, predict
from hypothesis import given, strategies as st
import numpy as np
import pytest

from longrecon_ros.alignment import make_aligner
from longrecon_ros.alignment.anchors import kabsch_anchors, robust_anchors
from longrecon_ros.alignment.base import Alignment, apply
from longrecon_ros.alignment.confidence import confident, threshold
from longrecon_ros.alignment.huber_points import huber_similarity, rms_similarity
from longrecon_ros.alignment.irls import l1_scale, ORIGINAL, ScaleSolver
from longrecon_ros.errors import AlignmentError
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3


def scaled_points(outliers=0.3, n=3000, seed=0):
    """Points, the same times 1.7 with noise, a share of them wrong by a factor."""
    rng = np.random.default_rng(seed)
    source = rng.uniform((-2, -2, 1), (2, 2, 5), (n, 3))
    target = 1.7 * source + 0.01 * rng.normal(size=(n, 3))
    target[rng.random(n) < outliers] *= 2.5
    return source, target


def test_l1_scale_outvotes_outliers_and_the_original_stops_early():
    source, target = scaled_points()
    converged = l1_scale(source, target)
    assert converged == pytest.approx(1.7, rel=3e-3)
    assert abs(l1_scale(source, target, solver=ORIGINAL) - 1.7) > 3 * abs(converged - 1.7)
    assert l1_scale(source, target, solver=ScaleSolver(0)) > 2.0, 'least squares is far off'


@given(st.floats(-12, 12))
def test_l1_scale_has_no_unit(log_unit):
    source, target = scaled_points(n=200)
    unit = np.exp(log_unit)
    assert l1_scale(unit * source, unit * target) == pytest.approx(l1_scale(source, target),
                                                                   rel=1e-9)


def test_l1_scale_weighs_and_refuses_nothing():
    source, target = scaled_points(outliers=0.7)
    is_right = np.abs(target[:, 2] / source[:, 2] - 1.7) < 0.1
    assert l1_scale(source, target, is_right + 1e-3) == pytest.approx(1.7, rel=5e-3)
    with pytest.raises(AlignmentError, match='no points with depth'):
        l1_scale(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(AlignmentError):
        l1_scale(np.zeros((4, 3)), np.ones((4, 3)))
    with pytest.raises(ValueError, match='one shape'):
        l1_scale(source, target[:5])


def moved_cameras(T, n=5, seed=1):
    rng = np.random.default_rng(seed)
    source = se3.exp(rng.normal(size=(n, 6)) * 0.3)
    return source, T.apply_to_poses(source)


SIM3 = Sim3(1.4, se3.so3_exp([0.3, 0.7, -0.2]), np.array([1.0, -2.0, 0.5]))


@pytest.mark.parametrize('n', [1, 2, 5])
@pytest.mark.parametrize('solve', [lambda *a: kabsch_anchors(*a), lambda *a: robust_anchors(*a)])
def test_anchors_recover_the_motion_even_of_one_camera(n, solve):
    source, target = moved_cameras(SIM3, n)
    R, t = solve(source, target, 1.4, 2.0)
    np.testing.assert_allclose(R, SIM3.R, atol=1e-9)
    np.testing.assert_allclose(t, SIM3.t, atol=1e-9)


def test_robust_anchors_distrust_one_bad_camera():
    source, target = moved_cameras(SIM3)
    target[2] = target[2] @ se3.exp([0.5, 0, 0, 0.4, 0, 0])
    plain = kabsch_anchors(source, target, 1.4, 1.0)[0]
    robust = robust_anchors(source, target, 1.4, 1.0)[0]

    def angle(R):
        return float(se3.rotation_angle(SIM3.R.T @ R))
    assert angle(robust) < 0.5 * angle(plain) and angle(robust) < 0.05


def test_confident_share_and_threshold():
    confidence = np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 10, 10)
    assert (confidence >= threshold(confidence, 0.3)).mean() == pytest.approx(0.3, abs=2e-3)
    assert confident(confidence, 0.5).mean() == pytest.approx(0.5, abs=2e-3)
    half = np.where(confidence < 0.5, 0, confidence)
    assert confident(half, 0.5).mean() == pytest.approx(0.25, abs=2e-3), 'undefined pixels are out'
    assert not confident(np.zeros((2, 3, 4)), 0.5).any()


def test_huber_points_equal_the_reference_values():
    """VGGT-Long's weighted and robust Sim(3) on 3000 points with 20 % outliers."""
    rng = np.random.default_rng(0)
    source = rng.normal(size=(3000, 3)) * 5
    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    R, t = Q * np.sign(np.linalg.det(Q)), np.array([1, -2, 3.0])
    target = 1.3 * source @ R.T + t + rng.normal(size=(3000, 3)) * 0.01
    bad = rng.random(3000) < 0.2
    target[bad] += rng.normal(size=(bad.sum(), 3)) * 3
    weights = rng.random(3000)
    assert rms_similarity(source, target, weights).scale == pytest.approx(1.3200741559, abs=1e-9)
    once = huber_similarity(source, target, weights, n_iterations=1)
    assert once.scale == pytest.approx(1.3011041562, abs=1e-9)
    found = huber_similarity(source, target, weights)
    assert found.scale == pytest.approx(1.3004956289, abs=1e-9)
    assert np.abs(found.R - R).max() == pytest.approx(3.69e-5, rel=0.01)
    assert huber_similarity(source, target, weights, with_scale=False).scale == 1.0
    with pytest.raises(AlignmentError, match='3 are needed'):
        huber_similarity(source[:2], target[:2], weights[:2])


@pytest.mark.parametrize('name', ['sim3', 'sim3_points'])
def test_faithful_forms_link_exact_windows(name):
    backbone = FakeBackbone(seed=2)
    previous = apply(Alignment(backbone.gauge(0).inverse()), predict(backbone, 0, 16, 0))
    found = make_aligner(name, faithful=True).align(previous, predict(backbone, 10, 16, 1))
    delta = backbone.gauge(1) @ found.T_odom_window
    assert abs(np.log(delta.scale)) < 1e-4 and np.linalg.norm(delta.t) < 1e-2


@pytest.mark.parametrize('unit', [1e-3, 1e3])
def test_the_unit_of_depth_does_not_matter(unit):
    backbone = FakeBackbone(seed=3, noise=0.02)
    previous = apply(Alignment(backbone.gauge(0).inverse()), predict(backbone, 0, 16, 0))
    current = predict(backbone, 10, 16, 1)
    aligner, U = make_aligner('sim3'), Sim3(unit, np.eye(3), np.zeros(3))
    plain = aligner.align(previous, current).T_odom_window
    scaled = aligner.align(*(apply(Alignment(U), p) for p in (previous, current))).T_odom_window
    assert scaled.scale == pytest.approx(plain.scale, rel=1e-6)
    np.testing.assert_allclose(scaled.R, plain.R, atol=1e-6)
    np.testing.assert_allclose(scaled.t / unit, plain.t, atol=1e-5)


def test_confident_pixels_decide():
    backbone = FakeBackbone(seed=4)
    previous = apply(Alignment(backbone.gauge(0).inverse()), predict(backbone, 0, 16, 0))
    current = predict(backbone, 10, 16, 1)
    points, confidence = np.array(current.local_points), np.array(current.confidence)
    bad = np.random.default_rng(0).random(confidence.shape) < 0.45
    points[bad] *= 1.5
    confidence[bad] *= 0.5
    doubted = dataclasses.replace(current, local_points=points, confidence=confidence)
    found = make_aligner('sim3').align(previous, doubted).T_odom_window
    assert abs(np.log((backbone.gauge(1) @ found).scale)) < 1e-3
