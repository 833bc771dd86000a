"""What the worker does, in this process: streams, maps, modes, and what outlives a worker."""

import numpy as np
import pytest

from longrecon_ros.config import load
from longrecon_ros.errors import ConfigError, InputError
from longrecon_ros.io.calibration import Calibration
from longrecon_ros.synthetic.recipe import Production, Recipe
from longrecon_ros.worker.messages import read_step
from longrecon_ros.worker.session import Session, Settings, smaller

N = 26
CONFIG = {'window.size': 8, 'window.overlap': 3, 'loop.use_thread': 'never'}


@pytest.fixture(scope='module')
def frames():
    """Return the frames of a short drive."""
    film = Production.of(Recipe('street', n_frames=N, size=(160, 120))).film
    return [film.frame(i).to_frame() for i in range(N)]


@pytest.fixture
def make(tmp_path):
    """Return a maker of sessions that share one folder, and are closed in the end."""
    made = []

    def session(tail=None, **options):
        told = []
        settings = Settings(str(tmp_path / 'node'), str(tmp_path / 'saved'), cloud_period_s=0.0)
        (tmp_path / 'node').mkdir(exist_ok=True)
        made.append(Session(load(overrides={**CONFIG, **options}), settings, {'tail': tail},
                            told.append))
        return made[-1], told

    yield session
    for one in made:
        one.close()


def feed(session, frames, epoch=0, begin=True):
    """Give a session frames; windows are registered when this returns."""
    if begin:
        session.begin(Calibration(frames[0].K), 'camera', epoch)
    for frame in frames:
        session.take(frame.index, frame.stamp_ns, frame.image, f'image {frame.index}')
    session.flush()


def steps(told):
    """Return the windows that were told of."""
    return [read_step(message) for message in told if message['kind'] == 'step']


def n_submaps(session):
    return len(session._pipeline.mapper.atlas)


def test_every_frame_is_in_one_step_and_carries_its_epoch(make, frames):
    session, told = make()
    feed(session, frames, epoch=3)
    assert np.concatenate([s.frame_ids for s in steps(told)]).tolist() == list(range(N))
    assert {m['epoch'] for m in told if m['kind'] == 'step'} == {3}
    points = [step.map_figures['n_points'] for step in steps(told)]
    assert points[0] > 100 and points == sorted(set(points))
    for step in steps(told):
        assert step.covariance.shape == (len(step.frame_ids), 6, 6) and step.window_s > 0


def test_another_worker_goes_on_where_this_one_was(make, frames):
    whole, told = make()
    feed(whole, frames)
    first, told_first = make()
    feed(first, frames[:18])
    tail = steps(told_first)[-1].tail
    shared = [int(i) for i in tail['prediction.frame_ids']]
    second, told_second = make(tail)
    feed(second, [frames[i] for i in shared] + frames[18:])
    ids = np.concatenate([s.frame_ids for s in steps(told_second)])
    assert ids.tolist() == list(range(18, N))
    # the same odom: where the other one would have been, but for the noise of a fresh start
    ours, theirs = (np.concatenate([s.T_odom_camera for s in steps(t)])[-1, :3, 3]
                    for t in (told_second, told))
    assert np.linalg.norm(ours - theirs) < 0.15 * np.linalg.norm(theirs)
    # all of its own, and of the other one what was in the last checkpoint and the tail
    assert 'poses' in second.save()
    assert N - 18 + len(shared) <= len(second._stream.trajectory()) <= N


def test_a_localization_outlives_its_worker(make, frames):
    first, told = make()
    feed(first, frames[:18])
    n = n_submaps(first)
    assert first.set_localization(True) == 'localization'
    feed(first, frames[:18], epoch=1)
    tail = [s for s, m in zip(steps(told), [m for m in told if m['kind'] == 'step'])
            if m['epoch'] == 1][-1].tail
    second, _ = make(tail)
    assert second.check_localization(True) == 'nothing to change'
    assert [i for i, session in second._base.session_of.items()] == list(range(n))
    shared = [frames[int(i)] for i in tail['prediction.frame_ids']]
    feed(second, shared + frames[18:])
    with pytest.raises(InputError, match='localization'):
        second.save_map('nowhere')


def test_reset_after_a_segment_and_another_worker_still_begins_a_new_map(make, frames):
    first, told = make()
    feed(first, frames[:13])
    first.segment()
    feed(first, frames[:13], epoch=1)
    assert n_submaps(first) > 3
    second, _ = make(steps(told)[-1].tail)
    second.reset()
    assert n_submaps(second) == 0


def test_maps_are_saved_and_gone_on_with(make, frames, tmp_path):
    first, _ = make()
    with pytest.raises(InputError, match='send images'):
        first.save_map(str(tmp_path / 'site'))
    feed(first, frames[:13])
    assert 'submaps in' in first.save_map(str(tmp_path / 'site'))
    second, _ = make()
    assert 'mapping' in second.load_map(str(tmp_path / 'site'))
    assert n_submaps(second) == n_submaps(first)
    with pytest.raises(InputError, match='there is no map'):
        second.check_map(str(tmp_path / 'nowhere'))


def test_frames_that_do_not_fit_are_refused_and_the_stream_goes_on(make, frames):
    session, told = make()
    session.begin(Calibration(frames[0].K), 'camera', 0)
    session.take(0, 0, frames[0].image, 'first')
    with pytest.raises(InputError, match='80x60'):
        session.take(1, 1, frames[1].image[::2, ::2], 'small')
    feed(session, frames[1:8], begin=False)
    assert steps(told)[-1].frame_ids[-1] == 7


def test_a_window_that_the_map_cannot_take_is_told_of_and_the_next_ones_come(
        make, frames, monkeypatch):
    session, told = make()
    feed(session, frames[:8])
    atlas = session._pipeline.mapper.atlas

    def full(*arguments):
        raise InputError('the disk is full: make room')

    monkeypatch.setattr(atlas, 'add', full)
    for frame in frames[8:15]:
        session.take(frame.index, frame.stamp_ns, frame.image, 'image')
    session._stream.settle()            # its thread has come to the end
    monkeypatch.undo()
    for frame in frames[15:]:
        session.take(frame.index, frame.stamp_ns, frame.image, 'image')
    session.flush()
    lost = [m for m in told if m['kind'] == 'lost']
    assert lost and 'the disk is full' in lost[0]['text'] and lost[0]['index'] >= 12
    assert steps(told)[-1].frame_ids[-1] == N - 1


def test_clouds_and_tiles_are_for_those_who_want_them(make, frames):
    session, told = make()
    feed(session, frames[:13])
    assert not {'cloud', 'tile'} & {m['kind'] for m in told}
    session.want(True, True, True, 0.0, [0.0, -1.0, 0.0])
    kinds = [m['kind'] for m in told]
    assert kinds.count('cloud') == 1 and 'tile' in kinds and 'tile_poses' in kinds


def test_a_backbone_that_needs_the_truth_is_refused(make):
    with pytest.raises(ConfigError, match='which no topic carries'):
        make(backbone='simulated')


@pytest.mark.parametrize('size, overlap', [(16, 6), (3, 1), (2, 1), (60, 30)])
def test_smaller_windows_are_smaller_and_still_windows(size, overlap):
    config = load(overrides={'window.size': size, 'window.overlap': overlap})
    shrunk = smaller(config, 0.7).window
    assert 2 <= shrunk.size < max(3, size) and 1 <= shrunk.overlap < shrunk.size
