"""Bundle adjustment: optima against scipy, truth within noise, gauge, focal length, odd points."""

import numpy as np
import pytest
from scipy.optimize import least_squares
from sfm_tracks import CURVE, FOCAL_PX, FORWARD, MOTIONS, pose_errors, SIDEWAYS, travel, watch

from longrecon_ros.geometry import se3
from longrecon_ros.sfm.bundle import adjust, FocalPrior, HUBER_PX, Scene

NO_PRIOR_INFORMATION = 1e-3


def scene_of(tracks, focal_error=0.0):
    """Return a scene at the truth; its focal length is off by this share, pixels are the same."""
    factor = 1 + focal_error
    return Scene(tracks.R.copy(), tracks.t.copy(), tracks.X.copy(), tracks.xy / factor,
                 tracks.seen.copy(), FOCAL_PX * factor)


def perturb(scene, size, seed=0):
    """Shake all poses but the first, and all points."""
    rng = np.random.default_rng(seed)
    F, P = scene.seen.shape
    turn = se3.so3_exp(size * rng.normal(size=(F, 3)))
    turn[0] = np.eye(3)
    scene.R = turn @ scene.R
    scene.t = scene.t + size * rng.normal(size=(F, 3)) * (np.arange(F) > 0)[:, None]
    scene.X = scene.X + size * rng.normal(size=(P, 3))
    return scene


def well_seen(tracks, n_views=3):
    """Return whether the points (P,) are seen often enough to be determined."""
    return tracks.seen.sum(axis=0) >= n_views


def keep(tracks, columns):
    """Return the tracks of some points only."""
    return type(tracks)(tracks.T_world_camera, tracks.X[columns], tracks.xy[:, columns],
                        tracks.seen[:, columns], tracks.is_outlier[:, columns])


def small_tracks(motion=CURVE, n_frames=6, n_points=60, **faults):
    tracks = watch(travel(n_frames, **motion), n_points, seed=3, **faults)
    return keep(tracks, well_seen(tracks))


class Reference:
    """The same least squares written plainly, for scipy: numeric derivatives, no elimination."""

    def __init__(self, scene, prior=None):
        self.scene, self.prior = scene, prior
        self.F, self.P = scene.seen.shape

    def unpack(self, x):
        s, n = self.scene, 6 * (self.F - 1)
        poses = np.vstack([np.zeros(6), x[:n].reshape(-1, 6)])
        turn = se3.so3_exp(poses[:, :3])
        log_focal = x[-1] if self.prior is not None else 0.0
        return (turn @ s.R, np.einsum('fij,fj->fi', turn, s.t) + poses[:, 3:],
                s.X + x[n:n + 3 * self.P].reshape(-1, 3), log_focal)

    def residuals_px(self, x):
        """(n, 2) plain reprojection errors of all observations."""
        R, t, X, log_focal = self.unpack(x)
        local = np.einsum('fij,pj->fpi', R, X) + t[:, None]
        focal_px = self.scene.focal_px * np.exp(log_focal)
        r = focal_px * local[..., :2] / local[..., 2:] - self.scene.focal_px * self.scene.xy
        return r[self.scene.seen]

    def __call__(self, x):
        """Residuals whose half squared sum is the Huber cost of the norms, and the prior's."""
        r = self.residuals_px(x)
        norm = np.maximum(np.linalg.norm(r, axis=1), 1e-12)
        rho = np.where(norm <= HUBER_PX, norm ** 2 / 2, HUBER_PX * (norm - HUBER_PX / 2))
        robust = (r * (np.sqrt(2 * rho) / norm)[:, None]).ravel()
        if self.prior is None:
            return robust
        return np.append(robust, np.sqrt(self.prior.information) * (x[-1] - self.prior.mean))

    def solve(self):
        n = 6 * (self.F - 1) + 3 * self.P + (self.prior is not None)
        return least_squares(self, np.zeros(n), x_scale='jac', xtol=1e-10, ftol=1e-10,
                             gtol=1e-10, max_nfev=60)


