"""The tracker on films with exact poses: every image gets a pose, or LOST."""

import cv2
import numpy as np
import pytest
from tracked_films import (
    bent,
    EXACT,
    MAP_SIZE,
    normalised,
    PERIOD_NS,
    shot,
    SIZE,
    track,
    tracked,
    worst,
)

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import resize_K
from longrecon_ros.tracking import Camera, Reference, Tracker, TrackingConfig
from longrecon_ros.types import FrameState

BLACK = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
PLUMB_BOB = (-0.25, 0.07, 0.001, -0.0005)


def add(tracker, film, frames, camera=None):
    """Give a tracker some frames of a film; return the answers."""
    return [tracker.add(i, i * PERIOD_NS, film.images[i], camera or film.camera) for i in frames]


def begun(film, n=4, config=EXACT):
    """Return a tracker that got n frames and the reference of frame 0."""
    tracker = Tracker(config)
    add(tracker, film, range(n))
    tracker.set_reference(film.reference(0))
    return tracker


def place_error(film, pose):
    """Return the error of a pose's place in median depths."""
    true = film.T_odom_camera[pose.frame_id]
    return np.linalg.norm(pose.T_odom_camera[:3, 3] - true[:3, 3]) / film.median_depth


@pytest.mark.parametrize('scene, way, turn_deg', [('street', 0.02, 0.4), ('indoor', 0.004, 0.15)])
def test_every_image_gets_its_pose(scene, way, turn_deg):
    film = shot(scene)
    poses = track(film)
    assert tracked(poses) == list(range(1, len(film.images)))
    assert worst(film, poses)[0] < way and worst(film, poses)[1] < turn_deg
    assert 0.3 < normalised(film, poses).mean() < 3
    for pose in poses.values():
        assert pose.n_points >= pose.n_inliers >= 50 and 0 < pose.rmse_px < 0.4
        assert np.allclose(pose.covariance, pose.covariance.T)
        assert np.linalg.eigvalsh(pose.covariance)[0] > 0


def test_a_longer_delay_costs_little():
    film = shot('indoor')
    poses = track(film, every=4, late=18)
    assert tracked(poses)[-1] == len(film.images) - 1
    assert worst(film, poses)[0] < 0.008


def test_a_switch_of_reference_stays_within_noise():
    film = shot('indoor')
    tracker = begun(film)
    before = add(tracker, film, range(4, 20))[-1]
    tracker.set_reference(film.reference(12))
    # as if the same image came once more
    after = tracker.add(20, 20 * PERIOD_NS, film.images[19], film.camera)
    xi = se3.log(se3.relative(before.T_odom_camera, after.T_odom_camera))
    both = before.covariance + after.covariance
    assert xi @ np.linalg.solve(both, xi) / 6 < 4
    assert place_error(film, before) < 0.004
    error = np.linalg.norm(se3.relative(film.T_odom_camera[19], after.T_odom_camera)[:3, 3])
    assert error / film.median_depth < 0.002


def test_first_reference_brings_poses_of_the_images_since():
    film = shot('indoor')
    tracker = Tracker(EXACT)
    assert add(tracker, film, range(10)) == [None] * 10
    poses = tracker.set_reference(film.reference(2))
    assert [pose.frame_id for pose in poses] == list(range(3, 10))
    assert [pose.stamp_ns for pose in poses] == [i * PERIOD_NS for i in range(3, 10)]
    assert max(place_error(film, pose) for pose in poses) < 0.004
    assert tracker.set_reference(film.reference(5)) == []


def test_catching_up_is_bounded():
    film = shot('indoor')
    tracker = Tracker(TrackingConfig(n_catch_up=4))
    add(tracker, film, range(28))
    poses = tracker.set_reference(film.reference(0))
    assert 1 <= len(poses) <= 8 and poses[-1].frame_id == 27
    assert max(place_error(film, pose) for pose in poses) < 0.01
    # images that were left out stay so: poses come in order
    assert tracker.set_reference(film.reference(3)) == []


def test_small_images():
    film = shot('indoor')
    small = [cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA) for image in film.images]
    poses = track(film, images=small, camera=Camera(resize_K(film.camera.K, SIZE, (160, 120))))
    assert tracked(poses) == list(range(1, len(small))) and worst(film, poses)[0] < 0.01
    assert np.median([pose.n_inliers for pose in poses.values()]) > 70


@pytest.mark.parametrize('size', [(48, 36), (20, 15), (8, 8), (1, 1)])
def test_images_that_are_too_small_do_no_harm(size):
    film = shot('indoor')
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in film.images[:15]]
    assert all(pose.n_inliers >= 20 for pose in track(
        film, images=small, camera=Camera()).values() if pose.state == FrameState.TRACKED)


