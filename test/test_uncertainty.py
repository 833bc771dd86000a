"""Covariances of chained windows: propagation, what they are measured from, and faults."""

import numpy as np
import pytest

from longrecon_ros.alignment import uncertainty
from longrecon_ros.alignment.overlap_noise import disagreement, NoisePool
from longrecon_ros.alignment.uncertainty import (
    ChainUncertainty,
    compose,
    DriftState,
    lever,
    to_base,
)
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.types import FrameState, PointCloud, Prediction, Update

SIZE, OVERLAP, DEPTH = 16, 6, 5.0
STRIDE = SIZE - OVERLAP


def path(n, step=0.2, turn=0.02):
    """Return true poses (n, 4, 4) of a camera that goes ahead and turns to the right."""
    angle = turn * np.arange(n)
    headings = np.stack([np.sin(angle), np.zeros(n), np.cos(angle)], axis=-1)
    centres = np.concatenate([np.zeros((1, 3)), np.cumsum(step * headings[:-1], axis=0)])
    return se3.from_parts(se3.so3_exp(np.stack([0 * angle, angle, 0 * angle], -1)), centres)


def window(ids, poses, states=None, gauge=None):
    """Return an aligned window of constant depth."""
    n = len(ids)
    points = np.zeros((n, 3, 4, 3)) + [0, 0, DEPTH]
    return Prediction(ids, poses, points, np.ones((n, 3, 4)), np.zeros((n, 3, 4, 3), np.uint8),
                      states=states, gauge=gauge)


def noisy_windows(true, sigma_m=0.0, sigma_rad=0.0, seed=0, states=None, shrink=0.0):
    """Return windows of a path with noise of their own, each smaller about its start by a share.

    ``states`` are those of all frames.
    """
    rng, out = np.random.default_rng(seed), []
    for k, start in enumerate(range(0, len(true) - SIZE + 1, STRIDE)):
        ids = np.arange(start, start + SIZE)
        noise = rng.normal(size=(SIZE, 6)) * np.repeat([sigma_m, sigma_rad], 3)
        poses = true[ids] @ se3.exp(noise)
        poses[:, :3, 3] += ((1 - shrink)**k - 1) * (true[ids] - true[start])[:, :3, 3]
        out.append(window(ids, poses, None if states is None else states[ids]))
    return out


def follow(windows, chain=None, linked=(), **options):
    """Return the covariances (K, 6, 6) of all frames; ``linked`` may hold a bool a window."""
    chain, previous, out = chain or ChainUncertainty(**options), None, []
    for k, current in enumerate(windows):
        n_overlap = 0 if previous is None else OVERLAP
        out.append(chain.add(previous, current, n_overlap, linked[k] if linked else True))
        previous = current
    return np.concatenate(out)


def random_pose(rng):
    return se3.exp(rng.normal(size=6))


def random_covariance(rng, n=6):
    A = rng.normal(size=(n, n))
    return A @ A.T


def error(T_est, T_true):
    """Return the error (6,) of a pose as the covariances mean it."""
    return np.concatenate([T_est[:3, 3] - T_true[:3, 3],
                           se3.so3_log(T_est[:3, :3] @ T_true[:3, :3].T)])


def disturbed(T, e):
    """Return the pose with that error."""
    return se3.from_parts(se3.so3_exp(e[3:]) @ T[:3, :3], T[:3, 3] + e[:3])


def jacobian(function, n=6, eps=1e-6):
    """Return the derivative (6, n) of an error at 0, by central differences."""
    return np.stack([(function(eps * e) - function(-eps * e)) / (2 * eps) for e in np.eye(n)], 1)


@pytest.mark.parametrize('seed', range(3))
def test_compose_is_what_disturbing_both_poses_does(seed):
    rng = np.random.default_rng(seed)
    T_odom_a, T_a_b = random_pose(rng), random_pose(rng)
    cov_a, cov_b = random_covariance(rng), random_covariance(rng)
    T = T_odom_a @ T_a_b
    by_a = jacobian(lambda e: error(disturbed(T_odom_a, e) @ T_a_b, T))
    by_b = jacobian(lambda e: error(T_odom_a @ T_a_b @ se3.exp(e), T))
    want = by_a @ cov_a @ by_a.T + by_b @ cov_b @ by_b.T
    np.testing.assert_allclose(compose(cov_a, T_odom_a, T_a_b, cov_b), want, atol=1e-6)


@pytest.mark.parametrize('seed', range(3))
def test_to_base_is_what_disturbing_the_camera_does(seed):
    rng = np.random.default_rng(seed)
    T, E, cov = random_pose(rng), random_pose(rng), random_covariance(rng)
    T_base = E @ T @ se3.inverse(E)
    J = jacobian(lambda e: error(E @ disturbed(T, e) @ se3.inverse(E), T_base))
    np.testing.assert_allclose(to_base(cov, T, E), J @ cov @ J.T, atol=1e-6)


