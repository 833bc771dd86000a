"""What passes from window to window: grid, memory of baseline, guess, focal length."""

import numpy as np
import pytest

from longrecon_ros.geometry import se3
from longrecon_ros.sfm.bundle import Scene
from longrecon_ros.sfm.session import FrameRecord, MIN_SHARED_TRACKS, Points, Session
from longrecon_ros.sfm.tracks import Observations, Tracker, TrackerConfig
from longrecon_ros.sfm.window import Solution

K = np.array([[300.0, 0, 159.5], [0, 310.0, 119.5], [0, 0, 1]])
PICTURE = np.zeros((12, 16, 3), np.uint8)


def record(ids, uv=None, T=None):
    ids = np.asarray(ids, np.int64)
    uv = np.zeros((len(ids), 2)) if uv is None else np.asarray(uv)
    return FrameRecord(Observations(ids, uv.astype(np.float32), 1.0, 0.0), PICTURE,
                       PICTURE[..., 0], T)


def at(x, y=0.0, z=0.0):
    """Return a level pose at a place."""
    return se3.from_parts(np.eye(3), np.array([x, y, z], float))


def session(**fields):
    return Session(Tracker(TrackerConfig()), K=K, size=(320, 240), **fields)


def drive(n, n_memory, place, n_frames=60, life=200, step=10, size=16):
    """Move a session over windows of a stream; yield it with the window's frame ids.

    Frame i sees tracks 5 i to 5 i + ``life``.
    """
    s = session()
    for first in range(0, n_frames, step):
        window = list(range(first, first + size))
        s.move_on(window, n_memory)
        for i in window:
            if i not in s.records:
                s.records[i] = record(np.arange(5 * i, 5 * i + life), T=place(i))
        yield s, window
        if first + step >= n:
            return


def test_grid_puts_observations_where_they_belong():
    s = session()
    uv = {0: [[0, 0], [10, 20], [30, 40]], 1: [[11, 21], [1, 2], [5, 5]], 2: [[31, 41], [7, 7]]}
    ids = {0: [3, 5, 9], 1: [5, 7, 8], 2: [9, 12]}
    s.records = {i: record(ids[i], uv[i]) for i in ids}
    found, xy, seen = s.grid([0, 1, 2])
    assert found.tolist() == [5, 9]                 # 3, 7, 8 and 12 are seen once
    assert seen.tolist() == [[True, True], [True, False], [False, True]]
    pixels = xy * [300, 310] + [159.5, 119.5]
    np.testing.assert_allclose(pixels[0], [[10, 20], [30, 40]], atol=1e-4)
    np.testing.assert_allclose(pixels[1, 0], [11, 21], atol=1e-4)
    np.testing.assert_allclose(pixels[2, 1], [31, 41], atol=1e-4)


def test_grid_of_frames_in_any_choice():
    s = session()
    s.records = {i: record(np.arange(i, i + 4)) for i in range(5)}
    ids, xy, seen = s.grid([1, 4])
    assert ids.tolist() == [4] and seen.all() and xy.shape == (2, 1, 2)
    ids, xy, seen = s.grid([0])
    assert len(ids) == 0 and xy.shape == (1, 0, 2) and seen.shape == (1, 0)


def test_grid_without_any_tracks():
    s = session()
    s.records = {0: record([]), 1: record([])}
    ids, xy, seen = s.grid([0, 1])
    assert len(ids) == 0 and xy.shape == (2, 0, 2) and seen.shape == (2, 0)


def test_memory_is_bounded_and_records_do_not_pile_up():
    for s, window in drive(200, 4, lambda i: at(0.1 * i), n_frames=200):
        assert len(s.memory) <= 4 and s.memory == sorted(s.memory)
        assert not set(s.memory) & set(window)
        assert set(window) <= set(s.records) and set(s.memory) <= set(s.records)
        assert len(s.records) <= 16 + 4 + 10


def test_memory_shares_tracks_with_the_window():
    for s, window in drive(100, 6, lambda i: at(0.1 * i), life=100):
        newest_shared = min(window) + 5
        for i in s.memory:
            common = np.intersect1d(s.records[i].seen.ids, s.records[newest_shared].seen.ids)
            assert len(common) >= MIN_SHARED_TRACKS


