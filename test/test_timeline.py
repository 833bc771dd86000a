"""The timeline of a run: gathered in bounded memory, its figures, its picture."""

import json

from clips import FAKE, use_fake_backbone, write_clip
from fakes import FakeBackbone, make_frames
import numpy as np
import pytest

from longrecon_ros import config
from longrecon_ros.alignment import make_aligner
from longrecon_ros.cli.main import main
from longrecon_ros.cli.timeline import timeline_lines
from longrecon_ros.config import WindowConfig
from longrecon_ros.loop.settings import LoopConfig
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.report import recorder as recorder_module
from longrecon_ros.report.timeline import hidden_share, timeline_of
from longrecon_ros.results import RunRecorder

INFER = [[0.0, 2.0], [2.0, 4.0], [4.0, 6.0]]


@pytest.mark.parametrize('register, share', [
    ([[2.0, 3.0], [4.0, 5.0], [6.0, 7.0]], 2 / 3),          # the last has nothing beside it
    ([[6.5, 7.0], [7.0, 8.0], [8.0, 9.0]], 0.0),
    ([[2.0, 4.0]], 1.0),
    ([[1.0, 5.0]], 1.0),                                    # across windows
    ([[5.0, 9.0]], 0.25),
    ([[3.0, 3.0]], None),
])
def test_hidden_share(register, share):
    found = hidden_share(np.array(INFER), np.array(register))
    assert found is None if share is None else found == pytest.approx(share)


def test_the_recorder_keeps_the_spans_of_the_last_windows(monkeypatch):
    monkeypatch.setattr(recorder_module, 'N_SPANS', 3)
    pipeline = Pipeline(FakeBackbone(), make_aligner('depth_ratio'), WindowConfig(6, 3),
                        config.load().map, config.build(LoopConfig, config.load().loop))
    recorder, updates = RunRecorder(), []
    assert timeline_of(recorder.statistics()) is None
    for frame in make_frames(21):
        update = pipeline.push(frame)
        if update is not None:
            recorder.add(update)
            updates.append(update)
    timeline = timeline_of(recorder.statistics())
    assert len(updates) == 6 and timeline['first_window'] == 3
    for part in ('backbone', 'register'):
        np.testing.assert_allclose(timeline[f'{part}_s'],
                                   [update.spans_s[part] for update in updates[3:]], atol=1e-6)
    assert timeline['hidden_share'] == 0.0, 'the pipeline by itself does one after the other'


def test_the_picture_shows_what_runs_at_once():
    timeline = {'first_window': 5, 'backbone_s': INFER,
                'register_s': [[2.0, 3.0], [4.0, 4.01], [6.0, 8.0]], 'hidden_share': 0.336}
    lines = timeline_lines(timeline, width=16)
    assert lines[0] == ('timeline of windows 5 to 7, 0.00 to 8.00 s after the first frame, 500 ms '
                        'a column: = inference, # registration')
    assert lines[1:-1] == ['     5 |====##          |',
                           '     6 |    ====#       |',
                           '     7 |        ====####|']
    assert lines[-1] == ('registration took 3.01 s in 3 windows, 34 % of it beside the inference '
                         'of other windows (the rest while frames were read, or at the end)')
    assert timeline_lines(timeline, n_rows=1, width=8)[1:-1] == ['     7 |====####|']
    assert timeline_lines(None) == ['timeline: no window was processed']


@pytest.mark.parametrize('use_thread', ['true', 'false'])
def test_run_shows_it_on_demand_and_its_results_do_not_depend_on_the_thread(
        capsys, monkeypatch, tmp_path, use_thread):
    use_fake_backbone(monkeypatch)
    clip = write_clip(tmp_path / 'clip')
    words = ['run', str(clip), *FAKE, '--set', f'pipeline.use_thread={use_thread}']
    assert main([*words, '--out', str(tmp_path / 'out'), '--timeline', '-q']) == 0
    out = capsys.readouterr().out
    assert 'timeline of windows 0 to ' in out and 'of it beside the inference of other' in out
    timeline = json.loads((tmp_path / 'out/result.json').read_text())['timeline']
    assert len(timeline['backbone_s']) == len(timeline['register_s']) > 1
    if use_thread == 'false':
        assert timeline['hidden_share'] == 0.0
    assert main(['run', str(clip), *FAKE, '--out', str(tmp_path / 'again'), '-q']) == 0
    assert 'timeline' not in capsys.readouterr().out
    for name in ('trajectory.txt', 'map.ply'):
        assert (tmp_path / 'out' / name).read_bytes() == (tmp_path / 'again' / name).read_bytes()
