"""Points from rays: exact where they meet, the middle where they miss, else nan."""

import numpy as np
import pytest
from sfm_tracks import MOTIONS, travel, watch

from longrecon_ros.geometry import se3
from longrecon_ros.sfm.triangulation import midpoints, world_rays


def rays_to(X, centers):
    """Return unit rays (F, P, 3) from centres (F, 3) to points (P, 3)."""
    d = X[None] - centers[:, None]
    return d / np.linalg.norm(d, axis=2, keepdims=True)


@pytest.mark.parametrize('motion', MOTIONS)
def test_exact_observations_meet_in_the_point(motion):
    tracks = watch(travel(8, **MOTIONS[motion]), 200, seed=1)
    X, parallax = midpoints(world_rays(tracks.R, tracks.xy), tracks.centers, tracks.seen)
    good = parallax > np.deg2rad(0.5)
    assert good.sum() > 50
    np.testing.assert_allclose(X[good], tracks.X[good], rtol=1e-6, atol=1e-6)


def test_rays_are_unit_and_point_at_what_is_seen():
    tracks = watch(travel(5, turn_deg=(1, 3, 2), step=(0.2, 0, 0.3)), 50, seed=2)
    rays = world_rays(tracks.R, tracks.xy)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=2), 1.0)
    expected = rays_to(tracks.X, tracks.centers)
    np.testing.assert_allclose(rays[tracks.seen], expected[tracks.seen], atol=1e-12)


def test_skew_rays_give_the_middle_of_their_shortest_link():
    # along x at height 0, along y at height 1: they miss each other by 1 over the origin
    centers = np.array([[-3.0, 0, 0], [0, -5.0, 1]])
    rays = np.array([[[1.0, 0, 0]], [[0, 1.0, 0]]])
    X, parallax = midpoints(rays, centers, np.ones((2, 1), bool))
    np.testing.assert_allclose(X, [[0, 0, 0.5]], atol=1e-12)
    assert parallax[0] == pytest.approx(np.pi / 2)


def test_many_rays_give_the_least_squares_point():
    rng = np.random.default_rng(3)
    centers, point = rng.normal(size=(6, 3)), np.array([[0.3, -0.2, 8.0]])
    rays = rays_to(point, centers) + rng.normal(0, 0.01, (6, 1, 3))
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    X, _ = midpoints(rays, centers, np.ones((6, 1), bool))

    def cost(x):
        along = ((x - centers) * rays[:, 0]).sum(axis=1, keepdims=True) * rays[:, 0]
        return (((x - centers) - along) ** 2).sum()
    best = cost(X[0])
    assert all(cost(X[0] + 1e-3 * step) > best for step in np.vstack([np.eye(3), -np.eye(3)]))


@pytest.mark.parametrize('angle_deg', [0.5, 5.0, 40.0])
def test_parallax_of_two_views_is_the_angle_between_their_rays(angle_deg):
    half = np.deg2rad(angle_deg) / 2
    centers = np.array([[-np.tan(half), 0, 0], [np.tan(half), 0, 0]])
    X, parallax = midpoints(rays_to(np.array([[0.0, 0, 1]]), centers), centers,
                            np.ones((2, 1), bool))
    assert np.rad2deg(parallax[0]) == pytest.approx(angle_deg, rel=1e-6)
    np.testing.assert_allclose(X, [[0, 0, 1]], atol=1e-9)


def test_unseen_views_do_not_count():
    tracks = watch(travel(6, step=(0.3, 0, 0)), 80, seed=4)
    rays = world_rays(tracks.R, tracks.xy)
    seen = tracks.seen & (np.arange(6) < 3)[:, None]
    X, parallax = midpoints(rays, tracks.centers, seen)
    few, few_parallax = midpoints(rays[:3], tracks.centers[:3], seen[:3])
    np.testing.assert_allclose(X, few, equal_nan=True)
    np.testing.assert_allclose(parallax, few_parallax)


def test_one_ray_parallel_rays_or_none_give_no_point():
    centers = np.array([[0.0, 0, 0], [1, 0, 0]])
    ahead = np.array([0.0, 0, 1])
    rays = np.tile(ahead, (2, 3, 1))
    seen = np.array([[True, True, False], [False, True, False]])
    X, parallax = midpoints(rays, centers, seen)
    assert np.isnan(X).all() and (parallax < 1e-6).all()


def test_no_points_at_all():
    X, parallax = midpoints(np.zeros((2, 0, 3)), np.zeros((2, 3)), np.zeros((2, 0), bool))
    assert X.shape == (0, 3) and parallax.shape == (0,)


def test_the_window_may_lie_anywhere():
    tracks = watch(travel(5, step=(0.3, 0, 0.1)), 60, seed=5)
    X, parallax = midpoints(world_rays(tracks.R, tracks.xy), tracks.centers, tracks.seen)
    moved = se3.from_parts(se3.so3_exp(np.array([0.4, 1.0, -0.3])), np.array([5.0, -2, 9]))
    T = moved @ tracks.T_world_camera
    R = np.swapaxes(T[:, :3, :3], 1, 2)
    X_moved, parallax_moved = midpoints(world_rays(R, tracks.xy), T[:, :3, 3], tracks.seen)
    known = np.isfinite(X[:, 0])
    np.testing.assert_array_equal(known, np.isfinite(X_moved[:, 0]))
    np.testing.assert_allclose(X_moved[known], se3.apply(moved, X[known]), atol=1e-6)
    np.testing.assert_allclose(parallax_moved, parallax, atol=1e-7)
