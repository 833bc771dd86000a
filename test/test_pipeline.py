"""The pipeline on a backbone with known answers: chains, breaks, bounds."""

import dataclasses
import logging
import subprocess
import sys

from fakes import circle_pose, FakeBackbone, FakeConfig, ListSource, make_frames, RecordingSink
import numpy as np
import pytest

from longrecon_ros import backbones, config
from longrecon_ros.alignment import make_aligner
from longrecon_ros.config import build, load, WindowConfig
from longrecon_ros.errors import ConfigError, InputError
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.umeyama import umeyama
from longrecon_ros.loop.settings import LoopConfig
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.types import Frame, FrameState, PointCloud

MAP = dataclasses.replace(load().map, max_points=3000, points_per_frame=60,
                          remove_floating=False)
LOOP = build(LoopConfig, load().loop)


def make_pipeline(backbone, size=16, overlap=6, align=None):
    return Pipeline(backbone, make_aligner(align or backbone.spec.align),
                    WindowConfig(size, overlap), MAP, LOOP)


def run(pipeline, frames):
    sink = RecordingSink()
    for frame in ListSource(frames):
        update = pipeline.push(frame)
        if update is not None:
            sink.write(update)
    update = pipeline.flush()
    if update is not None:
        sink.write(update)
    sink.close()
    return sink.updates


def truth_in_odom(n, scale):
    """Return the true poses as seen from the first camera, in odom units."""
    poses = se3.relative(circle_pose(0), np.stack([circle_pose(i) for i in range(n)]))
    poses[:, :3, 3] *= scale
    return poses


@pytest.mark.parametrize('align', ['depth_ratio', 'sim3'])
@pytest.mark.parametrize('n_frames, size, overlap', [(106, 16, 6), (101, 10, 3), (7, 16, 6)])
def test_the_chain_is_exact_for_exact_windows(align, n_frames, size, overlap):
    backbone = FakeBackbone(seed=1)
    pipeline = make_pipeline(backbone, size, overlap, align)
    updates = run(pipeline, make_frames(n_frames))
    trajectory = pipeline.trajectory()
    assert trajectory.stamps_ns.tolist() == [f.stamp_ns for f in make_frames(n_frames)]
    np.testing.assert_allclose(trajectory.T_map_camera,
                               truth_in_odom(n_frames, backbone.gauge(0).scale), atol=2e-3)
    np.testing.assert_allclose(trajectory.T_map_camera[0], np.eye(4), atol=1e-12)
    assert all(update.linked for update in updates) and pipeline.links.n_unlinked == 0
    scales = np.log([backbone.gauge(i).scale for i in range(len(updates))])
    np.testing.assert_allclose([u.log_scale for u in updates][2:], -np.diff(scales)[1:], atol=1e-3)
    assert (pipeline.states() == FrameState.TRACKED).all()


def test_scale_drift_under_noise_is_small_and_reported():
    backbone = FakeBackbone(seed=2, noise=0.03)
    pipeline = make_pipeline(backbone)
    updates = run(pipeline, make_frames(306))
    truth = truth_in_odom(306, 1.0)[:, :3, 3]
    found = pipeline.trajectory().positions
    rmse = np.sqrt(((umeyama(found, truth).apply(found) - truth)**2).sum(axis=1).mean())
    assert rmse < 0.3      # 30 m of path
    logs = [update.log_scale for update in updates[1:]]
    assert pipeline.links.mean_log_scale == pytest.approx(np.mean(logs))
    assert pipeline.links.std_log_scale == pytest.approx(np.std(logs, ddof=1))


def test_updates_hold_each_frame_once_with_its_stamp():
    frames = make_frames(49, first=100)
    updates = run(make_pipeline(FakeBackbone()), frames)
    assert [i for u in updates for i in u.frame_ids] == list(range(100, 149))
    assert [s for u in updates for s in u.stamps_ns] == [f.stamp_ns for f in frames]
    for update in updates:
        np.testing.assert_array_equal(update.T_map_odom, np.eye(4))
        assert set(update.timings_ms) == {'preprocess', 'backbone', 'align', 'map', 'loop'}
        assert len(update.cloud) == 60 * len(update.frame_ids)
        assert len(update.T_odom_camera) == len(update.states) == len(update.frame_ids)
        in_window = np.isin(update.prediction.frame_ids, update.frame_ids)
        np.testing.assert_array_equal(update.prediction.T_window_camera[in_window],
                                      update.T_odom_camera)


def test_points_lie_on_the_walls():
    backbone = FakeBackbone(seed=4)
    pipeline = make_pipeline(backbone)
    updates = run(pipeline, make_frames(46))
    whole = np.concatenate([update.cloud.points for update in updates])
    for points in (whole, pipeline.cloud().points):
        world = se3.apply(circle_pose(0), points / backbone.gauge(0).scale)
        distance = np.abs(np.abs(world / [6.0, 3.0, 7.0]).max(axis=1) - 1.0)
        assert np.median(distance) < 1e-3 and np.percentile(distance, 90) < 0.03