def test_the_lever_is_that_of_a_similarity_about_a_place():
    rng = np.random.default_rng(0)
    p, offset = rng.normal(size=(2, 3))
    T = se3.from_parts(se3.so3_exp(rng.normal(size=3)), p + offset)

    def moved(e):
        about = Sim3(1.0, np.eye(3), p)
        G = about @ Sim3(np.exp(e[6]), se3.so3_exp(e[3:6]), e[:3]) @ about.inverse()
        return error(G.apply_to_poses(T), T)
    np.testing.assert_allclose(lever(offset)[:6, :7], jacobian(moved, 7), atol=1e-8)


def test_propagation_is_that_of_a_random_chain():
    # a gauge that goes on: what a window adds is known, and there is nothing to measure
    true, n_runs = path(84, turn=0.05), 4000
    windows = [window(ids, true[ids]) for ids in np.arange(84).reshape(7, 12)]
    chain, previous = ChainUncertainty(), None
    for current in windows:
        chain.add(previous, current, 0, is_fitted=False)
        previous = current
    state, rng = chain.state, np.random.default_rng(1)
    T = np.broadcast_to(state.place, (n_runs, 4, 4))
    for current in reversed(windows[1:]):       # each error moves all that comes later
        e = rng.normal(size=(n_runs, 7)) * np.sqrt(uncertainty._of_drift(current, 0)[:7])
        centre, R = current.T_window_camera[0, :3, 3], se3.so3_exp(e[:, 3:6])
        arm = np.exp(e[:, 6:]) * (R @ (T[:, :3, 3] - centre)[..., None])[..., 0]
        T = se3.from_parts(R @ T[:, :3, :3], centre + arm + e[:, :3])
    errors = np.concatenate([T[:, :3, 3] - state.place[:3, 3], se3.so3_log(
        T[:, :3, :3] @ state.place[:3, :3].T)], axis=1)
    drawn = errors.T @ errors / n_runs
    sigma = np.sqrt(np.diag(drawn))
    np.testing.assert_allclose(drawn / np.outer(sigma, sigma),
                               state.P[:6, :6] / np.outer(sigma, sigma), atol=0.08)


def test_covariances_are_symmetric_and_positive_definite_and_grow():
    covariance = follow(noisy_windows(path(216, turn=0.0), 0.01, 0.002))
    np.testing.assert_array_equal(covariance, np.swapaxes(covariance, 1, 2))
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    last = np.trace(covariance[:, :3, :3], axis1=1, axis2=2)[SIZE - 1::STRIDE]
    assert (np.diff(last[3:]) > 0).all() and last[-1] > 20 * last[3]


def test_the_first_camera_is_certain_but_for_a_floor():
    covariance = follow(noisy_windows(path(26)))
    assert np.sqrt(covariance[0].diagonal().max()) < 1e-3 * DEPTH
    assert (np.linalg.eigvalsh(covariance[0]) > 0).all()


def test_windows_that_agree_entirely_are_not_certain():
    covariance = follow(noisy_windows(path(516)))
    assert (np.sqrt(covariance[-1].diagonal()) > [1e-3 * DEPTH] * 3 + [1e-4] * 3).all()


@pytest.mark.parametrize('sigma_m, sigma_rad', [(0.01, 0.001), (0.02, 0.002), (0.04, 0.004)])
def test_noise_is_measured(sigma_m, sigma_rad):
    pool, previous = NoisePool(), None
    for current in noisy_windows(path(416), sigma_m, sigma_rad):
        if previous is not None:
            pool = pool.add(disagreement(previous, current, DEPTH), 0.0)
        previous = current
    noise = pool.noise()
    assert np.sqrt(noise.position) * DEPTH == pytest.approx(sigma_m, rel=0.15)
    assert np.sqrt(noise.rotation) == pytest.approx(sigma_rad, rel=0.15)
    assert noise.trend < (0.1 * sigma_rad)**2


def test_windows_that_turn_too_fast_show_a_trend():
    ids, turn = np.arange(SIZE), 2e-3
    a = window(ids, path(SIZE))
    bend = se3.from_parts(se3.so3_exp(turn * ids[:, None] * np.eye(3)[1]), np.zeros(3))
    b = window(ids, path(SIZE) @ bend)
    pool = NoisePool().add(disagreement(a, b, DEPTH), 0.0)
    assert np.sqrt(3 * 2 * pool.noise().trend) == pytest.approx(turn, rel=0.01)


def test_larger_disagreement_gives_larger_covariance():
    small, large = (follow(noisy_windows(path(216), f * 0.01, f * 0.002))[-1] for f in (1, 3))
    assert (large.diagonal()[3:] > 5 * small.diagonal()[3:]).all()


def test_an_unlinked_window_adds_a_lot_for_ever():
    windows = noisy_windows(path(116), 0.01, 0.002)
    usual = follow(windows)
    broken = follow(windows, linked=[k != 4 for k in range(len(windows))])
    first = SIZE + 3 * STRIDE                   # the first new frame of window 4
    np.testing.assert_array_equal(broken[:first], usual[:first])
    sigma = np.sqrt(np.diagonal(broken - usual, axis1=1, axis2=2))[first:]
    assert (sigma[:, 3:] > 0.1).all() and (sigma[:, :3] > 0.1 * DEPTH).all()


