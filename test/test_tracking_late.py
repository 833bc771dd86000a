"""The tracker when references come late: new points on the way, and bounded work an image."""

import numpy as np
import pytest
from tracked_films import drive, EXACT, normalised, PERIOD_NS, shot, track, tracked, worst

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import unproject
from longrecon_ros.tracking import (
    catching_up,
    following,
    Reference,
    Tracker,
    tracker as tracking,
    TrackingConfig,
)
from longrecon_ros.tracking.renewing import triangulate
from longrecon_ros.types import FrameState


def count(monkeypatch, module, name):
    """Count the calls of a module's function, which does its work as ever."""
    real, calls = getattr(module, name), []

    def counted(*args, **kwargs):
        calls.append(name)
        return real(*args, **kwargs)
    monkeypatch.setattr(module, name, counted)
    return calls


def add(tracker, film, frames):
    """Give a tracker some frames of a film; return the answers."""
    return [tracker.add(i, i * PERIOD_NS, film.images[i], film.camera) for i in frames]


def place_error(film, pose):
    """Return the error of a pose's place in median depths."""
    way = se3.relative(pose.T_odom_camera, film.T_odom_camera[pose.frame_id])[:3, 3]
    return np.linalg.norm(way) / film.median_depth


@pytest.mark.parametrize('late', [22, 30])
def test_late_references_lose_hardly_an_image(late):
    film = drive()
    poses = track(film, every=15, late=late)
    assert len(poses) == len(film.images) - 1
    assert len(tracked(poses)) > 0.95 * len(poses)
    assert worst(film, poses)[0] < 0.04 and worst(film, poses)[1] < 1.2
    assert 0.3 < normalised(film, poses).mean() < 3


def test_without_any_other_reference_it_goes_on_and_is_not_too_sure():
    film = drive()
    poses = track(film, every=1000, late=8)
    assert len(tracked(poses)) > 0.95 * len(poses)
    assert normalised(film, poses).mean() < 3 and worst(film, poses)[0] < 0.08


def test_the_depth_of_triangulated_points_is_right_within_its_deviation():
    rng = np.random.default_rng(0)
    K = np.array([[400.0, 0, 319.5], [0, 400.0, 239.5], [0, 0, 1]])
    n, sigma_px = 400, 0.6
    at = unproject(rng.uniform((0, 0), (639, 479), (n, 2)), rng.uniform(4, 30, n), K)
    T_b = se3.exp(np.array([0.3, 0.0, 1.2, 0.0, 0.05, 0.01]))

    def rays(T):
        local = se3.apply(se3.inverse(T), at)
        ray = local / local[:, 2:] + np.c_[rng.normal(0, sigma_px / 400, (n, 2)), np.zeros(n)]
        return (ray / np.linalg.norm(ray, axis=1, keepdims=True)) @ T[:3, :3].T
    centre_a = np.zeros((n, 3))
    points, sigma, error_px = triangulate(centre_a, rays(np.eye(4)), T_b[:3, 3], rays(T_b), 400.0,
                                          sigma_px)
    good = sigma < 0.1
    assert 100 < good.sum() < n and (sigma[~good] >= 0.1).all()
    away = [np.linalg.norm(p - T_b[:3, 3], axis=1)[good] for p in (points, at)]
    score = np.log(away[0] / away[1]) / sigma[good]
    assert 0.6 < np.sqrt((score**2).mean()) < 1.3 and np.abs(np.median(score)) < 0.2
    assert np.median(error_px[good]) < sigma_px
    # rays that part, and rays that are parallel, meet nowhere
    apart = triangulate(centre_a[:1], np.array([[-0.6, 0, 0.8]]), np.array([1.0, 0, 0]),
                        np.array([[0.6, 0, 0.8]]), 400.0, sigma_px)
    alike = triangulate(centre_a[:1], np.array([[0.0, 0, 1]]), np.array([1.0, 0, 0]),
                        np.array([[0.0, 0, 1]]), 400.0, sigma_px)
    assert np.isinf(apart[1]).all() and np.isinf(alike[1]).all()


