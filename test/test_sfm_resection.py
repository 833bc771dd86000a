"""The pose of one camera from mapped points: exact, robust, rescued, or refused."""

import numpy as np
import pytest
from sfm_tracks import FOCAL_PX, SIZE

from longrecon_ros.geometry import se3
from longrecon_ros.sfm.resection import locate, refine_pose

TRUTH = se3.from_parts(se3.so3_exp(np.array([0.2, -0.3, 0.1])), np.array([0.5, -0.2, 0.3]))


def view(n=120, noise_px=0.0, outliers=0.0, seed=0, depth=(3.0, 15.0)):
    """Return points (n, 3), what the camera at `TRUTH` sees of them (n, 2), who is an outlier."""
    rng = np.random.default_rng(seed)
    uv = rng.uniform(-0.5, 0.5, (n, 2)) * SIZE
    z = rng.uniform(*depth, n)
    X = se3.apply(se3.inverse(TRUTH), np.column_stack([uv / FOCAL_PX * z[:, None], z]))
    uv = uv + rng.normal(0, noise_px, uv.shape)
    is_outlier = rng.random(n) < outliers
    uv[is_outlier] = rng.uniform(-0.5, 0.5, (int(is_outlier.sum()), 2)) * SIZE
    return X, uv / FOCAL_PX, is_outlier


def shaken(turn_deg, shift, seed=1):
    """Return R, t that miss the truth by this angle and distance."""
    rng = np.random.default_rng(seed)
    axis, way = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    T = se3.from_parts(se3.so3_exp(np.deg2rad(turn_deg) * axis), shift * way) @ TRUTH
    return T[:3, :3], T[:3, 3]


def errors(R, t):
    """Return the rotation error in degrees and the distance of the centres."""
    found = se3.inverse(se3.from_parts(R, t))[:3, 3]
    return (float(np.degrees(se3.rotation_angle(R.T @ TRUTH[:3, :3]))),
            float(np.linalg.norm(found - se3.inverse(TRUTH)[:3, 3])))


@pytest.mark.parametrize('turn_deg, shift', [(0, 0), (1, 0.1), (5, 0.5)])
def test_exact_points_give_the_exact_pose(turn_deg, shift):
    X, xy, _ = view()
    R, t, error_px = refine_pose(*shaken(turn_deg, shift), X, xy, FOCAL_PX, iterations=25)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert max(errors(R, t)) < 1e-6 and error_px.shape == (len(X),) and error_px.max() < 1e-6


def test_steps_shrink_quadratically():
    X, xy, _ = view()
    misses = [max(errors(*refine_pose(*shaken(1, 0.05), X, xy, FOCAL_PX, iterations=n)[:2]))
              for n in (0, 1, 2, 3)]
    assert misses[1] < 0.05 * misses[0] and misses[2] < 0.01 * misses[1] and misses[3] < 1e-6


def test_noise_averages_out():
    misses = [errors(*refine_pose(*shaken(1, 0.1), *view(200, noise_px=0.5, seed=s)[:2],
                                  FOCAL_PX)[:2]) for s in range(8)]
    assert np.max(misses, axis=0)[0] < 0.05 and np.max(misses, axis=0)[1] < 0.02


def test_the_errors_are_those_of_the_pose_that_is_returned():
    X, xy, _ = view(noise_px=1.0, outliers=0.2)
    R, t, error_px = refine_pose(*shaken(1, 0.1), X, xy, FOCAL_PX, iterations=2)
    local = X @ R.T + t
    np.testing.assert_allclose(
        error_px, FOCAL_PX * np.linalg.norm(local[:, :2] / local[:, 2:] - xy, axis=1))


@pytest.mark.parametrize('outliers', [0.1, 0.3])
def test_outliers_are_ignored(outliers):
    X, xy, is_outlier = view(200, noise_px=0.3, outliers=outliers)
    R, t, share = locate(*shaken(2, 0.2), X, xy, FOCAL_PX)
    turn_deg, shift = errors(R, t)
    assert turn_deg < 0.05 and shift < 0.02
    assert share == pytest.approx((~is_outlier).mean(), abs=0.03)


@pytest.mark.parametrize('turn_deg, shift', [(40, 1.0), (90, 4.0), (170, 0.5)])
@pytest.mark.parametrize('outliers', [0.0, 0.25])
def test_a_bad_prediction_is_rescued(turn_deg, shift, outliers):
    X, xy, _ = view(200, noise_px=0.3, outliers=outliers, seed=3)
    R, t, share = locate(*shaken(turn_deg, shift), X, xy, FOCAL_PX)
    found_deg, found_shift = errors(R, t)
    assert found_deg < 0.1 and found_shift < 0.04 and share > 0.9 * (1 - outliers)


def test_points_behind_the_prediction_do_not_break_it():
    X, xy, _ = view(100, noise_px=0.3)
    turned = se3.from_parts(se3.so3_exp(np.array([0, np.pi, 0])), np.zeros(3)) @ TRUTH
    R, t, error_px = refine_pose(turned[:3, :3], turned[:3, 3], X, xy, FOCAL_PX)
    assert np.isfinite(R).all() and np.isfinite(t).all() and np.isfinite(error_px).all()
    assert errors(*locate(turned[:3, :3], turned[:3, 3], X, xy, FOCAL_PX)[:2])[0] < 0.1


def test_what_no_pose_explains_is_refused():
    rng = np.random.default_rng(5)
    X = rng.uniform(-3, 3, (80, 3)) + [0, 0, 8]
    xy = rng.uniform(-0.5, 0.5, (80, 2))
    assert locate(np.eye(3), np.zeros(3), X, xy, FOCAL_PX) is None


@pytest.mark.parametrize('n', [8, 12])
def test_a_few_points_followed_by_chance_are_refused(n):
    # as after a jump cut: each is found somewhere near where it was looked for
    n_accepted = 0
    for seed in range(20):
        X, xy, _ = view(n, noise_px=10.0, seed=seed)
        n_accepted += locate(TRUTH[:3, :3], TRUTH[:3, 3], X, xy, FOCAL_PX) is not None
    assert n_accepted <= 1


@pytest.mark.parametrize('n', [3, 5, 7])
def test_fewer_points_than_agree_by_chance_give_no_pose(n):
    X, xy, _ = view(n)
    assert locate(*shaken(0.5, 0.02), X, xy, FOCAL_PX) is None


def test_points_on_one_plane_are_enough():
    X, xy, _ = view(150, noise_px=0.3, depth=(8.0, 8.0 + 1e-9), seed=6)
    assert errors(*locate(*shaken(3, 0.3), X, xy, FOCAL_PX)[:2])[0] < 0.1
    assert errors(*locate(*shaken(60, 3.0), X, xy, FOCAL_PX)[:2])[0] < 0.2
