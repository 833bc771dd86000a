"""A stream that goes on in another process, from its tail and a checkpoint."""

import dataclasses

from fakes import FakeBackbone, make_frames
import numpy as np
import pytest
from resuming import (
    again,
    assert_same_trajectory,
    fake_pipeline,
    LOOP,
    MAP,
    over_the_wire,
    OVERLAP,
    push,
    resumed,
    SIZE,
    until,
)

from longrecon_ros.alignment import make_aligner
from longrecon_ros.checkpoint import Checkpointer, load_checkpoint, Resume
from longrecon_ros.config import WindowConfig
from longrecon_ros.geometry import se3
from longrecon_ros.map_store import load_map, save_map
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.tail import Tail
from longrecon_ros.types import FrameState

# --- the chain goes on ---------------------------------------------------------------------------

@pytest.mark.parametrize('noise', [0.0, 0.03])
@pytest.mark.parametrize('n_windows', [1, 3])
def test_a_stream_goes_on_as_if_nothing_had_been(tmp_path, noise, n_windows):
    frames = make_frames(87)
    whole = fake_pipeline(FakeBackbone(seed=1, noise=noise))
    expected = push(whole, frames)
    cut = fake_pipeline(FakeBackbone(seed=1, noise=noise))
    until(cut, frames, n_windows)
    resume = resumed(cut, tmp_path / 'state')
    assert resume.tail.prediction.frame_ids.tolist() == list(range(10 * n_windows,
                                                                   10 * n_windows + OVERLAP))
    pipeline = fake_pipeline(FakeBackbone(seed=1, noise=noise), resume)
    updates = push(pipeline, again(frames, resume))
    assert len(updates) == len(expected) - n_windows
    for update, other in zip(updates, expected[n_windows:]):
        np.testing.assert_array_equal(update.frame_ids, other.frame_ids)
        np.testing.assert_allclose(update.T_odom_camera, other.T_odom_camera, atol=1e-6)
        assert update.linked and update.log_scale == pytest.approx(other.log_scale, abs=1e-6)
        np.testing.assert_allclose(update.covariance, other.covariance, rtol=1e-3, atol=1e-9)
    assert_same_trajectory(pipeline.trajectory(), whole.trajectory(), 1e-6)
    assert pipeline.mapper.atlas.ids == whole.mapper.atlas.ids
    np.testing.assert_allclose(pipeline.cloud().points, whole.cloud().points, atol=1e-5)
    ends = [[(e.target, e.source) for e in p.map_record().edges] for p in (pipeline, whole)]
    assert ends[0] == ends[1] and (n_windows - 1, n_windows) in ends[0]
    np.testing.assert_allclose([e.sigma for e in pipeline.map_record().edges],
                               [e.sigma for e in whole.map_record().edges], atol=1e-5)


def test_a_process_may_die_again_and_again(tmp_path):
    frames, backbone = make_frames(106), FakeBackbone(seed=5, noise=0.02)
    whole = fake_pipeline(backbone)
    push(whole, frames)
    pipeline, left = fake_pipeline(backbone), frames
    for n_windows in (2, 1, 3):
        until(pipeline, left, n_windows)
        resume = resumed(pipeline, tmp_path / 'state')
        pipeline, left = fake_pipeline(backbone, resume), again(frames, resume)
    # also right after it went on, before a window
    resume = resumed(pipeline, tmp_path / 'state')
    pipeline = fake_pipeline(backbone, resume)
    push(pipeline, left)
    assert_same_trajectory(pipeline.trajectory(), whole.trajectory(), 1e-6)
    assert pipeline.mapper.atlas.ids == list(range(10))


def test_windows_after_the_checkpoint_are_missing_and_nothing_else(tmp_path):
    frames, backbone = make_frames(96), FakeBackbone(seed=2)
    whole = fake_pipeline(backbone)
    push(whole, frames)
    pipeline = fake_pipeline(backbone)
    last = until(pipeline, frames, 2)
    Checkpointer(tmp_path).save(pipeline)
    until(pipeline, frames[last + 1:], 3)
    resume = Resume(load_checkpoint(tmp_path), over_the_wire(pipeline.tail()))
    pipeline = fake_pipeline(backbone, resume)
    # the frames of windows 0 and 1, and those of the tail
    assert len(pipeline.trajectory()) == 26 + OVERLAP
    push(pipeline, again(frames, resume))
    assert pipeline.mapper.atlas.ids == [0, 1, 5, 6, 7, 8]
    kept = [*range(26), *range(50, 96)]
    assert_same_trajectory(pipeline.trajectory(), dataclasses.replace(
        whole.trajectory(), stamps_ns=whole.trajectory().stamps_ns[kept],
        T_map_camera=whole.trajectory().T_map_camera[kept]), 1e-6)
    edges = {(e.target, e.source): e for e in pipeline.map_record().edges}
    T = whole.odometry().T_map_camera
    np.testing.assert_allclose(edges[1, 5].T_target_source.as_matrix(),
                               se3.relative(T[16], T[56]), atol=1e-6)
    # four windows have drifted in between
    np.testing.assert_allclose(edges[1, 5].sigma[3:], 2 * edges[0, 1].sigma[3:])
    assert np.isfinite(pipeline.states()).all() and len(pipeline.states()) == 72