def test_memory_keeps_the_baseline_of_a_camera_that_stopped():
    # it moves to frame 20, then rests; all frames go on seeing the same tracks
    s = session()
    for first in range(0, 120, 10):
        window = list(range(first, first + 16))
        s.move_on(window, 3)
        for i in window:
            if i not in s.records:
                s.records[i] = record(np.arange(100), T=at(0.1 * min(i, 20)))
    places = [0.1 * min(i, 20) for i in s.memory]
    assert len(s.memory) == 3 and min(places) == 0.0
    assert np.ptp(places) > 1.0         # spread out, not three neighbours


def test_memory_goes_by_flow_where_poses_are_unknown():
    s = session()
    for i in range(16):
        s.records[i] = record(np.arange(100), np.full((100, 2), 3.0 * min(i, 4)))
    s.move_on(list(range(16)), 2)
    s.move_on(list(range(10, 26)), 2)
    assert 0 in s.memory


def test_no_memory_is_kept_when_none_is_wanted_or_nothing_is_shared():
    for s, _ in drive(60, 0, lambda i: at(0.1 * i)):
        assert s.memory == []
    s = session()
    s.records = {i: record(np.arange(100)) for i in range(16)}
    s.move_on(list(range(16)), 6)
    s.move_on(list(range(100, 116)), 6)
    assert s.memory == []


def test_guess_holds_known_poses_and_points():
    rng = np.random.default_rng(0)
    T = [se3.from_parts(se3.so3_exp(rng.normal(size=3)), rng.normal(size=3)) for _ in range(3)]
    s = session(points=Points(np.arange(0, 100, 2), rng.normal(size=(50, 3)), np.ones(50)))
    s.records = {0: record([], T=T[0]), 1: record([]), 2: record([], T=T[2])}
    ids = np.arange(10, 100)
    guess = s.guess([0, 1, 2], ids)
    assert guess.posed.tolist() == [True, False, True]
    for i in (0, 2):
        T_camera_gauge = se3.inverse(T[i])
        np.testing.assert_allclose(guess.R[i], T_camera_gauge[:3, :3])
        np.testing.assert_allclose(guess.t[i], T_camera_gauge[:3, 3])
    is_known = ids % 2 == 0
    assert np.isfinite(guess.X[is_known]).all() and np.isnan(guess.X[~is_known]).all()
    np.testing.assert_array_equal(guess.X[is_known], s.points.X[5:])


def test_too_little_is_no_guess():
    points = Points(np.arange(50), np.zeros((50, 3)), np.ones(50))
    s = session(points=points)
    s.records = {0: record([], T=at(0)), 1: record([]), 2: record([])}
    assert s.guess([0, 1, 2], np.arange(50)) is None        # one pose
    s.records[1].T_gauge_camera = at(1)
    assert s.guess([0, 1, 2], np.arange(50)) is not None
    assert s.guess([0, 1, 2], np.arange(40, 90)) is None    # ten points


def solution(log_focal, information):
    empty = Scene(np.zeros((0, 3, 3)), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 0, 2)),
                  np.zeros((0, 0), bool), 1.0)
    return Solution(empty, np.zeros(0, bool), 0.0, 1.0, log_focal, information)


def test_the_belief_about_the_focal_length_adds_up():
    s = session(focal_information=100.0)
    assert s.focal_px() == pytest.approx(np.sqrt(300 * 310))
    assert s.focal_prior().information == 100.0 and s.focal_prior().mean == 0.0
    s.learn_focal(solution(0.01, 50.0))
    s.learn_focal(solution(-0.004, 25.0))
    assert s.log_focal == pytest.approx(0.006) and s.focal_prior().information == 175.0
    np.testing.assert_allclose(s.believed_K()[[0, 1], [0, 1]], np.exp(0.006) * K[[0, 1], [0, 1]])
    np.testing.assert_array_equal(s.believed_K()[:, 2], K[:, 2])
    uv = np.array([[20.0, 200.0]])
    np.testing.assert_allclose(s.normalise(uv), (uv - K[:2, 2]) / [300, 310] / np.exp(0.006))
    assert s.K is K


def test_an_exact_focal_length_is_not_learnt():
    s = session(focal_information=float('inf'))
    assert s.focal_prior() is None
    s.learn_focal(solution(0.05, 1000.0))
    assert s.log_focal == 0.0 and s.focal_prior() is None