@pytest.mark.parametrize('prior', [None, FocalPrior(0.004, 1e4), FocalPrior(0.0, 1.0)])
@pytest.mark.parametrize('outliers', [0.0, 0.08])
def test_the_optimum_is_that_of_scipy(prior, outliers):
    tracks = small_tracks(n_frames=4, n_points=30, noise_px=0.7, outliers=outliers)
    scene = perturb(scene_of(tracks, 0.01), 0.01)
    reference = Reference(perturb(scene_of(tracks, 0.01), 0.01), prior)
    result = adjust(scene, 100, prior, tolerance=1e-12)
    best = reference.solve()
    assert result.cost == pytest.approx(best.cost, rel=1e-6)
    R, t, X, log_focal = reference.unpack(best.x)
    assert result.log_focal == pytest.approx(log_focal, abs=1e-4)
    scale = np.linalg.norm(scene.t[-1]) / np.linalg.norm(t[-1])     # free in both
    # the minimum is flat: scipy stops within 1e-6 of its cost
    np.testing.assert_allclose(scene.R, R, atol=1e-4)
    np.testing.assert_allclose(scene.centers, -np.einsum('fji,fj->fi', R, t) * scale, atol=1e-3)


@pytest.mark.parametrize('motion', MOTIONS)
def test_exact_data_are_fitted_exactly_in_a_few_steps(motion):
    # a wrong derivative of anything would still come down, but by a factor a step, not squared
    scene = perturb(scene_of(small_tracks(MOTIONS[motion])), 0.02)
    adjust(scene, 3, tolerance=0.0)
    after_three = scene.errors_px()[scene.seen].max()
    result = adjust(scene, 4, tolerance=0.0)
    assert after_three < 1.0
    assert scene.errors_px()[scene.seen].max() < 1e-6 and result.cost < 1e-10


def test_the_focal_length_converges_as_fast():
    scene = perturb(scene_of(small_tracks(n_points=120), 0.02), 0.01)
    result = adjust(scene, 10, FocalPrior(0.0, 1e-9), tolerance=0.0)
    assert scene.focal_px == pytest.approx(FOCAL_PX, rel=1e-6)
    assert result.log_focal == pytest.approx(-np.log(1.02), abs=1e-6)
    assert scene.errors_px()[scene.seen].max() < 1e-4


@pytest.mark.parametrize('motion', MOTIONS)
def test_truth_is_found_within_the_noise(motion):
    noise_px = 0.3
    tracks = watch(travel(10, **MOTIONS[motion]), 250, seed=5, noise_px=noise_px)
    tracks = keep(tracks, well_seen(tracks))
    scene = perturb(scene_of(tracks), 0.01)
    result = adjust(scene, 30, tolerance=1e-9)
    turn_deg, shift = pose_errors(scene.R, scene.t, tracks)
    assert turn_deg < 0.1 and shift < 0.005
    # half the squared residuals over the variance: half of chi^2 of the redundancy
    redundancy = 2 * tracks.seen.sum() - 6 * 9 - 3 * len(tracks.X) + 1
    assert result.cost / noise_px ** 2 * 2 == pytest.approx(redundancy, rel=0.08)


def test_the_first_camera_stays():
    scene = perturb(scene_of(small_tracks(noise_px=0.5)), 0.02)
    scene.R, scene.t = scene.R.copy(), scene.t.copy()
    R0 = scene.R[0] = se3.so3_exp(np.array([0.3, -0.2, 0.1]))
    t0 = scene.t[0] = np.array([0.2, 0.1, -0.3])
    moved = se3.from_parts(R0, t0)          # the whole window, moved rigidly
    T = se3.from_parts(scene.R, scene.t)
    T[1:] = T[1:] @ moved
    scene.R, scene.t = T[:, :3, :3], T[:, :3, 3]
    scene.X = se3.apply(se3.inverse(moved), scene.X)
    result = adjust(scene, 20)
    assert result.n_steps > 0
    np.testing.assert_array_equal(scene.R[0], R0)
    np.testing.assert_array_equal(scene.t[0], t0)


def test_cost_never_rises_and_is_that_of_the_result():
    costs = []
    for n in (1, 2, 4, 8):
        scene = perturb(scene_of(small_tracks(noise_px=1.0, outliers=0.1)), 0.05)
        costs.append(adjust(scene, n).cost)
        norm = scene.errors_px()[scene.seen]
        rho = np.where(norm <= HUBER_PX, norm ** 2 / 2, HUBER_PX * (norm - HUBER_PX / 2))
        assert costs[-1] == pytest.approx(rho[np.isfinite(norm)].sum()
                                          + 50 * np.isinf(norm).sum(), rel=1e-9)
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[-1]


