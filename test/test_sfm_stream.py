"""The sfm backbone on short streams: as accurate as asked for, in all its settings."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from sfm_films import CAMERA, film, poses
from sfm_runs import ate_percent, rotation_errors_deg, run, scale, stream, with_noise

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import resize_K
from longrecon_ros.sfm.tracks import Tracker
from longrecon_ros.synthetic.camera import SyntheticCamera
from longrecon_ros.synthetic.effects import Effects
from longrecon_ros.types import FrameState

N = {'indoor': 56, 'street': 46}
CAMERA_SIZE = CAMERA.width, CAMERA.height


@pytest.fixture(scope='module', params=['indoor', 'street'])
def clip(request):
    pictures = film(request.param, N[request.param])
    return pictures, run(stream(pictures))


@pytest.fixture(scope='module')
def street():
    pictures = film('street', 36)
    return pictures, run(stream(pictures))


def test_the_trajectory_is_right(clip):
    pictures, result = clip
    assert ate_percent(result.T, poses(pictures)) < 0.4
    assert rotation_errors_deg(result.T, poses(pictures)).max() < 1.0
    assert all(u.linked for u in result.updates)
    np.testing.assert_allclose(result.T[0], np.eye(4), atol=1e-9)


def test_the_scale_stays_from_window_to_window(clip):
    pictures, result = clip
    truth = poses(pictures)
    scales = [scale(result.T[i:i + 16], truth[i:i + 16])
              for i in range(0, len(truth) - 15, 10)]
    assert np.ptp(np.log(scales)) < 0.02


def test_every_frame_has_a_pose_and_is_tracked(clip):
    pictures, result = clip
    trajectory = result.pipeline.trajectory()
    assert trajectory.stamps_ns.tolist() == [f.stamp_ns for f in stream(pictures)]
    assert (result.states == FrameState.TRACKED).all()
    assert [i for u in result.updates for i in u.frame_ids] == list(range(len(pictures)))


def test_depth_is_right_where_it_is_sure(clip):
    pictures, result = clip
    metres = scale(result.T, poses(pictures))
    depth, confidence = result.new('local_points')[..., 2], result.new('confidence')
    h, w = depth.shape[1:]
    truth = np.stack([cv2.resize(p.depth, (w, h), interpolation=cv2.INTER_NEAREST)
                      for p in pictures])
    sure = (confidence > 0.5) & (truth > 0)
    error = np.abs(depth[sure] * metres / truth[sure] - 1)
    # maps of such small images are 192 px wide; flow on wider ones is twice as exact
    assert sure.sum() / (truth > 0).sum() > 0.75
    assert np.median(error) < 0.09 and (error < 0.1).mean() > 0.5


def test_the_cloud_lies_on_the_scene(clip):
    # each point, seen by the camera of its frame, has the depth of the world there
    pictures, result = clip
    truth = poses(pictures)
    metres = scale(result.T, truth)
    error = []
    for update in result.updates:
        k = int(update.frame_ids[0])
        local = se3.apply(se3.inverse(update.T_odom_camera[0]), update.cloud.points) * metres
        u, v, z = (pictures[k].K @ local.T)
        with np.errstate(divide='ignore', invalid='ignore'):
            u, v = np.rint(u / z), np.rint(v / z)
        seen = (z > 0) & (u >= 0) & (u < 320) & (v >= 0) & (v < 240)
        depth = pictures[k].depth[v[seen].astype(int), u[seen].astype(int)]
        error.append(np.abs(z[seen] / np.where(depth > 0, depth, np.nan) - 1))
    error = np.concatenate(error)
    assert len(error) > 5000 and np.nanmedian(error) < 0.09


def test_the_overlap_is_tracked_once(monkeypatch):
    pushed = []
    push = Tracker.push
    monkeypatch.setattr(Tracker, 'push', lambda self, gray: pushed.append(1) or push(self, gray))
    result = run(stream(film('street', 36)))
    assert len(result.updates) == 3 and len(pushed) == 36


def test_depth_is_computed_for_new_frames_only(street):
    for update in street[1].updates:
        is_new = np.isin(update.prediction.frame_ids, update.frame_ids)
        confidence = update.prediction.confidence
        assert (confidence[is_new].max(axis=(1, 2)) > 0.5).all() and not confidence[~is_new].any()


def test_two_runs_are_equal(street):
    pictures, first = street
    again = run(stream(pictures))
    np.testing.assert_array_equal(again.T, first.T)
    np.testing.assert_array_equal(again.pipeline.cloud().points, first.pipeline.cloud().points)
    np.testing.assert_array_equal(again.pipeline.cloud().colors, first.pipeline.cloud().colors)


def test_a_reset_begins_anew(street):
    pictures, first = street
    pipeline = first.pipeline
    before = first.T.copy()
    pipeline.reset()
    for frame in stream(pictures):
        pipeline.push(frame)
    pipeline.flush()
    np.testing.assert_array_equal(pipeline.trajectory().T_map_camera, before)


def test_a_grey_stream_is_as_good():
    pictures = film('street', 26)
    grey = [replace(f, image=np.repeat(cv2.cvtColor(f.image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2))
            for f in stream(pictures)]
    assert ate_percent(run(grey).T, poses(pictures)) < 0.4


def test_noise_is_borne():
    pictures = film('indoor', 36)
    result = run(with_noise(stream(pictures), 6.0))
    assert ate_percent(result.T, poses(pictures)) < 1.0
    assert (result.states == FrameState.TRACKED).all()


def test_a_changing_exposure_is_borne():
    pictures = film('indoor', 36, effects=Effects(noise=2, exposure=1.0, rolling=0.03))
    result = run(stream(pictures))
    assert ate_percent(result.T, poses(pictures)) < 1.0 and all(u.linked for u in result.updates)


def test_distorted_images_are_rectified_on_the_way():
    camera = SyntheticCamera.from_fov(320, 240, distortion=np.array([-0.25, 0.06, 0.001, -0.001]))
    pictures = film('indoor', 26, camera=camera)
    result = run(stream(pictures))
    assert ate_percent(result.T, poses(pictures)) < 0.6
    rgb = result.new('rgb')
    straight = np.stack([cv2.resize(p.image, rgb.shape[2:0:-1], interpolation=cv2.INTER_AREA)
                         for p in film('indoor', 26)])
    bent = np.stack([cv2.resize(p.image, rgb.shape[2:0:-1], interpolation=cv2.INTER_AREA)
                     for p in pictures])
    assert np.abs(straight - rgb.astype(float)).mean() < 3 < np.abs(straight - 1.0 * bent).mean()


@pytest.mark.parametrize('size', [(160, 120), (96, 72)])
def test_small_images(size):
    pictures = film('indoor', 36)
    frames = [replace(f, image=cv2.resize(f.image, size, interpolation=cv2.INTER_AREA),
                      K=resize_K(f.K, CAMERA_SIZE, size)) for f in stream(pictures)]
    result = run(frames)
    assert ate_percent(result.T, poses(pictures)) < 1.5
    assert (result.states == FrameState.TRACKED).all()


def with_focal(pictures, factor):
    """Return the stream with a calibration whose focal length is off."""
    K = pictures[0].K.copy()
    K[[0, 1], [0, 1]] *= factor
    return [replace(f, K=K) for f in stream(pictures)]


@pytest.mark.parametrize('factor', [0.98, 1.0, pytest.param(1.02, marks=pytest.mark.slow)])
def test_the_focal_length_is_learnt_along(factor):
    pictures = film('street', 46)
    result = run(with_focal(pictures, factor), focal_sigma=0.03)
    assert ate_percent(result.T, poses(pictures)) < 0.4
    K = result.updates[-1].prediction.K[-1]
    w = result.updates[-1].prediction.confidence.shape[2]
    assert K[0, 0] / pictures[0].K[0, 0] * 320 / w == pytest.approx(1.0, abs=0.012)


def test_an_exact_focal_length_is_kept():
    pictures = film('street', 26)
    result = run(with_focal(pictures, 1.02), focal_sigma=0.0)
    h, w = result.updates[0].prediction.confidence.shape[1:]
    expected = resize_K(with_focal(pictures, 1.02)[0].K, CAMERA_SIZE, (w, h))
    for update in result.updates:
        np.testing.assert_allclose(update.prediction.K, np.broadcast_to(
            expected, update.prediction.K.shape), rtol=1e-6)
    assert ate_percent(result.T, poses(pictures)) < 1.0


@pytest.mark.parametrize('n', [1, 2, 3, 7, 17])
def test_streams_of_any_length(n):
    pictures = film('indoor', n)
    result = run(stream(pictures))
    assert len(result.T) == n and np.isfinite(result.T).all()
    np.testing.assert_allclose(result.T[0], np.eye(4), atol=1e-9)
    if n >= 7:
        assert ate_percent(result.T, poses(pictures)) < 1.0


@pytest.mark.parametrize('size, overlap', [
    (8, 3), pytest.param(24, 8, marks=pytest.mark.slow)])
def test_other_windows(size, overlap):
    pictures = film('indoor', 40)
    result = run(stream(pictures), size=size, overlap=overlap)
    assert all(u.linked for u in result.updates)
    assert ate_percent(result.T, poses(pictures)) < 1.0


def test_other_settings():
    pictures = film('street', 26)
    result = run(stream(pictures), n_tracks=200, final_patch_px=0, n_points=100, n_memory=0,
                 depth_width_px=128, depth_sources=1)
    assert ate_percent(result.T, poses(pictures)) < 1.0
    assert result.updates[0].prediction.confidence.shape[1:] == (96, 128)


def test_gaps_in_the_numbers_of_frames_do_not_matter(street):
    pictures, first = street
    spread = [replace(f, index=3 * f.index + 7) for f in stream(pictures)]
    result = run(spread)
    np.testing.assert_array_equal(result.T, first.T)
    assert [i for u in result.updates for i in u.frame_ids] == [f.index for f in spread]


def test_without_calibration_the_focal_length_is_found():
    pictures = film('street', 46)
    result = run([replace(f, K=None) for f in stream(pictures)])
    assert ate_percent(result.T, poses(pictures)) < 1.0
    prediction = result.updates[-1].prediction
    focal_px = prediction.K[-1, 0, 0] * CAMERA_SIZE[0] / prediction.confidence.shape[2]
    assert focal_px == pytest.approx(pictures[0].K[0, 0], rel=0.1)
