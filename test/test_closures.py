"""What a closure must withstand: geometry, drift, look-alikes, confirmation, a second look."""

import dataclasses

import numpy as np
import pytest

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import project
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.loop.closer import Estimate, LoopCloser
from longrecon_ros.loop.closure import _Pairs, ClosureConfig, match_features, verify
from longrecon_ros.loop.recognition import Candidate
from longrecon_ros.loop.window import frames_of, place_together
from longrecon_ros.types import Keyframe, Prediction, View

K = np.array([[200.0, 0, 159.5], [0, 200, 119.5], [0, 0, 1]])
N = 120


def scene(seed=0):
    """Return points (N, 3) before a camera, and their features."""
    rng = np.random.default_rng(seed)
    points = np.stack([rng.uniform(-2, 2, N), rng.uniform(-1.5, 1.5, N), rng.uniform(3, 8, N)], 1)
    return points, rng.integers(0, 256, (N, 32), dtype=np.uint8)


def keyframe(points, features, submap_id=0, noise=0.01, noise_px=0.3, seed=1):
    rng = np.random.default_rng(seed + submap_id)
    uv = project(points, K) + rng.normal(0, noise_px, (len(points), 2))
    seen = points * (1 + noise * rng.standard_normal((len(points), 1)))
    return Keyframe(submap_id, submap_id, np.eye(4), K, uv, features, seen)


TRUE = Sim3.exp(np.array([0.3, -0.1, 0.2, 0.02, 0.05, -0.03, 0.1]))


def pair(T=TRUE, **options):
    points, features = scene()
    return (keyframe(T.apply(points), features, 0, **options),
            keyframe(points, features, 1, **options))


# --- geometry ------------------------------------------------------------------------------------

def test_the_similarity_between_two_views_is_found():
    match = verify(*pair())
    assert match.n_inliers >= 0.95 * N
    error = (match.T_target_source.inverse() @ TRUE).log()
    assert np.abs(error[:3]).max() < 0.02 and np.abs(error[3:]).max() < 0.003
    assert (np.abs(error) < 5 * match.sigma).all() and (match.sigma < 0.01).all()


def test_wrong_matches_do_not_matter_until_they_are_most():
    target, source = pair()
    rng = np.random.default_rng(5)
    for share, is_found in ((0.4, True), (0.9, False)):
        mixed = np.arange(N)
        wrong = rng.permutation(N)[:int(share * N)]
        mixed[wrong] = np.roll(wrong, 1)
        false = dataclasses.replace(source, features=source.features[mixed])
        match = verify(target, false)
        assert (match is not None) == is_found, share
        if match is not None:
            assert np.abs((match.T_target_source.inverse() @ TRUE).log()).max() < 0.03


def test_other_places_and_empty_images_are_refused():
    target, _ = pair()
    points, features = scene(9)
    assert verify(target, keyframe(points, features, 1)) is None
    # the same features, elsewhere in space: alike but not the same place
    assert verify(target, keyframe(points, target.features, 1)) is None
    empty = keyframe(points[:0], features[:0], 1)
    assert verify(target, empty) is None and verify(empty, target) is None
    lost = dataclasses.replace(target, points=np.full((N, 3), np.nan))
    assert verify(lost, target) is None and len(match_features(lost, target)[0]) == 0


def test_pairs_in_one_corner_are_not_enough():
    points, features = scene()
    corner = points * [0.1, 0.1, 1] + [2.0, 1.2, 1.5]
    views = [keyframe(p, features, i) for i, p in enumerate((TRUE.apply(corner), corner))]
    assert verify(*views) is None
    assert verify(*views, ClosureConfig(min_spread=1e-4)) is not None


def test_derivatives_are_those_of_the_residuals():
    target, source = pair()
    pairs = _Pairs(target, source, np.arange(N), np.arange(N), 0.012)
    rows = np.arange(N)
    _, J = pairs._linearised(TRUE, rows)
    numeric = np.stack([(pairs._linearised(TRUE @ Sim3.exp(1e-6 * e), rows)[0]
                         - pairs._linearised(TRUE @ Sim3.exp(-1e-6 * e), rows)[0]) / 2e-6
                        for e in np.eye(7)], axis=1)
    np.testing.assert_allclose(J, numeric, atol=1e-6)


# --- doubts --------------------------------------------------------------------------------------

class Index:
    """Answers what it was told to, and knows how many it holds."""

    def __init__(self, answers):
        self._answers, self.n = answers, 0

    def query(self, keyframe, exclude_newest=None):
        """Return the places that were given for this keyframe."""
        return [Candidate(i, 1.0) for i in self._answers.get(keyframe.submap_id, ())]

    def add(self, _keyframe):
        """Count."""
        self.n += 1
        return self.n - 1


