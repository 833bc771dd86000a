"""One window from tracks alone, anew or from a guess: motions, noise, outliers, gaps."""

import dataclasses

import numpy as np
import pytest
from sfm_tracks import (
    chain,
    CURVE,
    FOCAL_PX,
    FORWARD,
    MOTIONS,
    pose_errors,
    SIDEWAYS,
    SIZE,
    travel,
    watch,
)

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.umeyama import umeyama
from longrecon_ros.sfm.bundle import FocalPrior
from longrecon_ros.sfm.window import Guess, Problem, resume, solve, SolverConfig

CONFIG = SolverConfig()


def problem_of(tracks, focal_error=0.0, prior=None):
    """Return what a solver is told; the focal length is off by this share, the pixels are not."""
    factor = 1 + focal_error
    return Problem(tracks.xy / factor, tracks.seen, FOCAL_PX * factor, SIZE[0], prior)


def known(tracks, posed, gauge=None, scale=1.0):
    """Return the truth about some frames and their points as a guess, in a gauge of its own."""
    gauge = np.eye(4) if gauge is None else gauge
    T = tracks.T_world_camera.copy()
    T[:, :3, 3] *= scale
    T = se3.inverse(gauge @ T)
    seen_twice = tracks.seen[posed].sum(axis=0) >= 2
    X = np.where(seen_twice[:, None], se3.apply(gauge, scale * tracks.X), np.nan)
    return Guess(posed, T[:, :3, :3], T[:, :3, 3], X)


@pytest.mark.parametrize('motion', MOTIONS)
@pytest.mark.parametrize('life', [None, 8])
def test_exact_tracks_give_the_exact_window(motion, life):
    tracks = watch(travel(16, **MOTIONS[motion]), 350, seed=1, life=life)
    solution = solve(problem_of(tracks), CONFIG)
    assert solution.posed.all() and solution.error_px < 1e-3 and solution.fit_share > 0.85
    turn_deg, shift = pose_errors(solution.scene.R, solution.scene.t, tracks)
    assert turn_deg < 0.01 and shift < 1e-3
    mapped = solution.mapped & (tracks.seen.sum(axis=0) >= 3)
    assert mapped.sum() > 150
    X, truth = solution.scene.X[mapped], tracks.X[mapped]
    miss = np.linalg.norm(umeyama(X, truth).apply(X) - truth, axis=1)
    assert np.median(miss / truth[:, 2]) < 1e-3


@pytest.mark.parametrize('motion', MOTIONS)
@pytest.mark.parametrize('seed', range(3))
def test_noise_outliers_and_short_tracks(motion, seed):
    tracks = watch(travel(16, **MOTIONS[motion]), 700, seed=seed, noise_px=0.3, outliers=0.03,
                   life=8)
    solution = solve(problem_of(tracks), CONFIG)
    assert solution.posed.all() and 0.1 < solution.error_px < 0.6
    turn_deg, shift = pose_errors(solution.scene.R, solution.scene.t, tracks)
    assert turn_deg < 0.3 and shift < 0.01
    kept = solution.scene.seen & solution.mapped
    assert (kept & tracks.is_outlier).sum() < 0.1 * tracks.is_outlier.sum()
    assert (kept & ~tracks.is_outlier).sum() > 0.8 * (tracks.seen & ~tracks.is_outlier).sum()


@pytest.mark.parametrize('motion', ['forward', 'curve'])
def test_noise_does_not_bend_the_scale(motion):
    drifts = []
    for seed in range(10):
        tracks = watch(travel(16, **MOTIONS[motion]), 400, seed=seed, noise_px=0.3, life=8)
        solution = solve(problem_of(tracks), CONFIG)
        halves = [np.linalg.norm(c[[7, 15]] - c[[0, 8]], axis=1)
                  for c in (solution.scene.centers, tracks.centers)]
        found, truth = (np.log(late / early) for early, late in halves)
        drifts.append(found - truth)
    assert np.std(drifts) < 0.02
    assert abs(np.mean(drifts)) < max(0.002, 3 * np.std(drifts) / np.sqrt(len(drifts)))