def test_lost_frames_have_no_covariance_and_leave_doubt():
    true, states = path(116), np.zeros(116, np.uint8)
    usual = follow(noisy_windows(true, 0.01, 0.002))
    states[50:53] = FrameState.LOST
    covariance = follow(noisy_windows(true, 0.01, 0.002, states=states))
    assert np.isnan(covariance[50:53]).all()
    assert np.isfinite(np.delete(covariance, [50, 51, 52], axis=0)).all()
    sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    assert (sigma[53:, 3:] > 0.1).all() and (sigma[:50, 3:] < 0.02).all()
    assert (sigma[53:, :3] > 3 * 0.2).all() and (sigma[-1] >= np.sqrt(usual[-1].diagonal())).all()


def test_standing_adds_nothing():
    true = np.concatenate([path(46), np.repeat(path(46)[-1:], 170, axis=0)])
    states = np.repeat([FrameState.TRACKED, FrameState.STATIONARY], [46, 170]).astype(np.uint8)
    covariance = follow(noisy_windows(true, states=states))
    # two frames that are equally far into their windows
    np.testing.assert_allclose(covariance[105], covariance[-1], rtol=1e-6, atol=1e-12)


def test_turning_on_the_spot_leaves_the_position():
    true = path(216, step=0.0)
    states = np.full(216, FrameState.ROTATION_ONLY, np.uint8)
    moving = follow(noisy_windows(path(216), 0.0, 0.002))[-1]
    covariance = follow(noisy_windows(true, 0.0, 0.002, states=states))
    assert (covariance[-1].diagonal()[:3] < 0.2 * moving.diagonal()[:3].max()).all()
    np.testing.assert_allclose(covariance[-1].diagonal()[3:], moving.diagonal()[3:], rtol=0.3)


def test_single_shared_frames_are_enough():
    windows, previous, chain = [], None, ChainUncertainty()
    for start in range(0, 60, 5):
        ids = np.arange(start, start + 6)
        windows.append(window(ids, path(70)[ids]))
    for current in windows:
        covariance = chain.add(previous, current, 0 if previous is None else 1)
        assert np.isfinite(covariance).all() and (np.linalg.eigvalsh(covariance) > 0).all()
        previous = current


def test_a_gauge_that_goes_on_drifts_with_the_way():
    true = path(66)
    fitted = noisy_windows(true)
    continued = [window(w.frame_ids, w.T_window_camera, gauge=3) for w in fitted]
    a, b = ChainUncertainty(), ChainUncertainty()
    follow(continued, a)
    for k, current in enumerate(fitted):
        b.add(fitted[k - 1] if k else None, current, OVERLAP if k else 0, is_fitted=False)
    np.testing.assert_array_equal(a.state.P, b.state.P)
    assert (a.state.P.diagonal()[:7] > 0).all()


def test_turns_are_wrong_by_a_share():
    true = path(216, step=0.0, turn=0.01)
    exact, doubtful = (follow(noisy_windows(true), turn_share=share)[-1] for share in (0.0, 0.02))
    added = (doubtful - exact)[3:, 3:]
    np.testing.assert_allclose(added, np.diag([0, (0.02 * 2.15)**2, 0]), atol=1e-5)


def test_a_scale_that_runs_away_is_seen():
    steady, running = ChainUncertainty(), ChainUncertainty()
    true = path(216, turn=0.0)
    follow(noisy_windows(true, 0.002, 0.001), steady)
    follow(noisy_windows(true, 0.002, 0.001, shrink=0.05), running)
    log_scale = len(range(0, 201, STRIDE)) * np.log(0.95)
    assert running.state.P[6, 6] > (0.5 * log_scale)**2 > 10 * steady.state.P[6, 6]


def test_the_state_goes_on_elsewhere():
    windows = noisy_windows(path(216), 0.01, 0.002)
    whole = ChainUncertainty(turn_share=0.01)
    want = follow(windows, whole)
    first = ChainUncertainty(turn_share=0.01)
    follow(windows[:9], first)
    second = ChainUncertainty(DriftState.from_array(first.state.to_array()))
    got = [second.add(windows[k - 1], windows[k], OVERLAP) for k in range(9, len(windows))]
    np.testing.assert_array_equal(np.concatenate(got), want[SIZE + 8 * STRIDE:])
    np.testing.assert_array_equal(second.state.to_array(), whole.state.to_array())
    with pytest.raises(ValueError, match='values: expected shape'):
        DriftState.from_array(np.zeros(7))


def test_going_on_without_the_state_is_no_certainty():
    windows = noisy_windows(path(216), 0.01, 0.002)
    covariance = ChainUncertainty().add(windows[-2], windows[-1], OVERLAP)
    assert (np.sqrt(covariance[-1].diagonal()[3:]) > 0.1).all()
    assert (covariance[-1].diagonal() > follow(windows)[-1].diagonal()).all()


def test_an_update_without_covariance_has_none():
    current = window(np.arange(3), path(3))
    update = Update(np.arange(3), np.arange(3), path(3), np.zeros(3), np.eye(4),
                    PointCloud.empty(), current)
    assert update.covariance.shape == (3, 6, 6) and np.isnan(update.covariance).all()
