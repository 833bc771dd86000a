"""Two views: relative pose, best rotation, and the choice of a start."""

import numpy as np
import pytest
from sfm_tracks import CURVE, FOCAL_PX, FORWARD, SIDEWAYS, SIZE, travel, watch

from longrecon_ros.geometry import se3
from longrecon_ros.sfm.two_view import rank_pairs, relative_pose, rotation_between, starting_pairs

ENOUGH_PX = 0.015 * SIZE[0]


def true_pair(tracks, a, b):
    """Return R and the unit t of ``x_b = R x_a + t``."""
    T = se3.inverse(tracks.T_world_camera[b]) @ tracks.T_world_camera[a]
    return T[:3, :3], T[:3, 3] / np.linalg.norm(T[:3, 3])


def angle_deg(a, b):
    return np.degrees(np.arccos(np.clip(a @ b, -1, 1)))


def turn_error_deg(R, truth):
    return float(np.degrees(se3.rotation_angle(R.T @ truth)))


@pytest.mark.parametrize('step', [(0, 0, 0.4), (0.4, 0, 0), (0, 0.4, 0), (-0.3, 0.1, -0.3)])
@pytest.mark.parametrize('noise_px, outliers, turn_deg, way_deg', [
    (0.0, 0.0, 0.02, 0.2), (0.3, 0.0, 0.3, 3.0), (0.3, 0.15, 0.4, 3.0)])
def test_relative_pose_is_recovered(step, noise_px, outliers, turn_deg, way_deg):
    poses = travel(4, step, (0.3, 1.0, -0.5))
    tracks = watch(poses, 400, seed=1, noise_px=noise_px, outliers=outliers)
    pair = relative_pose(tracks.xy, tracks.seen, 0, 3, FOCAL_PX, ENOUGH_PX)
    R, t = true_pair(tracks, 0, 3)
    assert (pair.a, pair.b) == (0, 3)
    assert np.linalg.norm(pair.t) == pytest.approx(1.0) and pair.t.shape == (3,)
    assert turn_error_deg(pair.R, R) < turn_deg and angle_deg(pair.t, t) < way_deg
    n_common = int((tracks.seen[0] & tracks.seen[3]).sum())
    assert (1 - outliers) ** 2 * 0.85 * n_common < pair.n_inliers <= n_common


def test_parallax_of_a_pair_is_the_flow_that_no_rotation_explains():
    # 0.4 sideways at a depth of 8: f * 0.4 / 8 px of parallax, whatever the turn
    for turn in ((0, 0, 0), (1.0, 2.0, 3.0)):
        tracks = watch(travel(2, (0.4, 0, 0), turn), 300, seed=2, depth=(6.5, 10.0))
        pair = relative_pose(tracks.xy, tracks.seen, 0, 1, FOCAL_PX, ENOUGH_PX)
        assert pair.parallax_px == pytest.approx(FOCAL_PX * 0.4 / 8, rel=0.15)


def test_too_few_or_contradicting_points_give_no_pair():
    tracks = watch(travel(2, (0.4, 0, 0)), 14, seed=3)
    assert relative_pose(tracks.xy, tracks.seen, 0, 1, FOCAL_PX, ENOUGH_PX) is None
    assert relative_pose(tracks.xy[:, :0], tracks.seen[:, :0], 0, 1, FOCAL_PX, ENOUGH_PX) is None
    rng = np.random.default_rng(0)
    nonsense = rng.uniform(-0.5, 0.5, (2, 25, 2))
    pair = relative_pose(nonsense, np.ones((2, 25), bool), 0, 1, FOCAL_PX, ENOUGH_PX)
    assert pair is None or pair.n_inliers < 25


@pytest.mark.parametrize('noise_px', [0.02, 0.1, 0.3])
def test_a_standing_camera_gives_no_start(noise_px):
    tracks = watch(travel(16), 300, seed=4, noise_px=noise_px)
    pairs = starting_pairs(tracks.xy, tracks.seen, FOCAL_PX, ENOUGH_PX)
    assert all(pair.score < 0.1 for pair in pairs)


