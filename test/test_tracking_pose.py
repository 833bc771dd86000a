"""Parts of the tracker with known answers: pose and covariance, lens, flow, choice of points."""

import cv2
import numpy as np
import pytest
from tracked_films import drive, shot, SIZE

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import project, unproject
from longrecon_ros.tracking import Camera, Reference, TrackedPose, TrackingConfig
from longrecon_ros.tracking.flow import as_bright, contrast, follow
from longrecon_ros.tracking.lens import Lens
from longrecon_ros.tracking.pnp import locate, Prior
from longrecon_ros.tracking.points import choose, predicted, predicted_warp, spread
from longrecon_ros.tracking.residuals import residuals, Sightings
from longrecon_ros.types import FrameState

K = np.array([[400.0, 1.5, 310.0], [0, 410.0, 235.0], [0, 0, 1]])
TRUE = se3.exp(np.array([0.6, -0.2, 0.8, 0.05, -0.1, 0.15]))
CENTRE = np.array([0.1, 0.0, -0.2])
SHARP = TrackingConfig(sigma_px=0.3, sigma_log_depth=0.0, sigma_log_scale=0.0)


def sightings(rng, n=120, sigma_px=0.0, sigma_log_depth=0.0):
    """Return what a camera at TRUE sees of random points, whose depths from CENTRE are off."""
    points = rng.uniform((-4, -3, 4), (4, 3, 12), (n, 3))
    uv = project(se3.apply(se3.inverse(TRUE), points), K)
    factor = np.exp(sigma_log_depth * rng.standard_normal(n))[:, None]
    uv = uv + sigma_px * rng.standard_normal((n, 2))
    return Sightings(CENTRE + factor * (points - CENTRE), uv, np.ones(n), CENTRE, K)


def test_the_pose_of_exact_points():
    fit = locate(sightings(np.random.default_rng(0)), np.eye(4), SHARP)
    assert np.abs(fit.T_odom_camera - TRUE).max() < 1e-8
    assert fit.is_inlier.all() and fit.rmse_px < 1e-6


@pytest.mark.parametrize('guess', [TRUE, np.eye(4), se3.exp(np.array([5.0, 0, 0, 0, 1.5, 0]))])
def test_the_pose_in_spite_of_wrong_points(guess):
    rng = np.random.default_rng(1)
    seen = sightings(rng, 200, sigma_px=0.3)
    seen.uv[:80] = rng.uniform(0, 600, (80, 2))
    fit = locate(seen, guess, SHARP)
    xi = se3.log(se3.relative(fit.T_odom_camera, TRUE))
    assert np.abs(xi[:3]).max() < 0.03 and np.abs(xi[3:]).max() < 0.003
    assert fit.is_inlier[80:].mean() > 0.97 and fit.is_inlier[:80].mean() < 0.1