def test_new_points_of_a_film_lie_on_its_surfaces():
    film, tracker, scores = drive(), Tracker(EXACT), []
    add(tracker, film, range(8))
    tracker.set_reference(film.reference(0))
    for i in range(8, 60):
        before = tracker._landmarks
        add(tracker, film, [i])
        if tracker._landmarks is not before:
            landmarks, T = tracker._landmarks, tracker._origin.T_odom_camera
            new = landmarks.is_new & ~np.isin(landmarks.points, before.points).all(axis=1)
            depth = se3.apply(se3.inverse(T), landmarks.points[new])[:, 2]
            x, y = np.clip((landmarks.uv[new] / 5).astype(int), 0, (63, 47)).T
            sigma = (np.linalg.norm(landmarks.deviation[new], axis=1)
                     / np.linalg.norm(landmarks.points[new] - T[:3, 3], axis=1))
            true = film.depth[i][y, x]
            scores.append((np.log(depth[true > 0] / true[true > 0]) / sigma[true > 0]))
    scores = np.abs(np.concatenate(scores))
    # some lie on edges, where the nearest pixel of the small map is of something else
    assert len(scores) > 60 and np.median(scores) < 1.0 and (scores < 3).mean() > 0.8


def test_a_lost_image_takes_no_more_flow_than_a_good_one(monkeypatch):
    film, other = shot('street'), shot('indoor')
    tracker = Tracker(EXACT)
    add(tracker, film, range(4))
    tracker.set_reference(film.reference(0))
    steps = count(monkeypatch, tracking, 'advance')
    for i in range(4, 14):
        steps.clear()
        pose, = add(tracker, other, [i])
        assert pose.state == FrameState.LOST
        # the first one might have been saved without the guess
        assert len(steps) <= (2 if i == 4 else 1)


def test_a_later_reference_takes_few_flows(monkeypatch):
    film = drive()
    tracker = Tracker(EXACT)
    add(tracker, film, range(30))
    first = count(monkeypatch, catching_up, 'advance')
    tracker.set_reference(film.reference(0))
    assert len(first) >= 29
    for newest in range(30, 60):
        add(tracker, film, [newest])
        first.clear()
        tracker.set_reference(film.reference(newest - 30))
        assert 1 <= len(first) <= 4
    assert following.advance is not catching_up.advance


def test_the_way_of_a_late_reference_goes_on_while_the_camera_is_lost(monkeypatch):
    film, other = drive(), shot('indoor')
    tracker = Tracker(TrackingConfig(n_catch_up=1, sigma_log_depth=0.0, sigma_log_scale=0.0))
    add(tracker, other, range(2))
    tracker.set_reference(other.reference(0))
    poses = add(tracker, film, range(2, 34))
    assert all(pose.state == FrameState.LOST for pose in poses[1:])
    assert tracker.set_reference(film.reference(2)) == [] and tracker.reference_id == 2
    assert tracker.newest[0] < 33
    steps, states = count(monkeypatch, catching_up, 'advance'), []
    tried = count(monkeypatch, tracking, 'advance')
    for i in range(34, 60):
        steps.clear(), tried.clear()
        pose, = add(tracker, film, [i])
        states.append(pose.state)
        if len(states) > 1 and states[-2] == FrameState.LOST:
            assert len(steps) + len(tried) == 1
    assert FrameState.TRACKED in states
    assert states[-1] == FrameState.TRACKED and place_error(film, pose) < 0.05


def test_a_reference_with_few_points_only_corrects():
    film = drive()
    tracker = Tracker(EXACT)
    add(tracker, film, range(8))
    tracker.set_reference(film.reference(0))
    add(tracker, film, range(8, 34))
    true, n = film.reference(26), len(tracker._now.which)
    moved = se3.exp(np.array([0.5, 0.0, -0.3, 0.0, 0.2, 0.0]))
    part = np.zeros_like(true.confidence)
    part[10:25, 26:38] = 1
    tracker.set_reference(Reference(26, moved @ true.T_odom_camera, true.local_points, part,
                                    true.K))
    assert tracker.reference_id == 26 and len(tracker._now.which) == n
    for pose in add(tracker, film, range(34, 40)):
        assert pose.state == FrameState.TRACKED and pose.n_inliers > 40
        xi = se3.log(se3.relative(pose.T_odom_camera, moved @ film.T_odom_camera[pose.frame_id]))
        assert np.linalg.norm(xi[:3]) < 0.05 * film.median_depth and np.abs(xi[3:]).max() < 0.02
        assert xi @ np.linalg.solve(pose.covariance, xi) / 6 < 4