@pytest.mark.parametrize('turn_deg', [(0, 0, 0), (0, 8, 0), (5, -20, 30)])
@pytest.mark.parametrize('noise_px, outliers', [(0.0, 0.0), (0.3, 0.0), (0.3, 0.15)])
def test_rotation_between_is_recovered(turn_deg, noise_px, outliers):
    tracks = watch(travel(2, turn_deg=turn_deg), 500, seed=5, noise_px=noise_px,
                   outliers=outliers)
    both = tracks.seen.all(axis=0)
    R, residual_px = rotation_between(tracks.xy[0, both], tracks.xy[1, both], FOCAL_PX)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) > 0
    error_deg = turn_error_deg(R, tracks.R[1] @ tracks.R[0].T)
    assert error_deg < (0.03 if noise_px else 1e-5)
    assert residual_px.shape == (both.sum(),)
    inlier = ~tracks.is_outlier[:, both].any(axis=0)
    # noise in both images: Rayleigh with deviation sqrt(2) sigma, 80th percentile at 1.79 of it
    assert np.percentile(residual_px[inlier], 80) < 1e-6 + 1.3 * 1.79 * np.sqrt(2) * noise_px
    if outliers:
        assert np.median(residual_px[~inlier]) > 8


def test_residuals_of_a_rotation_tell_a_real_motion():
    tracks = watch(travel(2, (0.3, 0, 0), (0, 5, 0)), 400, seed=6, depth=(2, 20))
    both = tracks.seen.all(axis=0)
    _, residual_px = rotation_between(tracks.xy[0, both], tracks.xy[1, both], FOCAL_PX)
    assert np.percentile(residual_px, 80) > 5


def test_pairs_are_ranked_by_promise():
    tracks = watch(travel(16, **SIDEWAYS), 400, seed=7)
    ranked = rank_pairs(tracks.xy, tracks.seen, FOCAL_PX, ENOUGH_PX)
    assert len(set(ranked)) == len(ranked) and all(0 <= a < b < 16 for a, b in ranked)

    def promise(a, b):
        both = tracks.seen[a] & tracks.seen[b]
        flow = FOCAL_PX * np.median(np.linalg.norm(tracks.xy[a, both] - tracks.xy[b, both],
                                                   axis=1))
        return min(flow, 3 * ENOUGH_PX) * min(1, both.sum() / 120)
    values = [promise(*pair) for pair in ranked]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]


def test_pairs_need_common_points():
    tracks = watch(travel(16, **FORWARD), 19, seed=8)
    assert rank_pairs(tracks.xy, tracks.seen, FOCAL_PX, ENOUGH_PX) == []
    assert starting_pairs(tracks.xy, tracks.seen, FOCAL_PX, ENOUGH_PX) == []


def test_the_best_start_lies_where_the_camera_moved():
    # 8 frames at rest, then 8 in motion: no good pair begins and ends in the first half
    still, moving = travel(8), travel(9, **CURVE)
    poses = np.concatenate([still, moving[1:]])
    tracks = watch(poses, 500, seed=9, noise_px=0.3, life=24)
    pairs = starting_pairs(tracks.xy, tracks.seen, FOCAL_PX, ENOUGH_PX)
    assert [p.score for p in pairs] == sorted((p.score for p in pairs), reverse=True)
    best = pairs[0]
    assert best.b > 8 and best.parallax_px > 0.7 * ENOUGH_PX
    R, t = true_pair(tracks, best.a, best.b)
    assert turn_error_deg(best.R, R) < 0.3 and angle_deg(best.t, t) < 4


def test_the_number_of_pairs_tried_is_bounded():
    tracks = watch(travel(16, **CURVE), 400, seed=10)
    pairs = starting_pairs(tracks.xy, tracks.seen, FOCAL_PX, ENOUGH_PX, tries=2)
    assert 1 <= len(pairs) <= 2