def test_derivatives():
    seen = sightings(np.random.default_rng(2), 30)
    T, h = TRUE @ se3.exp(np.full(6, 0.02)), 1e-6
    J = residuals(seen, T, SHARP).J
    for k, axis in enumerate(np.eye(6)):
        ahead, back = (residuals(seen, T @ se3.exp(s * h * axis), SHARP).r for s in (1, -1))
        assert np.allclose((ahead - back) / (2 * h), J[:, :, k], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize('sigma_px, sigma_log_depth', [(0.3, 0.0), (0.9, 0.0), (0.3, 0.03)])
def test_the_covariance_is_that_of_the_errors(sigma_px, sigma_log_depth):
    config = TrackingConfig(sigma_log_depth=sigma_log_depth, sigma_log_scale=0.0)
    rng, normalised = np.random.default_rng(3), []
    for _ in range(150):
        fit = locate(sightings(rng, 80, sigma_px, sigma_log_depth), TRUE, config)
        xi = se3.log(se3.relative(fit.T_odom_camera, TRUE))
        normalised.append(xi @ np.linalg.solve(fit.covariance, xi) / 6)
    # errors of patches are not independent, here they are: half of what is expected
    assert 0.4 < np.mean(normalised) < 0.65


@pytest.mark.parametrize('late', [10, 16])
def test_depths_that_are_off_do_not_bias_the_pose(late):
    # most points in view are far, all about as far, and the near ones have the largest shifts
    film, rng, config = drive(), np.random.default_rng(0), TrackingConfig(sigma_log_depth=0.05)
    lens, normalised = Lens(film.camera, SIZE, SIZE), []
    for k in range(0, 40, 4):
        gray = cv2.cvtColor(film.images[k], cv2.COLOR_RGB2GRAY)
        landmarks, T = choose(gray, film.reference(k), lens, config), film.T_odom_camera[k + late]
        at = predicted(landmarks, T, lens)
        which = np.flatnonzero(((at > 5) & (at < (314, 234))).all(axis=1))
        which = which[spread(at[which], SIZE, config.n_points)]
        flat, stretch = lens.rectify(at[which] + 0.3 * rng.standard_normal((len(which), 2)))
        factor = np.exp(0.05 * rng.standard_normal(len(which)))[:, None]
        off = landmarks.centre + factor * (landmarks.points[which] - landmarks.centre)
        fit = locate(Sightings(off, flat, stretch, landmarks.centre, landmarks.K), T, config)
        xi = se3.log(se3.relative(fit.T_odom_camera, T))
        normalised.append(xi @ np.linalg.solve(fit.covariance, xi) / 6)
    assert 0.3 < np.mean(normalised) < 2


@pytest.mark.parametrize('sigma_log_depth', [0.02, 1.0])
def test_no_depth_is_moved_behind_the_camera(sigma_log_depth):
    # which stands 0.1 before a point
    seen = sightings(np.random.default_rng(8))
    T, config = se3.from_parts(np.eye(3), seen.points[0] - (0, 0, 0.1)), TrackingConfig(
        sigma_log_depth=sigma_log_depth)
    terms = residuals(seen, T, config)
    assert np.isfinite(terms.r).all() and np.isfinite(terms.J).all()
    assert np.abs(terms.J).max() < 1e7


def test_the_expected_place_has_a_say_where_points_hardly_tell():
    rng = np.random.default_rng(9)
    near = sightings(rng, 120, sigma_px=0.3)
    # a part of a wall far away
    z = 80 + rng.uniform(0, 1, 120)
    points = se3.apply(TRUE, unproject(rng.uniform((280, 210), (340, 260), (120, 2)), z, K))
    uv = project(se3.apply(se3.inverse(TRUE), points), K) + 0.3 * rng.standard_normal((120, 2))
    far = Sightings(points, uv, np.ones(120), CENTRE, K)
    prior = Prior(TRUE @ se3.exp(np.array([0.03, 0, 0, 0, 0, 0])), 1e-3)
    for seen, least, most in ((near, 0.0, 0.3), (far, 0.7, 1.0)):
        free, held = (locate(seen, TRUE, SHARP, given) for given in (None, prior))
        to_prior = [np.linalg.norm(fit.T_odom_camera[:3, 3] - prior.T_odom_camera[:3, 3])
                    for fit in (free, held)]
        assert least <= 1 - to_prior[1] / to_prior[0] <= most
        # the covariance does without it
        assert np.allclose(np.diag(held.covariance), np.diag(free.covariance), rtol=0.3)


def test_a_common_scale_of_all_depths_is_in_the_covariance():
    seen = sightings(np.random.default_rng(4), 120)
    scaled = seen._replace(points=CENTRE + 1.02 * (seen.points - CENTRE))
    config = TrackingConfig(sigma_log_depth=0.0, sigma_log_scale=0.02)
    fit = locate(scaled, TRUE, config)
    xi = se3.log(se3.relative(fit.T_odom_camera, TRUE))
    assert np.linalg.norm(xi[:3]) > 0.01
    assert 0.8 < xi @ np.linalg.solve(fit.covariance, xi) < 1.2


@pytest.mark.parametrize('points', [
    np.zeros((40, 3)), np.outer(np.linspace(1, 2, 40), [1, 1, 5]), np.full((40, 3), -5.0),
    np.zeros((3, 3)), np.zeros((0, 3))], ids=['one', 'line', 'behind', 'few', 'none'])
def test_points_that_fix_no_pose(points):
    n = len(points)
    seen = Sightings(points, np.full((n, 2), 200.0), np.ones(n), CENTRE, K)
    fit = locate(seen, np.eye(4), SHARP)
    assert fit is None or np.sqrt(np.diag(fit.covariance)[3:].max()) > 0.1


@pytest.mark.parametrize('model, k', [
    ('plumb_bob', (-0.3, 0.1, 0.002, -0.001, 0.01)),
    ('rational_polynomial', (0.3, 0.05, 0.001, 0.001, 0.01, 0.4, 0.1, 0.02)),
    ('equidistant', (0.1, -0.02, 0.004, 0.001))])
def test_there_and_back_through_a_lens(model, k):
    K = np.array([[400.0, 0, 310.0], [0, 410.0, 235.0], [0, 0, 1]])
    lens = Lens(Camera(K, np.array(k), model), (640, 480), (320, 240))
    uv = np.random.default_rng(5).uniform((0, 0), (319, 239), (200, 2))
    flat, stretch = lens.rectify(uv)
    assert np.abs(lens.distort(flat) - uv).max() < 1e-4
    assert np.abs(flat - uv).max() > 1
    # the middle keeps its size
    assert abs(lens.rectify(np.array([[155.0, 117.0]]))[1][0] - 1) < 0.02
    assert stretch.min() > 0.5
    # OpenCV's own way there
    if model != 'equidistant':
        rays = np.c_[(flat + 0.5) * 2 - 0.5, np.ones(200)] @ np.linalg.inv(K).T
        there = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, np.array(k))[0][:, 0]
        assert np.abs((there + 0.5) / 2 - 0.5 - uv).max() < 1e-4