def test_the_order_of_points_does_not_matter():
    tracks = watch(travel(16, **CURVE), 400, seed=8, noise_px=0.4, life=7)
    tracks = keep(tracks, well_seen(tracks, 2))
    order = np.random.default_rng(0).permutation(len(tracks.X))
    straight, shuffled = perturb(scene_of(tracks), 0.02), perturb(scene_of(tracks), 0.02)
    shuffled.X, shuffled.xy = shuffled.X[order], shuffled.xy[:, order]
    shuffled.seen = shuffled.seen[:, order]
    prior = FocalPrior(0.0, 1e4)
    a, b = adjust(straight, 6, prior, 0.0), adjust(shuffled, 6, prior, 0.0)
    assert a.cost == pytest.approx(b.cost, rel=1e-9)
    assert a.log_focal == pytest.approx(b.log_focal, abs=1e-9)
    assert a.focal_information == pytest.approx(b.focal_information, rel=1e-6)
    np.testing.assert_allclose(straight.R, shuffled.R, atol=1e-8)
    np.testing.assert_allclose(straight.t, shuffled.t, atol=1e-7)
    np.testing.assert_allclose(straight.X[order], shuffled.X, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(straight.xy[:, order], shuffled.xy, atol=1e-12)


def test_points_seen_nowhere_or_once_change_nothing():
    tracks = small_tracks(noise_px=0.4)
    plain, extended = perturb(scene_of(tracks), 0.01), perturb(scene_of(tracks), 0.01)
    rng = np.random.default_rng(1)
    F = len(tracks.R)
    extra = np.array([[0.0, 0, 9], [1, 1, 7], [-1, 0, 5]])
    extended.X = np.concatenate([extended.X, extra])
    extended.xy = np.concatenate([extended.xy, rng.normal(0, 0.1, (F, 3, 2))], axis=1)
    seen_once = np.zeros((F, 3), bool)
    seen_once[0, 1] = seen_once[3, 2] = True
    extended.seen = np.concatenate([extended.seen, seen_once], axis=1)
    adjust(plain, 20, tolerance=1e-12)
    adjust(extended, 20, tolerance=1e-12)
    np.testing.assert_array_equal(extended.X[-3], extra[0])
    assert np.isfinite(extended.X).all()
    np.testing.assert_allclose(extended.R, plain.R, atol=1e-5)
    np.testing.assert_allclose(extended.centers, plain.centers, atol=1e-4)


def test_a_frame_that_sees_nothing_keeps_its_pose():
    tracks = small_tracks(n_frames=7, noise_px=0.3)
    scene = perturb(scene_of(tracks), 0.01)
    scene.seen[4] = False
    R, t = scene.R[4].copy(), scene.t[4].copy()
    adjust(scene, 10)
    np.testing.assert_allclose(scene.R[4], R, atol=1e-9)
    np.testing.assert_allclose(scene.t[4], t, atol=1e-9)
    assert pose_errors(scene.R, scene.t, tracks, np.arange(7) != 4)[1] < 0.01


def test_points_behind_a_camera_do_not_pull():
    tracks = small_tracks(n_points=120, noise_px=0.3)
    scene = perturb(scene_of(tracks), 0.005)
    behind = np.arange(8)
    scene.X[behind] = [0.0, 0.0, -5.0] + np.random.default_rng(2).normal(size=(8, 3))
    assert np.isinf(scene.errors_px()[:, behind]).all()
    adjust(scene, 15)
    assert np.isfinite(scene.R).all() and np.isfinite(scene.X).all()
    assert pose_errors(scene.R, scene.t, tracks)[1] < 0.01


def test_gross_outliers_are_tempered():
    tracks = watch(travel(10, **CURVE), 250, seed=6, noise_px=0.3, outliers=0.08)
    tracks = keep(tracks, well_seen(tracks, 4))
    scene = perturb(scene_of(tracks), 0.01)
    adjust(scene, 30, tolerance=1e-6)
    turn_deg, shift = pose_errors(scene.R, scene.t, tracks)
    assert turn_deg < 0.2 and shift < 0.01
    error = scene.errors_px()
    inlier = tracks.seen & ~tracks.is_outlier
    assert np.median(error[inlier]) < 0.5 and np.median(error[tracks.is_outlier]) > 8


@pytest.mark.parametrize('error', [-0.02, 0.02])
def test_a_wrong_focal_length_is_found_in_a_turn(error):
    tracks = watch(travel(16, **CURVE), 300, seed=7, noise_px=0.3)
    tracks = keep(tracks, well_seen(tracks))
    scene = perturb(scene_of(tracks, error), 0.005)
    result = adjust(scene, 30, FocalPrior(0.0, 1 / 0.02 ** 2), tolerance=1e-8)
    assert scene.focal_px == pytest.approx(FOCAL_PX, rel=0.002)
    assert result.log_focal == pytest.approx(-np.log(1 + error), abs=0.002)
    np.testing.assert_allclose(scene.xy * scene.focal_px, tracks.xy * FOCAL_PX, atol=1e-6)
    assert result.focal_information > 10 / 0.02 ** 2


@pytest.mark.parametrize('motion', [FORWARD, SIDEWAYS])
def test_a_straight_path_says_nothing_about_the_focal_length(motion):
    tracks = watch(travel(16, **motion), 300, seed=7, noise_px=0.3)
    tracks = keep(tracks, well_seen(tracks))
    scene = perturb(scene_of(tracks, 0.02), 0.005)
    result = adjust(scene, 30, FocalPrior(0.0, 1 / 0.01 ** 2), tolerance=1e-8)
    assert abs(result.log_focal) < 0.002
    assert result.focal_information < 0.1 / 0.01 ** 2
    assert pose_errors(scene.R, scene.t, tracks)[0] < 0.1


@pytest.mark.parametrize('mean', [0.0, 0.015])
def test_a_strong_prior_decides(mean):
    tracks = watch(travel(12, **CURVE), 250, seed=7, noise_px=0.3)
    tracks = keep(tracks, well_seen(tracks))
    scene = scene_of(tracks, 0.02)
    result = adjust(scene, 40, FocalPrior(mean, 1e13), tolerance=1e-12)
    assert result.log_focal == pytest.approx(mean, abs=1e-5)
    assert scene.focal_px == pytest.approx(FOCAL_PX * 1.02 * np.exp(mean), rel=1e-5)


@pytest.mark.parametrize('share', [0.2, 1.0, 5.0])
def test_prior_and_window_are_joined_by_their_information(share):
    tracks = watch(travel(12, **CURVE), 250, seed=9, noise_px=0.3)
    tracks = keep(tracks, well_seen(tracks))
    alone = adjust(scene_of(tracks), 40, FocalPrior(0.0, NO_PRIOR_INFORMATION), 1e-12)
    prior = FocalPrior(alone.log_focal + 0.004, share * alone.focal_information)
    joined = adjust(scene_of(tracks), 40, prior, 1e-12)
    expected = (alone.log_focal + share * prior.mean) / (1 + share)
    assert joined.log_focal == pytest.approx(expected, abs=2e-4)
    assert joined.focal_information == pytest.approx(alone.focal_information, rel=0.05)


def test_focal_information_tells_the_error_to_expect():
    noise_px, ratios = 0.3, []
    for seed in range(12):
        tracks = watch(travel(8, **CURVE), 120, seed=seed, noise_px=noise_px)
        tracks = keep(tracks, well_seen(tracks))
        result = adjust(scene_of(tracks), 30, FocalPrior(0.0, NO_PRIOR_INFORMATION), 1e-8)
        ratios.append(result.log_focal ** 2 * result.focal_information / noise_px ** 2)
    assert 0.4 < np.mean(ratios) < 2.0


def test_focal_information_is_that_of_the_numeric_derivatives():
    tracks = small_tracks(n_points=50, noise_px=0.2)
    scene = scene_of(tracks)
    prior = FocalPrior(0.0, NO_PRIOR_INFORMATION)
    result = adjust(scene, 40, prior, tolerance=1e-12)
    reference = Reference(scene, prior)
    h = 1e-6
    x = np.zeros(6 * 5 + 3 * len(scene.X) + 1)
    columns = [(reference(x + h * e) - reference(x - h * e)) / (2 * h) for e in np.eye(len(x))]
    others, focal = np.array(columns[:-1]).T, columns[-1]
    left = focal - others @ np.linalg.lstsq(others, focal, rcond=1e-9)[0]
    assert result.focal_information == pytest.approx(left @ left, rel=0.05)


def test_without_a_prior_the_focal_length_is_left_alone():
    tracks = small_tracks(noise_px=0.3)
    scene = perturb(scene_of(tracks, 0.02), 0.01)
    xy = scene.xy.copy()
    result = adjust(scene, 10)
    assert scene.focal_px == FOCAL_PX * 1.02 and result.log_focal == 0.0
    assert result.focal_information == 0.0
    np.testing.assert_array_equal(scene.xy, xy)