def test_a_reference_of_the_newest_image():
    film = shot('indoor')
    tracker = Tracker(EXACT)
    add(tracker, film, range(2))
    assert tracker.set_reference(film.reference(1)) == []
    pose, = add(tracker, film, [2])
    assert pose.state == FrameState.TRACKED and place_error(film, pose) < 0.002


@pytest.mark.parametrize('blank', [BLACK, BLACK + 200], ids=['black', 'white'])
def test_lost_on_blank_images_and_back_afterwards(blank):
    film = shot('indoor')
    tracker = begun(film)
    good = add(tracker, film, [4, 5])[-1]
    for i in range(6, 12):
        pose = tracker.add(i, i * PERIOD_NS, blank, film.camera)
        assert pose.state == FrameState.LOST and pose.n_inliers == 0
        assert np.array_equal(pose.T_odom_camera, good.T_odom_camera)
        assert np.isinf(np.diag(pose.covariance)).all()
    back = add(tracker, film, range(12, 16))
    assert all(pose.state == FrameState.TRACKED for pose in back[1:])
    assert max(place_error(film, pose) for pose in back[1:]) < 0.004


def test_another_scene_is_lost_until_its_reference_comes():
    film, other = shot('indoor'), shot('street')
    tracker = begun(film)
    for i in range(4, 14):
        pose = tracker.add(i, i * PERIOD_NS, other.images[i], other.camera)
        assert pose.state == FrameState.LOST
    reference = other.reference(8)
    assert tracker.set_reference(reference) == []
    pose, = add(tracker, other, [14])
    assert pose.state == FrameState.TRACKED and place_error(other, pose) < 0.01


def test_a_reference_that_does_not_fit_is_ignored_while_there_is_a_better_one():
    film, other = shot('indoor'), shot('street')
    tracker = Tracker(EXACT)
    # frame 0 shows something else: no way leads from it to the others
    tracker.add(0, 0, other.images[0], film.camera)
    add(tracker, film, range(1, 6))
    tracker.set_reference(film.reference(1))
    assert tracker.set_reference(other.reference(0)) == []
    pose, = add(tracker, film, [6])
    assert pose.state == FrameState.TRACKED and place_error(film, pose) < 0.002


def test_noise_without_structure_is_lost_or_nothing():
    film = shot('indoor')
    tracker = begun(film)
    rng = np.random.default_rng(0)
    for i in range(4, 9):
        noise = rng.integers(0, 256, BLACK.shape, np.uint8)
        assert tracker.add(i, i * PERIOD_NS, noise, film.camera).state == FrameState.LOST


def test_standing_still():
    film = shot('indoor')
    poses = track(film, images=[film.images[0]] * 11, every=100, late=3)
    assert tracked(poses) == list(range(1, 11))
    for pose in poses.values():
        motion = se3.relative(film.T_odom_camera[0], pose.T_odom_camera)
        assert np.abs(motion - np.eye(4)).max() < 1e-4


@pytest.mark.parametrize('model, coefficients', [
    ('plumb_bob', PLUMB_BOB),
    ('rational_polynomial', PLUMB_BOB + (0.01, 0.02, -0.01, 0.003)),
    ('equidistant', (0.05, -0.01, 0.003, 0.0))])
def test_a_lens_changes_nothing(model, coefficients):
    if model == 'rational_polynomial':
        # the same lens in the larger model
        film = bent('indoor', 'plumb_bob', PLUMB_BOB)
        camera = Camera(film.camera.K, np.array(PLUMB_BOB + (0.0,) * 4), model)
    else:
        film = bent('indoor', model, coefficients)
        camera = film.camera
    poses = track(film, camera=camera)
    assert tracked(poses) == list(range(1, len(film.images)))
    assert worst(film, poses)[0] < 0.006 and worst(film, poses)[1] < 0.2
    assert worst(film, track(film, camera=Camera(film.camera.K)))[0] > 0.01


def test_without_calibration_the_pinhole_of_the_points_counts():
    film = shot('indoor')
    with_K, without = track(film), track(film, camera=Camera())
    assert sorted(with_K) == sorted(without)
    for i, pose in with_K.items():
        assert np.array_equal(pose.T_odom_camera, without[i].T_odom_camera)


def test_a_refined_focal_length_goes_before_the_calibrated_one():
    film = shot('indoor')
    camera = Camera(np.diag([0.8, 0.8, 1.0]) @ film.camera.K)
    tracker = Tracker(EXACT)
    add(tracker, film, range(10), camera)
    poses = tracker.set_reference(film.reference(0, resize_K(film.camera.K, SIZE, MAP_SIZE)))
    assert len(poses) == 9 and max(place_error(film, pose) for pose in poses) < 0.004