def test_a_lens_that_looks_backwards_knows_what_it_cannot_rectify():
    camera = Camera(np.array([[150.0, 0, 319.5], [0, 150.0, 239.5], [0, 0, 1]]), np.zeros(4),
                    'equidistant')
    lens = Lens(camera, (640, 480), (640, 480))
    flat, _ = lens.rectify(np.array([[319.5, 239.5], [0.0, 0.0]]))
    assert np.allclose(flat[0], [319.5, 239.5]) and np.isnan(flat[1]).all()
    assert np.isnan(lens.distort(np.array([[1e7, 0.0], [np.nan, 0.0]]))).all()


def test_no_lens_is_the_identity():
    uv = np.array([[3.0, 4.0], [100.0, 7.5]])
    for camera in (Camera(), Camera(K), Camera(K, np.zeros(5))):
        lens = Lens(camera, (640, 480), (320, 240))
        assert np.array_equal(lens.distort(uv), uv) and np.array_equal(lens.rectify(uv)[0], uv)


def test_flow_of_a_known_shift():
    gray = cv2.cvtColor(shot('indoor').images[0], cv2.COLOR_RGB2GRAY)
    moved = cv2.warpAffine(gray, np.float32([[1, 0, 6], [0, 1, -3]]), SIZE)
    uv = cv2.goodFeaturesToTrack(gray[20:-20, 20:-20], 60, 0.01, 8).reshape(-1, 2) + 20
    uv = np.concatenate([uv, [[np.nan, 3], [10, 10]]]).astype(np.float32)
    guess = uv.copy()
    guess[-1] = 1e9
    to, found = follow(gray, moved, uv, guess, 13, 3, 0.5)
    assert found[:-2].mean() > 0.9 and not found[-2:].any()
    assert np.median(np.abs(to[found] - uv[found] - (6, -3))) < 0.02
    assert not follow(gray, moved, uv[:0], uv[:0], 13, 3, 0.5)[1].size


def test_brightness_is_evened_out():
    gray = cv2.cvtColor(shot('indoor').images[0], cv2.COLOR_RGB2GRAY)
    dark = (0.6 * gray + 5).astype(np.uint8)
    evened = as_bright(gray, contrast(gray), contrast(dark))
    assert np.abs(evened.astype(int) - dark).mean() < 1
    assert as_bright(gray, contrast(gray), contrast(gray)) is gray