def test_the_observations_given_are_not_touched():
    tracks = watch(travel(12, **CURVE), 300, seed=2, noise_px=0.3, outliers=0.05)
    xy, seen = tracks.xy.copy(), tracks.seen.copy()
    problem = problem_of(tracks, 0.02, FocalPrior(0.0, 1 / 0.02 ** 2))
    given = problem.xy.copy()
    solution = solve(problem, CONFIG)
    np.testing.assert_array_equal(problem.xy, given)
    np.testing.assert_array_equal(problem.seen, seen)
    np.testing.assert_array_equal(tracks.xy, xy)
    assert not (solution.scene.seen & ~seen).any()


def test_two_solutions_are_equal():
    tracks = watch(travel(16, **CURVE), 400, seed=3, noise_px=0.4, outliers=0.05, life=8)
    a, b = (solve(problem_of(tracks), CONFIG) for _ in range(2))
    np.testing.assert_array_equal(a.scene.R, b.scene.R)
    np.testing.assert_array_equal(a.scene.t, b.scene.t)
    np.testing.assert_array_equal(a.scene.X, b.scene.X)


def test_the_figures_of_a_solution_are_right():
    tracks = watch(travel(16, **CURVE), 400, seed=4, noise_px=0.4, outliers=0.05)
    solution = solve(problem_of(tracks), CONFIG)
    error = solution.scene.errors_px()[solution.posed][:, solution.mapped]
    error = error[np.isfinite(error)]
    assert solution.error_px == pytest.approx(np.median(error))
    assert solution.fit_share == pytest.approx((error < 1.5).sum() / tracks.seen.sum())


@pytest.mark.parametrize('error', [-0.02, 0.02])
def test_a_wrong_focal_length_is_learnt_in_a_turn(error):
    tracks = watch(travel(16, **CURVE), 400, seed=5, noise_px=0.2)
    prior = FocalPrior(0.0, 1 / 0.02 ** 2)
    solution = solve(problem_of(tracks, error, prior), CONFIG)
    assert solution.log_focal == pytest.approx(-np.log(1 + error), abs=0.003)
    assert solution.scene.focal_px == pytest.approx(FOCAL_PX, rel=0.003)
    assert solution.focal_information > 1000
    fixed = solve(problem_of(tracks, error), CONFIG)
    assert fixed.log_focal == 0 and fixed.scene.focal_px == FOCAL_PX * (1 + error)
    assert (pose_errors(solution.scene.R, solution.scene.t, tracks)[0]
            < 0.5 * pose_errors(fixed.scene.R, fixed.scene.t, tracks)[0])


def test_a_turn_on_the_spot_in_the_middle_is_bridged():
    # real motion, 4 frames of turning without parallax, real motion again
    poses = chain(travel(7, **SIDEWAYS), travel(5, turn_deg=(0, 3, 0)), travel(6, **FORWARD))
    tracks = watch(poses, 600, seed=6, noise_px=0.2)
    solution = solve(problem_of(tracks), CONFIG)
    assert solution.posed.all()
    turn_deg, shift = pose_errors(solution.scene.R, solution.scene.t, tracks)
    assert turn_deg < 0.2 and shift < 0.01


def test_nothing_to_start_from_gives_none():
    few = watch(travel(16, **SIDEWAYS), 18, seed=7)
    assert solve(problem_of(few), CONFIG) is None
    rng = np.random.default_rng(0)
    blind = dataclasses.replace(few, seen=np.zeros_like(few.seen))
    assert solve(problem_of(blind), CONFIG) is None
    noise = dataclasses.replace(few, xy=rng.uniform(-0.5, 0.5, (16, 200, 2)),
                                seen=rng.random((16, 200)) < 0.5)
    solution = solve(problem_of(noise), CONFIG)
    assert solution is None or solution.fit_share < 0.3


