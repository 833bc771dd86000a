"""Scal3R in lock step: on disk, interrupted, gone on with, and shared by processes."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import lockstep_rig as rig
import numpy as np
import pytest
from test_scal3r import make, windows_of

from longrecon_ros.backbones.base import Work
from longrecon_ros.cli.main import main
from longrecon_ros.errors import InputError
from longrecon_ros.types import FrameState

torch = pytest.importorskip('torch')

pytestmark = pytest.mark.torch
N = 60                                      # frames of the clip: 14 windows
ON_DISK = ('--set', 'scal3r.memory_mb=0')


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clip') / 'room'
    assert main(['synth', str(folder), '--frames', str(N), '--size', '112x84', '-q']) == 0
    return folder


@pytest.fixture(scope='module')
def whole(clip, tmp_path_factory):
    """Return the results of a run that nothing has disturbed, all in memory."""
    out = tmp_path_factory.mktemp('whole') / 'out'
    assert main(rig.arguments(clip, out)) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ['out']
    return out


def predict_all(backbone, windows, folder, recording='a', tell=lambda done, of: None):
    folder.mkdir(exist_ok=True)
    return list(backbone.predict_all(windows, Work(folder, recording, tell)))


# --- what it predicts --------------------------------------------------------------------------

def test_one_window_is_the_same_in_both_forms(tmp_path):
    backbone = make()
    window = windows_of(backbone)[0]
    live = backbone.step(backbone.init(), window)[1]
    exact, = predict_all(backbone, [window], tmp_path / 'work')
    for field in ('T_window_camera', 'local_points', 'confidence'):
        np.testing.assert_allclose(getattr(exact, field), getattr(live, field), atol=1e-5)


def test_early_windows_recall_what_comes_later(tmp_path):
    backbone = make()
    windows = windows_of(backbone)
    exact = predict_all(backbone, windows, tmp_path / 'all')
    fewer = predict_all(backbone, windows[:-1], tmp_path / 'fewer')
    assert [p.frame_ids.tolist() for p in exact] == [w.frame_ids.tolist() for w in windows]
    assert np.abs(exact[0].depth - fewer[0].depth).max() > 1e-4
    live = backbone.step(backbone.init(), windows[0])[1]
    assert np.abs(exact[0].depth - live.depth).max() > 1e-4


@pytest.mark.parametrize('dark', [{7}, {0, 1}, set(range(9, 18)), set(range(24))])
def test_black_frames_do_not_reach_the_memory(dark, tmp_path):
    backbone = make()
    predictions = predict_all(backbone, windows_of(backbone, dark), tmp_path / 'work')
    for p in predictions:
        is_dark = np.isin(p.frame_ids, list(dark))
        np.testing.assert_array_equal(p.states == FrameState.LOST, is_dark)
        assert np.isfinite(p.T_window_camera).all() and not p.confidence[is_dark].any()


def test_a_window_that_is_not_finite_spoils_no_other(tmp_path, caplog):
    backbone = make()
    windows = windows_of(backbone)
    net, seen = backbone._network.net, []
    begin = net.begin

    def spoiled(patches):
        seen.append(patches)
        return begin(patches * torch.nan if len(seen) == 2 else patches)
    net.begin = spoiled
    with_bad = predict_all(backbone, windows, tmp_path / 'bad')
    del net.begin
    without = predict_all(backbone, windows[:1] + windows[2:], tmp_path / 'good')
    assert (with_bad.pop(1).states == FrameState.LOST).all()
    assert 'gave numbers that are not finite' in caplog.text
    for a, b in zip(with_bad, without, strict=True):
        np.testing.assert_array_equal(a.depth, b.depth)


def test_progress_rises_to_its_end(tmp_path):
    backbone, steps = make(), []
    windows = windows_of(backbone)
    predict_all(backbone, windows, tmp_path / 'work', tell=lambda *step: steps.append(step))
    n = 3 * len(windows)                    # two stages, and the heads
    assert steps == [(i, n) for i in range(1, n + 1)]


# --- on disk, and gone on with ------------------------------------------------------------------

def test_what_does_not_fit_into_memory_is_on_disk(clip, whole, tmp_path, monkeypatch):
    from longrecon_ros.backbones import _spill
    written = []
    write = _spill.Spill._write
    monkeypatch.setattr(_spill.Spill, '_write', lambda self, path, values: (
        written.append(path.name), write(self, path, values))[1])
    assert main(rig.arguments(clip, tmp_path / 'out', *ON_DISK)) == 0
    assert rig.same(whole, tmp_path / 'out')
    assert sum('stage' in name for name in written) == 2 * 14
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out']


@pytest.mark.parametrize('file', [
    pytest.param('window000005.stage0.pt', marks=pytest.mark.slow), 'unit0.pt'])
def test_a_killed_run_goes_on_to_the_same_bytes(clip, whole, tmp_path, file):
    out, work = tmp_path / 'out', tmp_path / 'out.work/alone'
    process = rig.start(clip, out, '--set', 'scal3r.memory_mb=1')
    rig.wait_for(work / file, process)
    process.send_signal(signal.SIGKILL)
    assert rig.finish(process)[0] == -signal.SIGKILL and not out.exists()
    known = {path.name: path.stat().st_mtime_ns for path in work.glob('unit*.pt')}
    assert main(rig.arguments(clip, out, '--resume')) == 0
    assert rig.same(whole, out) and not work.parent.exists()
    assert file == 'window000005.stage0.pt' or file in known


def test_only_what_is_missing_or_damaged_is_made_again(tmp_path, caplog):
    backbone = make(memory_mb=0)
    windows, work = windows_of(backbone), tmp_path / 'work'
    before = predict_all(backbone, windows, work)
    (work / 'window000000.stage1.pt').unlink()
    for name in ('window000002.stage1.pt', 'window000003.level0.pt'):
        path = work / name
        path.write_bytes(path.read_bytes()[:-200])
    encoded, encode = [], backbone._network.encode
    backbone._network.encode = lambda window: (encoded.append(window.index), encode(window))[1]
    again = predict_all(backbone, windows, work)
    assert encoded == [0, 2, 3]
    assert 'window000002.stage1.pt cannot be read' in caplog.text
    for a, b in zip(before, again, strict=True):
        np.testing.assert_array_equal(a.local_points, b.local_points)


def test_a_sum_is_gone_on_with(tmp_path, monkeypatch):
    from longrecon_ros.backbones import _spill
    monkeypatch.setattr(_spill, '_TOTAL_EVERY_S', 0.0)
    backbone = make(memory_mb=0)
    windows, work = windows_of(backbone), tmp_path / 'work'
    whole = predict_all(backbone, windows, tmp_path / 'whole')
    net, gradient = backbone._network.net, backbone._network.net.gradient
    n_calls = []

    def interrupted(*arguments):
        n_calls.append(arguments[0])
        if len(n_calls) == len(windows) + 4:
            raise KeyboardInterrupt
        return gradient(*arguments)
    net.gradient = interrupted
    with pytest.raises(KeyboardInterrupt):
        predict_all(backbone, windows, work)
    again = predict_all(backbone, windows, work)
    del net.gradient
    # the second stage was at its fourth window: three were in the sum
    assert n_calls.count(1) == 4 + len(windows) - 3 and n_calls.count(0) == len(windows)
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a.local_points, b.local_points)


def test_another_run_is_not_gone_on_with(clip, tmp_path, capsys):
    out, work = tmp_path / 'out', tmp_path / 'out.work/alone'
    assert main(rig.arguments(clip, out, '--resume')) == 2
    assert 'no interrupted run to go on with' in capsys.readouterr().err
    work.mkdir(parents=True)
    (work / 'run.json').write_text(json.dumps({'recording': 'another'}))
    assert main(rig.arguments(clip, out)) == 2
    assert 'add --resume to go on with it, or --force' in capsys.readouterr().err
    assert main(rig.arguments(clip, out, '--resume')) == 2
    said = capsys.readouterr().err
    assert 'belongs to a run with other format, recording, windows, parameters' in said
    (work / 'run.json').write_text('{')
    assert main(rig.arguments(clip, out, '--resume')) == 2
    assert 'begin anew with --force' in capsys.readouterr().err and not out.exists()
    assert main(rig.arguments(clip, out, '--force', '--max-frames', '20')) == 0
    assert out.exists() and not work.exists()


def test_resume_is_for_runs_in_lock_step(clip, whole, tmp_path, capsys, monkeypatch):
    causal = rig.arguments(clip, tmp_path / 'out', '--set', 'scal3r.offline=causal')
    assert main([*causal, '--resume']) == 2
    assert 'only runs in lock step' in capsys.readouterr().err
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert main(causal) == 2
    assert 'start one process' in capsys.readouterr().err
    monkeypatch.delenv('WORLD_SIZE')
    assert main(causal) == 0
    for out, is_causal in ((tmp_path / 'out', True), (whole, False)):
        warnings = json.loads((out / 'result.json').read_text())['warnings']
        assert any('causal form of our own' in text for text in warnings) == is_causal


def test_too_small_a_disk_is_known_at_the_start(tmp_path, monkeypatch):
    backbone = make(memory_mb=0)
    usage = shutil._ntuple_diskusage(10**6, 10**6, 1000)
    monkeypatch.setattr('shutil.disk_usage', lambda path: usage)
    with pytest.raises(InputError, match='make room, raise scal3r.memory_mb'):
        predict_all(backbone, windows_of(backbone), tmp_path / 'work')


def test_a_full_disk_leaves_what_was_reached(tmp_path, monkeypatch):
    from longrecon_ros.backbones import _spill
    backbone = make(memory_mb=0)
    windows, work = windows_of(backbone), tmp_path / 'work'
    atomic_file, n_files = _spill.atomic_file, []

    def full(path):
        n_files.append(path)
        if len(n_files) == 12:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return atomic_file(path)
    monkeypatch.setattr(_spill, 'atomic_file', full)
    with pytest.raises(InputError, match=r'No space left on device\): make room, then go on'):
        predict_all(backbone, windows, work)
    again = predict_all(backbone, windows, work)
    for a, b in zip(predict_all(backbone, windows, tmp_path / 'other'), again, strict=True):
        np.testing.assert_array_equal(a.local_points, b.local_points)


def test_frames_are_read_from_the_spool(tmp_path):
    from longrecon_ros.spool import FrameSpool
    frames = windows_of(make())[0].frames
    with FrameSpool(tmp_path / 'frames.rgb') as spool:
        assert spool.frames() == []
        for frame in frames:
            spool.add(frame)
        for a, b in zip(frames, spool.frames(), strict=True):
            np.testing.assert_array_equal(a.image, b.image)
            assert (a.index, a.stamp_ns) == (b.index, b.stamp_ns) and (a.K == b.K).all()
        digest = spool.digest()
        small = dataclasses.replace(frames[0], image=frames[0].image[1:])
        with pytest.raises(ValueError, match='expected'):
            spool.add(small)
    with FrameSpool(tmp_path / 'other.rgb') as other:
        other.add(dataclasses.replace(frames[0], stamp_ns=frames[0].stamp_ns + 1))
        for frame in frames[1:]:
            other.add(frame)
        assert other.digest() != digest


# --- shared by processes ------------------------------------------------------------------------

@pytest.mark.parametrize('n', [pytest.param(2, marks=pytest.mark.slow), 3])
def test_ranks_give_what_one_process_gives(clip, whole, tmp_path, n):
    process = rig.start(clip, tmp_path / 'out', launcher=rig.torchrun(n))
    code, said = rig.finish(process)
    assert code == 0, said
    for a, b in zip(np.loadtxt(whole / 'trajectory.txt'),
                    np.loadtxt(tmp_path / 'out/trajectory.txt'), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out']


def test_a_killed_rank_is_told_by_the_others_and_can_come_back(clip, whole, tmp_path):
    out, work = tmp_path / 'out', tmp_path / 'out.work'
    first, second = (rig.start(clip, out, *ON_DISK, env=place) for place in rig.places(2))
    rig.wait_for(work / 'rank1of2/unit0.pt', second)
    second.send_signal(signal.SIGKILL)
    code, said = rig.finish(first)
    assert rig.finish(second)[0] == -signal.SIGKILL
    assert code == 2 and 'process 0 of 2 lost another one' in said, said
    assert 'start all processes again with --resume' in said and not out.exists()
    # the one that was killed may not have what the other one has
    (work / 'rank1of2/unit0.pt').unlink()
    again = [rig.start(clip, out, '--resume', env=place) for place in rig.places(2)]
    assert [rig.finish(process)[0] for process in again] == [0, 0]
    assert rig.same(whole, out) and not work.exists()


def test_processes_with_different_commands_are_refused(clip, tmp_path):
    starts = [rig.start(clip, tmp_path / 'out', '--max-frames', str(20 + rank), env=place)
              for rank, place in enumerate(rig.places(2))]
    ends = [rig.finish(process) for process in starts]
    assert all(code == 2 and 'different inputs, parameters or weights' in said
               for code, said in ends), ends


@pytest.mark.slow
def test_a_silent_rank_is_given_up():
    script = ('import sys, time; from longrecon_ros.nets.ranks import Ranks; import torch\n'
              'ranks = Ranks.join(2.0)\n'
              'time.sleep(30 if ranks.rank else 0)\n'
              'ranks.summed([torch.ones(3)])')
    starts = [subprocess.Popen([sys.executable, '-c', script], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **place})
              for place in rig.places(2)]
    try:
        said = starts[0].communicate(timeout=60)[1]
        assert 'RankLost: process 0 of 2 lost another one (Timed out' in said
    finally:
        for process in starts:
            process.kill()
            process.communicate()


@pytest.mark.slow
# --- measured ------------------------------------------------------------------------------------

def test_bench_compares_the_forms(capsys, tmp_path):
    options = [word for word in rig.OPTIONS if word != '--no-report']
    assert main(['bench', 'lockstep', '--frames', '8', *options]) == 0
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[:3] == ['0', 'to', '0'] and float(row[3]) < 1e-5 > float(row[5])
    assert main(['bench', 'lockstep', '--frames', '24', *options, *ON_DISK, '--work',
                 str(tmp_path)]) == 0
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()[-4:]]
    assert all(0 < float(row[3]) < 1 and 0 < float(row[5]) < 1 for row in rows)
    assert 'UNTRAINED' in said and not any(tmp_path.iterdir())
