"""Streams of real backbones that go on in another process, and closures over the break."""

import dataclasses

import cv2
import numpy as np
import pytest
from resuming import again, push, resumed, until
from sfm_films import film, poses
from sfm_runs import ate_percent, stream

from longrecon_ros import config
from longrecon_ros.evaluation import evaluate
from longrecon_ros.geometry import se3
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.synthetic.recipe import Production, Recipe
from longrecon_ros.types import Frame, Trajectory

EXACT = {f'simulated.{name}': 0.0 for name in (
    'layer_sigma', 'warp_sigma', 'pose_translation', 'pose_rotation_deg', 'depth_noise',
    'outlier_share', 'confidence_noise')} | {'simulated.edge_px': 0}


def make_pipeline(backbone, resume=None, **overrides):
    loaded = config.load(None, {'backbone': backbone, 'loop.use_thread': 'never', **overrides})
    return Pipeline.from_config(loaded, resume=resume)


def broken(backbone, frames, n_windows, folder, **overrides):
    """Return a pipeline that went on after so many windows, its updates, and from what it did."""
    cut = make_pipeline(backbone, **overrides)
    until(cut, frames, n_windows)
    resume = resumed(cut, folder)
    pipeline = make_pipeline(backbone, resume, **overrides)
    return pipeline, push(pipeline, again(frames, resume)), resume


def indoor(n, size):
    production = Production.of(Recipe('indoor', n, size, fps=8.0))
    return [production.film.frame(i).to_frame(use_truth=True) for i in range(n)]


def test_simulated_goes_on_exactly(tmp_path):
    options = {**EXACT, 'window.size': 8, 'window.overlap': 4}
    frames = indoor(24, (84, 56))
    whole = make_pipeline('simulated', **options)
    push(whole, frames)
    pipeline, updates, _ = broken('simulated', frames, 3, tmp_path, **options)
    assert len(updates) == 2 and all(update.linked for update in updates)
    np.testing.assert_array_equal(pipeline.trajectory().stamps_ns, whole.trajectory().stamps_ns)
    np.testing.assert_allclose(pipeline.trajectory().T_map_camera,
                               whole.trajectory().T_map_camera, atol=2e-6)
    assert abs(len(pipeline.cloud()) / len(whole.cloud()) - 1) < 0.01
    with_views = [sum(len(s.views) for s in p.mapper.atlas.submaps()) for p in (pipeline, whole)]
    assert with_views == [5, 5]
    # the search for closures knows which keyframes are near, and how far they are apart
    loops, expected = pipeline.mapper._loops, whole.mapper._loops
    assert loops._n_own == expected._n_own == 5
    assert loops._ways == pytest.approx(expected._ways, abs=1e-5)
    assert loops.closer.submap_ids == expected.closer.submap_ids


@pytest.mark.slow
def test_closures_after_the_break_bend_what_was_before(tmp_path):
    production = Production.of(Recipe('indoor', None, (112, 84), fps=8.0))
    frames = [dataclasses.replace(production.film.frame(i).to_frame(use_truth=True), index=i)
              for i in range(int(1.3 * production.n_frames))]
    truth = Trajectory(np.array([f.stamp_ns for f in frames]),
                       np.stack([f.truth.T_world_camera for f in frames]))
    n_windows = 20
    cut = make_pipeline('simulated')
    until(cut, frames, n_windows)
    before = cut.mapper.atlas.poses()
    assert not cut.mapper.closures
    resume = resumed(cut, tmp_path)
    pipeline = make_pipeline('simulated', resume)
    updates = push(pipeline, again(frames, resume))
    closures = pipeline.mapper.closures
    assert len(closures) >= 2
    assert all(c.target_id < n_windows <= c.source_id for c in closures)
    assert [c for u in updates for c in u.closures] == closures
    moved = [np.linalg.norm(pipeline.mapper.atlas.pose(i).t - pose.t)
             for i, pose in before.items()]
    assert moved[0] == 0 and max(moved[1:]) > 0.05
    odometry, trajectory = pipeline.odometry(), pipeline.trajectory()
    errors_m = [evaluate(t, truth).ate_sim3_m.rmse for t in (odometry, trajectory)]
    assert errors_m[1] < errors_m[0] / 1.5, errors_m
    # a second break, after the map was bent
    resume = resumed(pipeline, tmp_path)
    third = make_pipeline('simulated', resume)
    assert third.mapper.n_bends and len(third.mapper.closures) == len(closures)
    np.testing.assert_array_equal(third.trajectory().T_map_camera, trajectory.T_map_camera)
    np.testing.assert_allclose(third.mapper.T_map_odom, updates[-1].T_map_odom, atol=1e-9)
    np.testing.assert_array_equal(third.loops(), pipeline.loops())