def test_frames_beyond_a_gap_stay_without_a_pose():
    tracks = watch(travel(16, **SIDEWAYS), 500, seed=8, noise_px=0.2)
    side = np.random.default_rng(0).random(len(tracks.X)) < 0.6
    seen = tracks.seen.copy()
    seen[10:, side] = False         # a cut after frame 9: no track crosses it
    seen[:10, ~side] = False
    solution = solve(problem_of(dataclasses.replace(tracks, seen=seen)), CONFIG)
    assert solution.posed[:10].all() and not solution.posed[10:].any() \
        or solution.posed[10:].all() and not solution.posed[:10].any()
    turn_deg, shift = pose_errors(solution.scene.R, solution.scene.t, tracks, solution.posed)
    assert turn_deg < 0.2 and shift < 0.01
    n_views = (solution.scene.seen & solution.posed[:, None]).sum(axis=0)
    assert (n_views[solution.mapped] >= 2).all()


@pytest.mark.parametrize('motion', MOTIONS)
@pytest.mark.parametrize('k', [4, 8, 12])
def test_a_blank_frame_is_stepped_over(motion, k):
    tracks = watch(travel(16, **MOTIONS[motion]), 600, seed=3, noise_px=0.2, life=8)
    seen = tracks.seen.copy()
    seen[k] = False
    solution = solve(problem_of(dataclasses.replace(tracks, seen=seen)), CONFIG)
    np.testing.assert_array_equal(solution.posed, np.arange(16) != k)
    assert pose_errors(solution.scene.R, solution.scene.t, tracks, solution.posed)[1] < 0.01


GAUGE = se3.from_parts(se3.so3_exp(np.array([0.3, -0.5, 0.2])), np.array([1.0, 2.0, -1.0]))


@pytest.mark.parametrize('motion', MOTIONS)
def test_resume_goes_on_in_the_gauge_of_the_guess(motion):
    tracks = watch(travel(16, **MOTIONS[motion]), 600, seed=9, noise_px=0.2, outliers=0.02, life=9)
    guess = known(tracks, np.arange(16) < 6, GAUGE, scale=0.5)
    solution = resume(problem_of(tracks), guess, CONFIG)
    assert solution.posed.all() and solution.error_px < 0.5
    turn_deg, shift = pose_errors(solution.scene.R, solution.scene.t, tracks)
    assert turn_deg < 0.3 and shift < 0.01
    # first frame and scale are those of the guess
    np.testing.assert_allclose(solution.scene.R[0], guess.R[0], atol=1e-12)
    np.testing.assert_allclose(solution.scene.t[0], guess.t[0], atol=1e-12)
    steps = np.linalg.norm(np.diff(solution.scene.centers, axis=0), axis=1)
    truth = 0.5 * np.linalg.norm(np.diff(tracks.centers, axis=0), axis=1)
    assert np.median(steps / truth) == pytest.approx(1.0, abs=0.03)


def test_resume_goes_on_where_there_is_no_parallax_left():
    # 8 frames of motion, then rest: nothing new can start there, the old points hold the pose
    poses = chain(travel(8, **SIDEWAYS), travel(9))
    tracks = watch(poses, 500, seed=10, noise_px=0.2)
    solution = resume(problem_of(tracks), known(tracks, np.arange(16) < 8), CONFIG)
    assert solution.posed.all()
    rest = solution.scene.centers[8:]
    assert np.linalg.norm(rest - rest.mean(axis=0), axis=1).max() < 0.01
    assert pose_errors(solution.scene.R, solution.scene.t, tracks)[1] < 0.01


def test_resume_survives_wrong_points_in_the_guess():
    tracks = watch(travel(16, **CURVE), 600, seed=11, noise_px=0.2, life=9)
    guess = known(tracks, np.arange(16) < 6)
    wrong = np.random.default_rng(1).random(len(guess.X)) < 0.15
    X = np.where(wrong[:, None], guess.X * 1.5, guess.X)
    solution = resume(problem_of(tracks), dataclasses.replace(guess, X=X), CONFIG)
    turn_deg, shift = pose_errors(solution.scene.R, solution.scene.t, tracks)
    assert solution.posed.all() and turn_deg < 0.3 and shift < 0.01


def test_resume_stops_at_a_cut():
    tracks = watch(travel(16, **SIDEWAYS), 500, seed=12, noise_px=0.2)
    seen = tracks.seen.copy()
    seen[9:] = False
    solution = resume(problem_of(dataclasses.replace(tracks, seen=seen)),
                      known(tracks, np.arange(16) < 6), CONFIG)
    np.testing.assert_array_equal(solution.posed, np.arange(16) < 9)