def test_points_lie_on_the_surface_and_off_its_edges():
    film = shot('street')
    gray = cv2.cvtColor(film.images[0], cv2.COLOR_RGB2GRAY)
    lens = Lens(film.camera, SIZE, SIZE)
    landmarks = choose(gray, film.reference(0), lens, TrackingConfig())
    assert len(landmarks) > 100
    T = film.T_odom_camera[0]
    assert np.abs(predicted(landmarks, T, lens) - landmarks.uv).max() < 1e-3
    at = se3.apply(se3.inverse(T), landmarks.points)
    x, y = np.clip(np.rint((landmarks.uv + 0.5) / 5 - 0.5).astype(int), 1, (62, 46)).T
    around = np.stack([film.depth[0][y + j, x + i] for j in (-1, 0, 1) for i in (-1, 0, 1)])
    assert (around > 0).all() and (around.max(axis=0) < 1.16 * around.min(axis=0)).all()
    assert (np.abs(at[:, 2] / around[4] - 1) < 0.08).all()
    warp = predicted_warp(landmarks, T, lens, np.arange(len(landmarks)))
    assert np.abs(warp - np.eye(2)).max() < 1e-3


def test_a_patch_looks_larger_from_nearby():
    film = shot('indoor')
    lens = Lens(film.camera, SIZE, SIZE)
    gray = cv2.cvtColor(film.images[0], cv2.COLOR_RGB2GRAY)
    landmarks = choose(gray, film.reference(0), lens, TrackingConfig())
    T = film.T_odom_camera[0] @ se3.from_parts(np.eye(3), np.array([0, 0, 0.5]))
    which = np.arange(len(landmarks))
    warp = predicted_warp(landmarks, T, lens, which)
    depth = se3.apply(se3.inverse(film.T_odom_camera[0]), landmarks.points)[:, 2]
    near = depth > 0.6
    ratio = (np.sqrt(np.abs(np.linalg.det(warp))) * (depth - 0.5) / depth)[near]
    assert abs(np.median(ratio) - 1) < 0.1


def test_points_are_spread_best_first():
    crowd = np.random.default_rng(6).uniform(0, 20, (50, 2))
    few = np.array([[200.0, 100.0], [300.0, 200.0]])
    chosen = spread(np.concatenate([crowd, few]), SIZE, 4)
    assert {50, 51} <= set(chosen.tolist()) and 0 in chosen and len(chosen) == 4
    # places that are taken come last
    assert spread(np.concatenate([few, crowd[:1], few + 1]), SIZE, 3, n_taken=2).tolist() == [0]
    assert not spread(np.concatenate([few, crowd]), SIZE, 2, n_taken=2).size


@pytest.mark.parametrize('make, words', [
    (lambda: Camera(np.eye(2)), 'Camera.K'),
    (lambda: Camera(-np.eye(3)), 'focal lengths'),
    (lambda: Camera(K, np.zeros(3)), '4 or 5 coefficients'),
    (lambda: Camera(K, np.zeros(4), 'fov'), "got 'fov'"),
    (lambda: Camera(K, np.full(4, np.nan)), 'finite'),
    (lambda: Camera(None, np.zeros(4)), 'expected intrinsics'),
    (lambda: Reference(0, np.full((4, 4), np.nan), np.ones((4, 4, 3)), np.ones((4, 4)), K),
     'T_odom_camera'),
    (lambda: Reference(0, np.eye(4), np.ones((4, 4, 3)), np.ones((4, 5)), K), 'confidence'),
    (lambda: TrackedPose(0, 0, np.eye(3), np.eye(6), 0, 0, 0.0, FrameState.LOST), 'expected'),
    (lambda: TrackingConfig(n_points=3), 'n_points: expected 30 to 5000, got 3'),
    (lambda: TrackingConfig(patch_px=12), 'patch_px: expected an odd number'),
    (lambda: TrackingConfig(sigma_px=0), 'sigma_px: expected above 0'),
    (lambda: TrackingConfig(n_points=30, min_inliers=40), 'min_inliers: expected at most')])
def test_misuse_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