def test_without_a_checkpoint_the_map_begins_anew_at_its_place():
    frames, backbone = make_frames(66), FakeBackbone(seed=2)
    whole = fake_pipeline(backbone)
    push(whole, frames)
    cut = fake_pipeline(backbone)
    until(cut, frames, 3)
    tail = over_the_wire(cut.tail())
    # the map had moved over odom
    T_map_odom = se3.exp(np.array([1.0, -2.0, 3.0, 0.1, 0.2, -0.3]))
    for T in (np.eye(4), T_map_odom):
        resume = Resume(None, dataclasses.replace(tail, T_map_odom=T))
        pipeline = fake_pipeline(backbone, resume)
        assert len(pipeline.trajectory()) == OVERLAP and pipeline.checkpoint() is None
        np.testing.assert_array_equal(pipeline.mapper.T_map_odom, T)
        updates = push(pipeline, again(frames, resume))
        assert pipeline.mapper.atlas.ids == [3, 4, 5]
        for update in updates:
            np.testing.assert_allclose(update.T_map_odom, T, atol=1e-9)
        np.testing.assert_allclose(pipeline.trajectory().T_map_camera,
                                   T @ whole.trajectory().T_map_camera[30:], atol=1e-5)
        # the graph is where the map is, so that a closure bends and does not move it
        poses = pipeline.mapper._loops.graph.poses
        for i, pose in pipeline.mapper.atlas.poses().items():
            np.testing.assert_allclose(poses[i].as_matrix(), pose.as_matrix(), atol=1e-9)


def test_frames_that_are_gone_cost_the_link_and_no_more(tmp_path, caplog):
    frames, backbone = make_frames(66), FakeBackbone(seed=2)
    cut = fake_pipeline(backbone)
    last = until(cut, frames, 2)
    pipeline = fake_pipeline(backbone, resumed(cut, tmp_path))
    updates = push(pipeline, frames[last + 3:])
    assert [u.linked for u in updates] == [False, True, True, True]
    assert 'is not linked' in caplog.text
    steps = np.linalg.norm(np.diff(pipeline.trajectory().positions, axis=0), axis=1)
    assert steps.max() < 2 * np.median(steps)


@pytest.mark.parametrize('is_mapping', [True, False])
@pytest.mark.parametrize('has_checkpoint', [True, False])
def test_a_session_in_a_map_from_disk_goes_on(tmp_path, is_mapping, has_checkpoint):
    backbone, frames = FakeBackbone(seed=2), make_frames(66)
    first = fake_pipeline(backbone)
    push(first, make_frames(36, first=500))
    save_map(tmp_path / 'map', first.map_record(), first.mapper.atlas.submap)
    base = load_map(tmp_path / 'map')

    def make(resume=None):
        return Pipeline(backbone, make_aligner('sim3'), WindowConfig(SIZE, OVERLAP), MAP, LOOP,
                        base=base, is_mapping=is_mapping, resume=resume)
    whole, cut = make(), make()
    push(whole, frames)
    until(cut, frames, 2)
    resume = resumed(cut, tmp_path / 'state' if has_checkpoint else None)
    pipeline = make(resume)
    push(pipeline, again(frames, resume))
    mapper, ids = pipeline.mapper, [0, 1, 2, *range(3 if has_checkpoint else 5, 9)]
    assert mapper.atlas.ids == ids and mapper.session == 1 and not mapper.is_located
    assert whole.mapper.atlas.ids == [0, 1, 2, *range(3, 9)]
    n = 66 if has_checkpoint else 66 - 20
    np.testing.assert_allclose(pipeline.trajectory().T_map_camera,
                               whole.trajectory().T_map_camera[-n:], atol=1e-6)
    record = pipeline.map_record()
    assert set(record.sessions) == {0, 1} and record.session_of == {i: int(i > 2) for i in ids}
    for i, pose in base.poses.items():
        np.testing.assert_array_equal(record.poses[i].as_matrix(), pose.as_matrix())
    assert len(record.sessions[0].trajectory) == 36 and len(record.sessions[1].trajectory) == n
    # what only localises leaves the map where it is
    assert mapper._loops.graph._fixed == (set() if is_mapping else {0, 1, 2})
    # and a map that is saved elsewhere has all submaps, whatever becomes of the checkpoint
    save_map(tmp_path / 'copy', record, mapper.atlas.submap)
    assert list(load_map(tmp_path / 'copy').poses) == ids


def test_reset_after_a_resume_begins_a_new_stream(tmp_path):
    frames, backbone = make_frames(46), FakeBackbone(seed=2)
    whole = fake_pipeline(backbone)
    push(whole, frames)
    cut = fake_pipeline(backbone)
    until(cut, frames, 2)
    pipeline = fake_pipeline(backbone, resumed(cut, tmp_path / 'state'))
    pipeline.reset()
    assert pipeline.tail() is None and len(pipeline.trajectory()) == 0
    push(pipeline, frames)
    assert_same_trajectory(pipeline.trajectory(), whole.trajectory(), 0)