def test_a_window_without_a_link_keeps_the_motion(caplog):
    backbone = FakeBackbone(seed=3, lost=range(26, 36))
    pipeline = make_pipeline(backbone)
    with caplog.at_level(logging.WARNING):
        updates = run(pipeline, make_frames(76))
    assert [update.linked for update in updates] == [True, True, True, False, True, True, True]
    assert pipeline.links.n_unlinked == 1 and 'is not linked' in caplog.text
    assert len(pipeline.trajectory()) == 76
    assert (pipeline.states()[26:36] == FrameState.LOST).all()
    scale = backbone.gauge(0).scale
    truth, found = truth_in_odom(76, scale), pipeline.trajectory().T_map_camera
    np.testing.assert_allclose(found[:26], truth[:26], atol=2e-3)
    steps = np.linalg.norm(np.diff(found[:, :3, 3], axis=0), axis=1)
    assert steps[36:].mean() == pytest.approx(0.1 * scale, rel=0.3)


def test_lost_for_long_is_bounded():
    pipeline = make_pipeline(FakeBackbone(seed=3, lost=range(20, 200)))
    run(pipeline, make_frames(196))
    found = pipeline.trajectory().positions
    assert len(found) == 196 and np.isfinite(found).all()
    assert np.abs(found).max() < 30
    assert (found[100:] == found[100]).all()


@pytest.mark.parametrize('lost', [range(16), range(40), range(1)])
def test_a_lost_start_still_gives_every_frame_a_pose(lost):
    pipeline = make_pipeline(FakeBackbone(seed=6, lost=lost))
    run(pipeline, make_frames(66))
    trajectory = pipeline.trajectory()
    assert len(trajectory) == 66 and np.isfinite(trajectory.T_map_camera).all()
    np.testing.assert_allclose(trajectory.T_map_camera[0], np.eye(4), atol=1e-12)
    steps = np.linalg.norm(np.diff(trajectory.positions[50:], axis=0), axis=1)
    assert steps.std() < 0.1 * steps.mean()


class StandingBackbone(FakeBackbone):
    """No depth and no landmarks before frame 40: it stood there."""

    def step(self, state, window):
        """Return the fake's prediction, blind as long as all its frames stand."""
        state, prediction = super().step(state, window)
        if window.frame_ids[-1] < 40:
            prediction = dataclasses.replace(
                prediction, landmarks=None, states=np.full(len(window.frames), 1, np.uint8),
                confidence=np.zeros_like(prediction.confidence))
        return state, prediction


def test_standing_at_the_start_is_no_break():
    backbone = StandingBackbone(pose=lambda i: circle_pose(max(i, 40)), random_gauge=True)
    pipeline = make_pipeline(backbone)
    updates = run(pipeline, make_frames(86))
    assert all(update.linked for update in updates) and pipeline.links.n_unlinked == 0
    np.testing.assert_allclose(pipeline.trajectory().positions[:40], 0.0, atol=1e-9)
    steps = np.linalg.norm(np.diff(pipeline.trajectory().positions[45:], axis=0), axis=1)
    assert steps.std() < 0.1 * steps.mean()


def test_a_stream_gauge_needs_no_alignment():
    backbone = FakeBackbone(seed=7, gauge='stream', scale='metric', feed='new', align='identity')
    pipeline = make_pipeline(backbone)
    updates = run(pipeline, make_frames(56))
    np.testing.assert_allclose(pipeline.trajectory().T_map_camera, truth_in_odom(56, 1.0),
                               atol=1e-9)
    assert all(update.linked and update.log_scale == 0.0 for update in updates)


def test_two_runs_are_equal_and_reset_forgets():
    pipeline = make_pipeline(FakeBackbone(seed=8, noise=0.05))
    run(pipeline, make_frames(60))
    first = pipeline.trajectory().T_map_camera, pipeline.cloud().points
    pipeline.reset()
    assert len(pipeline.trajectory()) == len(pipeline.cloud()) == 0
    assert pipeline.push(Frame(0, 0, np.zeros((9, 9, 3), np.uint8))) is None
    pipeline.reset()
    run(pipeline, make_frames(60))
    np.testing.assert_array_equal(pipeline.trajectory().T_map_camera, first[0])
    np.testing.assert_array_equal(pipeline.cloud().points, first[1])


def held_bytes(thing, seen):
    """Return the array bytes that an object holds, arrays of poses in the log apart."""
    if id(thing) in seen or type(thing).__name__ == 'PoseLog':
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return thing.nbytes if thing.base is None else held_bytes(thing.base, seen)
    if isinstance(thing, dict):
        return sum(held_bytes(value, seen) for value in thing.values())
    if isinstance(thing, (list, tuple)):
        return sum(held_bytes(value, seen) for value in thing)
    names = list(getattr(thing, '__dict__', ())) + list(getattr(thing, '__slots__', ()))
    return sum(held_bytes(getattr(thing, name), seen) for name in names)