def test_sfm_goes_on_though_its_landmarks_are_new(tmp_path):
    pictures = film('street', 26)
    pipeline, updates, _ = broken('sfm', stream(pictures), 1, tmp_path)
    assert all(update.linked for update in updates)
    trajectory = pipeline.trajectory()
    assert len(trajectory) == 26
    assert ate_percent(trajectory.T_map_camera, poses(pictures)) < 0.6


def blurred(n, size=(56, 42)):
    """Return frames of random blobs that move."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (size[1], size[0] + 4 * n, 3), dtype=np.uint8),
                            (0, 0), 2)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    return [Frame(i, 10**9 + 10**8 * i, np.ascontiguousarray(wide[:, 4 * i:4 * i + size[0]]))
            for i in range(n)]


def tiny(name):
    from longrecon_ros import backbones
    options = {f'{name}.{key}': value for key, value in backbones.load(name).tiny.items()}
    return {**options, 'window.size': 6, 'window.overlap': 2}


@pytest.mark.torch
@pytest.mark.parametrize('name', ['pi3', 'pi3x', 'vggt', 'loger', 'scal3r', 'stream3r'])
def test_networks_go_on_with_an_empty_memory(tmp_path, name):
    pytest.importorskip('torch')
    frames = blurred(26)
    pipeline, updates, resume = broken(name, frames, 2, tmp_path, **tiny(name))
    ids = resume.tail.prediction.frame_ids.tolist()
    first = updates[0].prediction
    assert ids == first.frame_ids[:2].tolist() == [8, 9]
    assert np.concatenate([u.frame_ids for u in updates]).tolist() == list(range(10, 26))
    trajectory = pipeline.trajectory()
    assert len(trajectory) == 26 and np.isfinite(trajectory.T_map_camera).all()
    # random weights measure nothing, but the new gauge lies near the shared cameras
    apart = se3.relative(resume.tail.prediction.T_window_camera, first.T_window_camera[:2])
    depth = np.median(resume.tail.prediction.depth)
    assert np.linalg.norm(apart[:, :3, 3], axis=1).min() < depth


@pytest.mark.torch
def test_a_stream_net_keeps_the_gauge_that_was_found(tmp_path):
    pytest.importorskip('torch')
    frames = blurred(26)
    pipeline, updates, resume = broken('stream3r', frames, 2, tmp_path, **tiny('stream3r'))
    # the same net on the frames from the tail on is the same stream in its own gauge
    alone = push(make_pipeline('stream3r', **tiny('stream3r')), again(frames, resume))
    found = np.concatenate([u.prediction.T_window_camera for u in updates])
    expected = np.concatenate([u.prediction.T_window_camera for u in alone])
    depths = [np.concatenate([u.prediction.depth for u in us]) for us in (updates, alone)]
    scale = np.median(depths[0] / depths[1])
    np.testing.assert_allclose(depths[0], scale * depths[1], rtol=1e-4)
    expected[:, :3, 3] *= scale
    T = found[0] @ se3.inverse(expected[0])
    np.testing.assert_allclose(found, T @ expected, atol=1e-4 * scale * np.median(depths[1]))
