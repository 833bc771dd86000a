"""What a window's motion is: at rest, a turn on the spot, or a real one."""

import numpy as np
import pytest
from sfm_tracks import chain, FOCAL_PX, MOTIONS, SIZE, travel, watch

from longrecon_ros.geometry import se3
from longrecon_ros.sfm.motion import has_parallax, turn_on_the_spot

ENOUGH_PX = 0.015 * SIZE[0]


def moves(poses, **faults):
    tracks = watch(poses, 300, **faults)
    return has_parallax(tracks.xy, tracks.seen, FOCAL_PX, ENOUGH_PX)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('noise_px', [0.0, 0.1, 0.3])
def test_rest_has_no_parallax(seed, noise_px):
    assert not moves(travel(16), seed=seed, noise_px=noise_px)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('turn_deg', [(0, 0.2, 0), (0, 2, 0), (1, -2, 3)])
def test_a_pure_rotation_has_no_parallax(seed, turn_deg):
    assert not moves(travel(16, turn_deg=turn_deg), seed=seed, noise_px=0.3)


@pytest.mark.parametrize('motion', MOTIONS)
@pytest.mark.parametrize('seed', range(4))
def test_a_real_motion_has_parallax(motion, seed):
    assert moves(travel(16, **MOTIONS[motion]), seed=seed, noise_px=0.3, outliers=0.03)


def test_a_turn_about_a_point_in_front_of_the_camera_has_parallax():
    # a handheld camera swung by 1.5 degrees a frame round a point 1 m behind it
    swing = se3.from_parts(np.eye(3), np.array([0, 0, 1.0]))
    poses = se3.inverse(swing) @ travel(16, turn_deg=(0, 1.5, 0)) @ swing
    assert moves(poses, seed=1, noise_px=0.3)


def test_outliers_make_no_parallax():
    assert not moves(travel(16), seed=2, noise_px=0.2, outliers=0.05)


def test_one_real_step_in_the_window_is_enough():
    poses = chain(travel(12), travel(5, (0.15, 0, 0.05)))
    assert moves(poses, seed=3, noise_px=0.2)


def test_no_common_points_mean_no_parallax():
    tracks = watch(travel(16, **MOTIONS['sideways']), 300)
    alone = np.zeros_like(tracks.seen)
    alone[np.arange(300) % 16, np.arange(300)] = True
    assert not has_parallax(tracks.xy, alone, FOCAL_PX, ENOUGH_PX)
    assert not has_parallax(tracks.xy[:, :0], tracks.seen[:, :0], FOCAL_PX, ENOUGH_PX)


def turn_errors_deg(R, truth):
    delta = np.swapaxes(R, 1, 2) @ truth
    return np.degrees(se3.rotation_angle(delta))


@pytest.mark.parametrize('first_known', [0, 7])
def test_orientations_of_a_turn(first_known):
    tracks = watch(travel(16, turn_deg=(0.5, 3, 0.2)), 500, seed=4)
    is_known = np.arange(16) == first_known
    R = turn_on_the_spot(tracks.xy, tracks.seen, FOCAL_PX, is_known, tracks.R)
    np.testing.assert_array_equal(R[first_known], tracks.R[first_known])
    assert turn_errors_deg(R, tracks.R).max() < 1e-5
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.broadcast_to(np.eye(3), R.shape),
                               atol=1e-10)


def test_noise_hardly_adds_up_over_a_turn():
    # 45 degrees in all: the first and the last frame share little
    for seed in range(4):
        tracks = watch(travel(16, turn_deg=(0, 3, 0)), 500, seed=seed, noise_px=0.3,
                       outliers=0.05)
        R = turn_on_the_spot(tracks.xy, tracks.seen, FOCAL_PX, np.arange(16) < 1, tracks.R)
        assert turn_errors_deg(R, tracks.R).max() < 0.15


def test_known_orientations_are_kept_and_the_input_is_not_changed():
    tracks = watch(travel(8, turn_deg=(0, 3, 0)), 400, seed=5)
    shift = se3.so3_exp(np.array([0.1, 0.2, 0.3]))
    given, is_known = tracks.R @ shift, np.arange(8) < 3
    before = given.copy()
    R = turn_on_the_spot(tracks.xy, tracks.seen, FOCAL_PX, is_known, given)
    np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(is_known, np.arange(8) < 3)
    np.testing.assert_array_equal(R[:3], given[:3])
    assert turn_errors_deg(R, tracks.R @ shift).max() < 1e-5


def test_frames_without_a_common_track_stay_unknown():
    tracks = watch(travel(8, turn_deg=(0, 3, 0)), 400, seed=6)
    seen = tracks.seen.copy()
    seen[5:, :200] = False
    seen[:5, 200:] = False
    R = turn_on_the_spot(tracks.xy, seen, FOCAL_PX, np.arange(8) < 1, tracks.R)
    assert np.isfinite(R[:5]).all() and np.isnan(R[5:]).all()
