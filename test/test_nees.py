"""Errors over covariances: known answers, and that of chained windows is what it should be."""

import functools

import numpy as np
import pytest

from longrecon_ros import config
from longrecon_ros.backbones.simulated import SimulatedBackbone
from longrecon_ros.errors import InputError
from longrecon_ros.evaluation.nees import best_scale, normalised, pose_errors, score_nees
from longrecon_ros.geometry import se3
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.preprocess import Preprocessor
from longrecon_ros.synthetic.recipe import Production, Recipe

FAULTS = {'simulated.scale_sigma': 0.25, 'simulated.layer_sigma': 0.1,
          'simulated.warp_sigma': 0.01, 'simulated.pose_translation': 0.002,
          'simulated.pose_rotation_deg': 0.05, 'simulated.depth_noise': 0.005}


def faults(factor):
    """Return settings with all faults so many times the usual ones."""
    return {name: factor * value for name, value in FAULTS.items()}


@functools.lru_cache(maxsize=8)
def film(scene, n_frames, size, seed=0):
    production = Production.of(Recipe(scene, n_frames, size, fps=8.0, seed=seed))
    return [production.film.frame(i).to_frame(use_truth=True)
            for i in range(production.n_frames)]


def score(frames, seed, **changes):
    """Return the NEES of a simulated run; the scale is that of its first window."""
    loaded = config.load(None, {'backbone': 'simulated', 'simulated.seed': seed,
                                'pipeline.use_thread': False, 'loop.use': False, **changes})
    pipeline = Pipeline.from_config(loaded)
    updates = [pipeline.push(frame) for frame in frames] + [pipeline.flush()]
    updates = [update for update in updates if update is not None]
    T_est, covariance = (np.concatenate([getattr(u, name) for u in updates])
                         for name in ('T_odom_camera', 'covariance'))
    first = updates[0].prediction
    prepare = Preprocessor.of(SimulatedBackbone.spec)
    true_depth = np.stack([prepare(f).truth.depth for f in frames[:len(first.frame_ids)]])
    used = (true_depth > 0) & (first.confidence > 0)
    scale = float(np.median(first.depth[used] / true_depth[used]))
    return score_nees(T_est, covariance, np.stack([f.truth.T_world_camera for f in frames]), scale)


def straight(n=40):
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, 2, 3] = np.arange(n)
    return T


def draw(T_true, covariance, scale, rng):
    """Return poses with errors of the covariances (K, 6, 6), the first without."""
    roots = np.linalg.cholesky(covariance)
    e = (roots @ rng.normal(size=(len(T_true), 6, 1)))[..., 0]
    e[0] = 0
    T = np.array(T_true)
    T[:, :3, 3] = scale * T[:, :3, 3] + e[:, :3]
    T[:, :3, :3] = se3.so3_exp(e[:, 3:]) @ T[:, :3, :3]
    return T


def test_errors_of_the_claimed_size_give_one():
    rng = np.random.default_rng(0)
    A = 0.01 * rng.normal(size=(2000, 6, 6))
    covariance = A @ np.swapaxes(A, 1, 2) + 1e-6 * np.eye(6)
    T_true = np.array(straight(2000))
    T_true[:, :3, :3] = se3.so3_exp(rng.normal(size=(2000, 3)))
    T_true = se3.relative(T_true[0], T_true)
    start = se3.exp(rng.normal(size=6))
    nees = score_nees(draw(T_true, covariance, 0.3, rng), covariance, start @ T_true, 0.3)
    np.testing.assert_allclose(nees.ratios, 1, atol=0.06)
    assert nees.share_inside == pytest.approx(0.95, abs=0.015)
    assert len(nees.rows) == 1999 and nees.rows[0] == 1


def test_errors_twice_as_large_give_four():
    rng, covariance = np.random.default_rng(1), np.tile(1e-4 * np.eye(6), (2000, 1, 1))
    T_est = draw(straight(2000), 4 * covariance, 1.0, rng)
    nees = score_nees(T_est, covariance, straight(2000), 1.0)
    np.testing.assert_allclose(nees.ratios, 4, rtol=0.06)


def test_errors_are_in_fixed_axes_of_the_estimate():
    T_true = straight(3)
    T_true[2, :3, :3] = se3.so3_exp([0, 1.0, 0])
    T_est = np.array(T_true)
    T_est[2, :3, :3] = se3.so3_exp([0.01, 0, 0]) @ T_true[2, :3, :3]
    T_est[2, :3, 3] += [0, 0, 0.1]
    start = se3.exp([1, 2, 3, 0.1, 0.2, 0.3])
    errors = pose_errors(T_est, start @ T_true, 1.0)
    np.testing.assert_allclose(errors[2], [0, 0, 0.1, 0.01, 0, 0], atol=1e-12)
    np.testing.assert_allclose(errors[:2], 0, atol=1e-12)


def test_poses_without_covariance_are_left_out():
    covariance = np.tile(np.eye(6), (40, 1, 1))
    covariance[5:8] = np.nan
    nees = score_nees(straight(), covariance, straight())
    assert len(nees.rows) == 36 and not set(nees.rows) & {0, 5, 6, 7}
    assert nees.scale == 1 and nees.ratios.max() == 0
    covariance[:] = np.nan
    with pytest.raises(InputError, match='no pose after the first has a covariance'):
        score_nees(straight(), covariance, straight())


def test_misuse_is_said():
    with pytest.raises(ValueError, match='T_gt, covariance: expected shapes'):
        score_nees(straight(), np.zeros((3, 6, 6)), straight())
    with pytest.raises(InputError, match='fix no scale'):
        best_scale(straight(), np.tile(np.eye(4), (40, 1, 1)))


def test_the_best_scale_is_found():
    T_est = straight()
    T_est[:, :3, 3] *= 0.25
    assert best_scale(T_est, se3.exp([1, 2, 3, 0.1, 0.2, 0.3]) @ straight()) \
        == pytest.approx(0.25)


def test_directions_count_by_their_own_variance():
    covariance = np.diag([1.0, 4.0])[None]
    np.testing.assert_allclose(normalised(np.array([[1.0, 2.0]]), covariance), [2.0])


@pytest.mark.parametrize('scene', ['street', 'indoor'])
def test_covariances_of_a_stream_are_as_large_as_its_errors(scene):
    ratios = [score(film(scene, 86, (80, 60)), seed).ratios for seed in range(3)]
    mean = np.mean(ratios, axis=0)
    assert 0.5 <= mean[0] <= 2 and (mean > 0.3).all() and (mean < 3).all(), ratios


@pytest.mark.slow
@pytest.mark.parametrize('scene', ['street', 'indoor', 'eight'])
@pytest.mark.parametrize('changes, low, high', [
    ({}, 0.5, 2.0), (faults(0.5), 0.3, 3.0), (faults(2.0), 0.3, 3.0),
    ({'simulated.layer_sigma': 0.0}, 0.3, 3.0), ({'layerwise.use': 'never'}, 0.3, 3.0),
    ({'window.size': 10, 'window.overlap': 3}, 0.3, 3.0),
], ids=['usual', 'half', 'double', 'no layers', 'not layer-wise', 'short windows'])
def test_covariances_hold_without_tuning(scene, changes, low, high):
    ratios = [score(film(scene, None, (80, 60), world), 100 * world + seed, **changes).ratios
              for world, seed in ((0, 0), (1, 1), (0, 2), (1, 3))]
    assert low <= np.mean(ratios, axis=0)[0] <= high, ratios