# --- backbones whose gauge lasts -----------------------------------------------------------------

@pytest.mark.parametrize('overlap', [0, 1, 6])
def test_a_gauge_of_the_stream_is_found_again(tmp_path, overlap):
    frames = make_frames(80)

    def backbone(seed):
        return FakeBackbone(seed=seed, gauge='stream', feed='new', align='identity')
    whole = fake_pipeline(backbone(1), align='identity', overlap=overlap)
    push(whole, frames)
    cut = fake_pipeline(backbone(1), align='identity', overlap=overlap)
    until(cut, frames, 2)
    resume = resumed(cut, tmp_path)
    assert len(resume.tail.prediction.frame_ids) == max(1, overlap)
    # a backbone that starts anew has another frame and scale
    pipeline = fake_pipeline(backbone(9), resume, 'identity', make_aligner('sim3_points'),
                             overlap=overlap)
    updates = push(pipeline, again(frames, resume))
    assert updates[0].prediction.frame_ids[0] == resume.tail.prediction.frame_ids[0]
    assert updates[1].prediction.frame_ids[0] == updates[0].frame_ids[-1] + 1
    assert all(update.linked for update in updates)
    assert_same_trajectory(pipeline.trajectory(), whole.trajectory(), 1e-4)


def test_a_gauge_of_the_stream_waits_for_a_window_that_sees_something(tmp_path):
    frames = make_frames(80)

    def backbone(seed, lost=()):
        return FakeBackbone(seed=seed, gauge='stream', feed='new', align='identity', lost=lost)
    cut = fake_pipeline(backbone(1), align='identity')
    last = until(cut, frames, 2)
    resume = resumed(cut, tmp_path)
    pipeline = fake_pipeline(backbone(9, range(last - 10, last + 11)), resume, 'identity',
                             make_aligner('sim3_points'))
    updates = push(pipeline, again(frames, resume))
    assert [u.linked for u in updates[:3]] == [False, False, True]
    assert (updates[0].states == FrameState.LOST).all()
    # nothing ties the windows to the tail: their scale is a guess, which they share
    steps = np.linalg.norm(np.diff(pipeline.trajectory().positions, axis=0), axis=1)
    after = steps[last + 12:]
    assert after.min() > 0 and after.std() < 0.1 * after.mean()


def test_a_scale_that_the_memory_had_fixed_is_found_again(tmp_path):
    # as loger: windows share a scale and are aligned without one
    frames = make_frames(80)

    class OneScale(FakeBackbone):
        def gauge(self, window_index):
            gauge = super().gauge(window_index)
            return dataclasses.replace(gauge, scale=1.0 + self._seed)
    whole = fake_pipeline(OneScale(seed=1), align='se3')
    push(whole, frames)
    cut = fake_pipeline(OneScale(seed=1), align='se3')
    until(cut, frames, 3)
    resume = resumed(cut, tmp_path)
    pipeline = fake_pipeline(OneScale(seed=4), resume, 'se3', make_aligner('sim3'))
    updates = push(pipeline, again(frames, resume))
    assert all(update.linked for update in updates)
    assert_same_trajectory(pipeline.trajectory(), whole.trajectory(), 1e-4)


# --- tails ---------------------------------------------------------------------------------------

def test_a_tail_that_is_not_whole_is_refused():
    pipeline = fake_pipeline(FakeBackbone())
    assert pipeline.tail() is None and pipeline.checkpoint() is None
    push(pipeline, make_frames(40))
    tail = pipeline.tail()
    values = tail.to_arrays()
    assert tail.prediction.landmarks is None and tail.prediction.gauge is None
    for name in ('n_windows', 'stamps_ns', 'T_map_odom', 'prediction.local_points'):
        with pytest.raises(ValueError, match=name):
            Tail.from_arrays({key: value for key, value in values.items() if key != name})
    for name in ('stamps_ns', 'T_map_odom', 'prediction.confidence'):
        with pytest.raises(ValueError, match=name.split('.')[-1]):
            Tail.from_arrays({**values, name: values[name][1:]})
    for name in ('K', 'prediction.K', 'prediction.layers', 'drift'):
        found = Tail.from_arrays({key: value for key, value in values.items() if key != name})
        assert found.to_arrays().keys() == values.keys() - {name}


def test_a_checkpoint_of_another_stream_is_refused(tmp_path):
    pipeline = fake_pipeline(FakeBackbone())
    push(pipeline, make_frames(40))
    Checkpointer(tmp_path).save(pipeline)
    checkpoint, tail = load_checkpoint(tmp_path), pipeline.tail()
    with pytest.raises(ValueError, match='checkpoint: is of a stream that began'):
        Resume(checkpoint, dataclasses.replace(tail, first_stamp_ns=5))
    with pytest.raises(ValueError, match='checkpoint: holds 4 windows'):
        Resume(checkpoint, dataclasses.replace(tail, n_windows=2))