def test_images_larger_than_the_working_width():
    film = shot('indoor')
    large = [cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
             for image in film.images[:24]]
    camera = Camera(resize_K(film.camera.K, SIZE, (640, 480)))
    config = TrackingConfig(width_px=320, sigma_log_depth=0.0, sigma_log_scale=0.0)
    poses = track(film, config, images=large, camera=camera)
    assert tracked(poses) == list(range(1, 24)) and worst(film, poses)[0] < 0.004


def test_grey_images_are_as_good():
    film = shot('indoor')
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in film.images[:16]]
    of_grey, of_color = track(film, images=grey), track(film, images=film.images[:16])
    assert all(np.array_equal(of_grey[i].T_odom_camera, of_color[i].T_odom_camera)
               for i in of_color)


def test_the_history_is_bounded_and_late_references_are_ignored():
    film = shot('indoor')
    tracker = Tracker(TrackingConfig(n_history=5))
    add(tracker, film, range(8))
    assert tracker.set_reference(film.reference(2)) == []
    assert tracker.set_reference(film.reference(20)) == []
    assert add(tracker, film, [8]) == [None]
    assert len(tracker.set_reference(film.reference(4))) == 4


@pytest.mark.parametrize('confidence', [0.0, 0.1, np.nan])
def test_a_reference_without_confident_depth_is_ignored(confidence):
    film = shot('indoor')
    tracker, true = Tracker(EXACT), film.reference(0)
    add(tracker, film, range(3))
    doubtful = Reference(0, true.T_odom_camera, true.local_points,
                         np.full_like(true.confidence, confidence), true.K)
    assert tracker.set_reference(doubtful) == []
    assert add(tracker, film, [3]) == [None]


def test_broken_points_are_left_out():
    film = shot('indoor')
    tracker, true = Tracker(EXACT), film.reference(0)
    points = np.array(true.local_points)
    points[:24, :32], points[24:, :32, 2], points[:8, 32:] = np.nan, -1.0, np.inf
    add(tracker, film, range(6))
    poses = tracker.set_reference(
        Reference(0, true.T_odom_camera, points, true.confidence, true.K))
    assert len(poses) == 5 and max(place_error(film, pose) for pose in poses) < 0.01


def test_a_tiny_pointmap_and_a_black_first_image():
    film = shot('indoor')
    tracker = Tracker(EXACT)
    tracker.add(0, 0, BLACK, film.camera)
    assert tracker.set_reference(film.reference(0)) == []
    add(tracker, film, range(1, 3))
    tiny = Reference(1, np.eye(4), np.ones((1, 1, 3)), np.ones((1, 1)), np.eye(3))
    assert tracker.set_reference(tiny) == []
    assert add(tracker, film, [3]) == [None]


def test_reset_takes_another_size():
    film = shot('indoor')
    tracker = begun(film)
    with pytest.raises(ValueError, match='image: expected 320x240 px'):
        tracker.add(9, 9, film.images[9][:100], film.camera)
    assert add(tracker, film, [9])[0].state == FrameState.TRACKED
    tracker.reset()
    assert tracker.add(0, 0, film.images[0][:100], film.camera) is None


@pytest.mark.parametrize('image, words', [
    (np.zeros((24, 32), np.float32), 'uint8'), (np.zeros((24, 32, 4), np.uint8), 'uint8'),
    (np.zeros((0, 32), np.uint8), 'image')])
def test_images_that_are_none(image, words):
    with pytest.raises(ValueError, match=words):
        Tracker(EXACT).add(0, 0, image, Camera())


def test_frames_come_in_order():
    tracker = begun(shot('indoor'))
    with pytest.raises(ValueError, match='frame_id: expected more than 3, got 3'):
        add(tracker, shot('indoor'), [3])


def test_the_same_images_give_the_same_poses():
    film = shot('street')
    first, second = track(film), track(film)
    assert list(first) == list(second)
    for i in first:
        assert np.array_equal(first[i].T_odom_camera, second[i].T_odom_camera)
        assert np.array_equal(first[i].covariance, second[i].covariance)


def test_the_caller_may_overwrite_its_image():
    film = shot('indoor')
    buffer, tracker, poses = np.empty((SIZE[1], SIZE[0]), np.uint8), Tracker(EXACT), []
    for i in range(8):
        buffer[:] = cv2.cvtColor(film.images[i], cv2.COLOR_RGB2GRAY)
        poses += [tracker.add(i, i * PERIOD_NS, buffer, film.camera)]
        if i == 4:
            poses += tracker.set_reference(film.reference(0))
    assert max(place_error(film, pose) for pose in poses if pose) < 0.003
