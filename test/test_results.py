"""The recorder, and the files of a run, fed by the pipeline itself."""

import json
import os
from pathlib import Path

from fakes import circle_pose, FakeBackbone, make_frames, room_depth
import numpy as np
import pytest

from longrecon_ros import config
from longrecon_ros.errors import InputError
from longrecon_ros.io.ply import read_ply
from longrecon_ros.io.trajectory_file import read_tum
from longrecon_ros.loop.settings import LoopConfig
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.report import recorder as recorder_module
from longrecon_ros.results import FILES, RunRecord, RunRecorder, write_run
from longrecon_ros.types import Trajectory

N = 60


def _truth(index, size):
    depth = room_depth(circle_pose(index)).astype(np.float32)
    assert depth.shape == size[::-1]
    return depth


@pytest.fixture(scope='module')
def record():
    """Return the record of a run over the room, with truth."""
    settings = config.load(overrides={'backbone': 'fake'})
    pipeline = Pipeline(FakeBackbone(lost=(30,)), _aligner(), settings.window, settings.map,
                        config.build(LoopConfig, settings.loop))
    recorder = RunRecorder(_truth)
    recorder.add_time('read', 12.5)
    for frame in [*make_frames(N), None]:
        update = pipeline.flush() if frame is None else pipeline.push(frame)
        if update is not None:
            recorder.add(update)
    poses = np.stack([circle_pose(k) for k in range(N)])
    return RunRecord('the room', settings, N, pipeline.trajectory(), pipeline.states(),
                     pipeline.cloud(), recorder.statistics(), 2.0,
                     odometry=pipeline.odometry(), loops=pipeline.loops(),
                     saved_map=(pipeline.map_record(), pipeline.mapper.atlas.submap),
                     groundtruth=Trajectory(pipeline.trajectory().stamps_ns, poses))


def _aligner():
    from longrecon_ros.alignment import make_aligner
    return make_aligner('depth_ratio')


def test_recorder_counts_every_frame_once(record):
    statistics = record.statistics
    assert sum(window.n_new for window in statistics.windows) == N
    assert statistics.depth.n_frames == N
    assert statistics.n_pixels == N * 16 * 12
    assert statistics.n_confident == (N - 1) * 16 * 12
    assert statistics.stage_ms['read'] == 12.5
    assert {'backbone', 'align', 'map'} <= set(statistics.stage_ms)


def test_samples_are_spread_and_bounded(record):
    ids = [sample.frame_id for sample in record.statistics.samples]
    assert len(ids) == recorder_module.N_SAMPLES
    assert ids[0] == 0 and ids[-1] >= 0.7 * N
    assert max(np.diff(ids)) <= 2.5 * min(np.diff(ids))
    assert all(sample.true_depth is not None for sample in record.statistics.samples)


def test_all_files_are_written_and_readable(record, tmp_path):
    summary = write_run(tmp_path / 'out', record)
    assert sorted(os.listdir(tmp_path / 'out')) == sorted(FILES)
    assert json.loads((tmp_path / 'out/result.json').read_text()) == summary
    trajectory = read_tum(tmp_path / 'out/trajectory.txt')
    np.testing.assert_array_equal(trajectory.stamps_ns, record.trajectory.stamps_ns)
    assert len(read_ply(tmp_path / 'out/map.ply')) == len(record.cloud) == summary['map_points']
    for key in ('frames', 'poses', 'path_length_m', 'fps', 'backbone', 'align', 'ate_sim3_m',
                'ate_se3_m', 'drift_percent', 'coverage', 'depth_absrel', 'n_lost', 'n_unlinked',
                'link_log_scale_mean', 'link_log_scale_std', 'timings_ms', 'config', 'versions',
                'source'):
        assert summary[key] is not None, key
    assert (summary['frames'], summary['n_lost'], summary['fps']) == (N, 1, 30)
    assert summary['depth_absrel'] < 0.01


def test_truth_of_other_times_becomes_a_warning(record, tmp_path):
    shifted = Trajectory(record.groundtruth.stamps_ns + 10**12, record.groundtruth.T_map_camera)
    fields = {name: getattr(record, name) for name in RunRecord.__slots__}
    summary = write_run(tmp_path / 'out', RunRecord(**{**fields, 'groundtruth': shifted}))
    assert summary['ate_sim3_m'] is None
    assert any('check the time stamps' in warning for warning in summary['warnings'])


def test_failure_while_writing_leaves_nothing(record, tmp_path, monkeypatch):
    def full_disk(path, text):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('longrecon_ros.results.write_text', full_disk)
    with pytest.raises(InputError, match='out: the results cannot be written .No space left'):
        write_run(tmp_path / 'out', record)
    assert os.listdir(tmp_path) == []


def test_old_page_does_not_stay_beside_new_figures(record, tmp_path):
    write_run(tmp_path, record)
    write_run(tmp_path, record, use_report=False, force=True)
    assert 'report.html' not in os.listdir(tmp_path)
    with pytest.raises(InputError, match='not empty'):
        write_run(Path(tmp_path), record)