def test_memory_grows_by_a_few_kilobytes_a_window_beyond_its_budget():
    backbone = FakeBackbone(n_landmarks=60, noise=0.02)
    pipeline = Pipeline(backbone, make_aligner(backbone.spec.align), WindowConfig(6, 3),
                        dataclasses.replace(MAP, budget_mb=1.0), LOOP)
    sizes, n_windows = [], 0
    for frame in make_frames(1203):
        if pipeline.push(frame) is not None:
            n_windows += 1
            if n_windows in (340, 400):
                sizes.append(held_bytes(pipeline, set()))
    assert n_windows == 400 and len(pipeline.trajectory()) == 1203
    assert len(pipeline.cloud()) <= MAP.max_points
    assert pipeline.mapper.atlas.status().n_on_disk > 50
    assert sizes[1] - sizes[0] < 60 * 3000
    pipeline.close()


def test_frames_must_come_in_order_and_in_one_size():
    pipeline = make_pipeline(FakeBackbone())
    frames = make_frames(3)
    pipeline.push(frames[1])
    with pytest.raises(ValueError, match='frame.index: must rise, got 1 after 1'):
        pipeline.push(frames[1])
    with pytest.raises(InputError, match='frame 2: its stamp 5 ns is before'):
        pipeline.push(dataclasses.replace(frames[2], stamp_ns=5))
    with pytest.raises(InputError, match='frame 2: the image is 9x9 px'):
        pipeline.push(dataclasses.replace(frames[2], image=np.zeros((9, 9, 3), np.uint8)))
    assert pipeline.push(frames[2]) is None and pipeline.flush() is not None


def test_an_empty_stream():
    pipeline = make_pipeline(FakeBackbone())
    assert pipeline.flush() is None and len(pipeline.trajectory()) == 0
    assert isinstance(pipeline.cloud(), PointCloud) and len(pipeline.states()) == 0


@pytest.fixture
def fake_by_name(monkeypatch):
    def use(**spec):
        changed = dataclasses.replace(FakeBackbone.spec, **spec)

        class Named(FakeBackbone):
            spec = changed

            def __init__(self, options):
                assert options == FakeConfig()
                super().__init__(**{k: getattr(changed, k) for k in changed.__slots__})

        monkeypatch.setattr(backbones, 'load', lambda name: Named)
    return use


def test_from_config_makes_the_chain_the_backbone_asks_for(fake_by_name):
    fake_by_name(align='se3', scale='metric')
    loaded = dataclasses.replace(config.load(), backbone='fake', backbone_options={})
    pipeline = Pipeline.from_config(loaded)
    run(pipeline, make_frames(36))
    np.testing.assert_allclose(pipeline.trajectory().T_map_camera, truth_in_odom(36, 1.0),
                               atol=1e-4)


@pytest.mark.parametrize('spec, changes, words', [
    ({}, {'align': 'identity'}, 'align: fake gives each window its own frame'),
    ({}, {'align': 'best'}, "align: there is no 'best'; choose auto or one of: identity"),
    ({}, {'window': WindowConfig(8, 0)}, 'window.overlap: depth_ratio needs shared frames'),
    ({'feed': 'new'}, {}, 'align: fake sees every frame once'),
    ({}, {'backbone_options': {'depth': 3}}, 'depth: unknown parameter; there are none here'),
])
def test_contradictions_are_refused(fake_by_name, spec, changes, words):
    fake_by_name(**spec)
    loaded = dataclasses.replace(config.load(), backbone='fake', backbone_options={})
    with pytest.raises(ConfigError, match=words):
        Pipeline.from_config(dataclasses.replace(loaded, **changes))


def test_a_backbone_that_answers_for_other_frames_is_refused():
    class Wrong(FakeBackbone):
        def step(self, state, window):
            state, prediction = super().step(state, window)
            return state, dataclasses.replace(prediction, frame_ids=prediction.frame_ids + 1)

    pipeline = make_pipeline(Wrong(), size=4, overlap=2)
    with pytest.raises(ValueError, match='fake: the prediction must hold the frames of window 0'):
        run(pipeline, make_frames(4))


def test_importing_the_pipeline_stays_light():
    code = ('import sys, longrecon_ros.pipeline; '
            'print(sorted({name.split(".")[0] for name in sys.modules}))')
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    loaded = set(eval(out.stdout))
    assert 'longrecon_ros' in loaded
    assert not loaded & {'torch', 'rclpy', 'scipy', 'matplotlib', 'rosbags', 'rich', 'evo',
                         'open3d', 'sensor_msgs', 'nav_msgs', 'tf2_ros', 'onnxruntime'}