class World:
    """Submaps along a line, one unit apart, that come back after ``lap``; each has a scene."""

    def __init__(self, answers, lap=20, drift=0.01, aliases=(), n_confirm=2, **options):
        self.lap, self.aliases = lap, dict(aliases)
        self.keyframes = {}
        self.estimate = Estimate(self.pose, lambda a, b: float(abs(a - b)))
        self.closer = LoopCloser(Index(answers), [], self.keyframes.get, ClosureConfig(), 10,
                                 0.1, n_confirm, **options)
        self._drift = drift

    def pose(self, i):
        """Return the estimate of where a submap lies: a closed way, and drift on it."""
        return Sim3(1.0, np.eye(3), np.array([i % self.lap + self._drift * i, 0, 0]))

    def run(self, n):
        """Take keyframes one by one; return all closures."""
        found = []
        for i in range(n):
            points, features = scene(100 + self.aliases.get(i, i % self.lap))
            self.keyframes[i] = keyframe(points, features, i)
            found += self.closer.add(self.keyframes[i], self.estimate, self.closer.index.n)
        return [(c.target_id, c.source_id) for c in found]


def test_a_closure_waits_for_another_one():
    assert World({22: [2]}).run(30) == []
    assert World({22: [2], 23: [3]}).run(30) == [(2, 22), (3, 23)]
    assert World({22: [2], 29: [9]}).run(30) == [], 'too late to confirm'
    assert World({22: [2]}, n_confirm=1).run(30) == [(2, 22)]


def test_closures_that_contradict_each_other_do_not_confirm():
    # 23 looks like 8, where the way does not lead
    assert World({22: [2], 23: [8]}, aliases={23: 8}).run(30) == []


def test_what_drift_cannot_explain_is_another_place():
    world = World({12: [2], 13: [3]}, aliases={12: 2, 13: 3})
    assert world.run(20) == [] and world.closer.counts.n_too_far == 2
    world = World({22: [2], 23: [3]}, drift=0.3)
    assert world.run(30) == [] and world.closer.counts.n_too_far == 2, 'too much drift'


def test_where_a_place_that_is_ruled_out_fits_better_none_is_believed():
    world = World({22: [2, 12], 23: [3]}, aliases={12: 2})
    # the true place is seen in part only: its look-alike has more in common
    few = np.arange(N) < 60
    original = world.keyframes.get

    def get(i):
        found = original(i)
        if i != 2:
            return found
        return dataclasses.replace(found, uv=found.uv[few], features=found.features[few],
                                   points=found.points[few])
    world.closer._keyframe_of = get
    assert world.run(30) == [] and world.closer.counts.n_ambiguous == 1


@pytest.mark.parametrize('answer, closures', [
    (Sim3.identity(), [(2, 22), (3, 23)]), (None, []),
    (Sim3(1.0, np.eye(3), np.array([3.0, 0, 0])), []), (Sim3(2.0, np.eye(3), np.zeros(3)), [])])
def test_a_second_look_may_deny(answer, closures):
    world = World({22: [2], 23: [3]}, look_again=lambda a, b: answer)
    assert world.run(30) == closures
    assert world.closer.counts.n_denied == (0 if closures else 2)


# --- two places in one window --------------------------------------------------------------------

def test_two_places_in_one_window_give_the_similarity():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    depths = rng.uniform(2, 6, (2, 24, 32))
    views = [View(i, i, np.eye(4), K, rgb, depth) for i, depth in enumerate(depths)]
    assert [frame.index for frame in frames_of(*views)] == [0, 1]
    T_target_source = se3.exp(np.array([0.4, 0.1, -0.2, 0.1, -0.2, 0.05]))
    # the net has a unit of its own; the submaps' units are 2 and 5 of these
    gauge = se3.exp(rng.standard_normal(6))
    local = np.zeros((2, 24, 32, 3))
    local[..., 2] = depths / np.array([2.0, 5.0])[:, None, None]
    prediction = Prediction(np.arange(2), np.stack([gauge, gauge @ T_target_source]), local,
                            np.ones((2, 24, 32)), np.stack([rgb, rgb]))
    T = place_together(prediction, *views)
    assert T.scale == pytest.approx(2 / 5, rel=1e-6)
    np.testing.assert_allclose(T.R, T_target_source[:3, :3], atol=1e-9)
    np.testing.assert_allclose(T.t, 2 * T_target_source[:3, 3], rtol=1e-5)
    wild = dataclasses.replace(prediction, local_points=local * rng.uniform(
        0.3, 3, (2, 24, 32, 1)))
    assert place_together(wild, *views) is None
    lost = dataclasses.replace(prediction, states=np.array([0, 3], np.uint8))
    assert place_together(lost, *views) is None
