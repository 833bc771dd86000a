"""Registration beside inference: the same results, bounded, in order, and no error gets lost."""

import dataclasses
import signal
import threading
import time

from fakes import FakeBackbone, make_frames
import numpy as np
import pytest

from longrecon_ros.alignment import make_aligner
from longrecon_ros.config import build, load, WindowConfig
from longrecon_ros.errors import InputError
from longrecon_ros.loop.settings import LoopConfig
from longrecon_ros.overlap import BusyTime, Overlapped
from longrecon_ros.pipeline import Pipeline

MAP = dataclasses.replace(load().map, max_points=3000, points_per_frame=60)
LOOP = build(LoopConfig, load().loop)
N = 96          # frames: the first window has 16, each of the others 10
N_WINDOWS = 9


class Gated:
    """An aligner that waits for ``gate``, and fails for the windows that begin with ``bad``."""

    def __init__(self, bad=()):
        self._aligner, self._bad = make_aligner('depth_ratio'), bad
        self.gate = threading.Event()
        self.gate.set()
        self.n_begun = 0

    def align(self, previous, current):
        """Return what depth_ratio says."""
        self.n_begun += 1
        assert self.gate.wait(20)
        if current.frame_ids[0] in self._bad:
            raise ValueError(f'bad {current.frame_ids[0]}')
        return self._aligner.align(previous, current)


def make_pipeline(aligner=None, backbone=None):
    return Pipeline(backbone or FakeBackbone(seed=5, noise=0.03, lost=range(40, 50)),
                    aligner or Gated(), WindowConfig(16, 6), MAP, LOOP)


def run(stream, frames):
    return [update for frame in frames for update in stream.push(frame)] + stream.flush()


def synchronous(pipeline, frames):
    updates = [*map(pipeline.push, frames), pipeline.flush()]
    return [update for update in updates if update is not None]


def results(pipeline):
    """Return all that a pipeline has to say, as arrays."""
    trajectory, cloud = pipeline.trajectory(), pipeline.cloud()
    return (trajectory.stamps_ns, trajectory.T_map_camera, pipeline.states(), cloud.points,
            cloud.colors)


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize('use_thread', [True, False])
def test_the_results_are_those_of_the_synchronous_pipeline(use_thread):
    alone = make_pipeline()
    wanted = synchronous(alone, make_frames(N))
    with Overlapped(make_pipeline(), use_thread) as stream:
        for _ in range(2):
            found = run(stream, make_frames(N))
            assert len(found) == len(wanted) == N_WINDOWS
            for mine, theirs in zip(found, wanted):
                np.testing.assert_array_equal(mine.frame_ids, theirs.frame_ids)
                np.testing.assert_array_equal(mine.T_odom_camera, theirs.T_odom_camera)
                np.testing.assert_array_equal(mine.cloud.points, theirs.cloud.points)
                assert (mine.linked, mine.log_scale) == (theirs.linked, theirs.log_scale)
                assert list(mine.timings_ms) == ['preprocess', 'backbone', 'align', 'map',
                                                 'loop']
            assert not all(update.linked for update in found)
            for mine, theirs in zip(results(stream), results(alone)):
                assert mine.tobytes() == theirs.tobytes()
            stream.reset()
            assert len(stream.trajectory()) == len(stream.cloud()) == 0


class Handshake:
    """A backbone and an aligner that go on only when the other one is at work, too."""

    def __init__(self):
        self.inferring, self.registering = (
            [threading.Event() for _ in range(N_WINDOWS)] for _ in range(2))
        meeting = self

        class MeetingBackbone(FakeBackbone):

            def step(self, state, window):
                meeting.inferring[window.index].set()
                if window.index > 1:        # the first window has nothing to align to
                    assert meeting.registering[window.index - 1].wait(20)
                return super().step(state, window)

        class MeetingAligner(Gated):

            def align(self, previous, current):
                index = 1 + self.n_begun
                meeting.registering[index].set()
                if index + 1 < N_WINDOWS:
                    assert meeting.inferring[index + 1].wait(20)
                return super().align(previous, current)

        self.backbone, self.aligner = MeetingBackbone(), MeetingAligner()


def spans(updates, part):
    return np.array([update.spans_s[part] for update in updates])


def test_registration_runs_during_the_next_inference_and_the_spans_say_so():
    meeting = Handshake()
    with Overlapped(make_pipeline(meeting.aligner, meeting.backbone)) as stream:
        start_s = time.perf_counter()
        updates = run(stream, make_frames(N))
        elapsed_s = time.perf_counter() - start_s
    assert len(updates) == N_WINDOWS
    infer, register = spans(updates, 'backbone'), spans(updates, 'register')
    assert (np.diff(infer.ravel()) >= 0).all() and (np.diff(register.ravel()) >= 0).all()
    assert (infer[:, 1] <= register[:, 0]).all(), 'a window is inferred first'
    assert infer[0, 0] >= 0 and register[-1, 1] <= elapsed_s
    begin, end = (np.maximum(register[1:-1, 0], infer[2:, 0]),
                  np.minimum(register[1:-1, 1], infer[2:, 1]))
    assert (begin < end).all(), 'window k beside the inference of k + 1'
    for update in updates:
        ms = update.timings_ms
        start, end = update.spans_s['register']
        assert 1e3 * (end - start) == pytest.approx(ms['align'] + ms['map'] + ms['loop'])
        start, end = update.spans_s['backbone']
        assert 1e3 * (end - start) == pytest.approx(ms['backbone'])


def test_without_a_thread_the_spans_do_not_touch():
    with Overlapped(make_pipeline(), use_thread=False) as stream:
        updates = run(stream, make_frames(46))
    both = np.stack([spans(updates, 'backbone'), spans(updates, 'register')], axis=1)
    assert (np.diff(both.ravel()) >= 0).all()


def test_at_most_one_window_waits_for_registration():
    aligner = Gated()
    aligner.gate.clear()
    stream, n_pushed = Overlapped(make_pipeline(aligner)), []

    def push_all():
        for frame in make_frames(N):
            stream.push(frame)
            n_pushed.append(frame.index)

    sender = threading.Thread(target=push_all)
    sender.start()
    # window 1 (frame 25 completes it) is held in the aligner, 2 (35) waits, 3 (45) has no room
    wait_for(lambda: len(n_pushed) == 45)
    time.sleep(0.05)
    assert len(n_pushed) == 45 and aligner.n_begun == 1
    aligner.gate.set()
    sender.join(20)
    stream.flush()
    assert len(n_pushed) == N and len(stream.trajectory()) == N
    stream.close()


def test_updates_are_told_without_a_further_frame():
    told, pipeline = [], make_pipeline()

    def tell(update):
        told.append((update.frame_ids[-1], len(pipeline.trajectory()), len(pipeline.cloud()) > 0))

    with Overlapped(pipeline, on_update=tell) as stream:
        for frame in make_frames(16):
            assert stream.push(frame) == [] or frame.index == 15
        wait_for(lambda: told == [(15, 16, True)])
        assert run(stream, make_frames(10, 16)) and told[1:] == [(25, 26, True)]


@pytest.mark.parametrize('use_thread', [True, False])
def test_errors_of_registration_reach_the_caller_and_lose_no_other_window(use_thread):
    alone, bad = make_pipeline(Gated(bad=(20,))), []
    for frame in make_frames(N):
        try:
            alone.push(frame)
        except ValueError as error:
            bad.append(str(error))
    alone.flush()
    assert bad == ['bad 20']
    stream, found, told = Overlapped(make_pipeline(Gated(bad=(20,))), use_thread), [], []
    for frame in [*make_frames(N), None, None]:
        try:
            found += stream.flush() if frame is None else stream.push(frame)
        except ValueError as error:
            told.append(str(error))
    assert told == bad and len(found) == N_WINDOWS - 1
    assert np.concatenate([update.frame_ids for update in found]).tolist() == [
        *range(26), *range(36, N)]
    for mine, theirs in zip(results(stream), results(alone)):
        np.testing.assert_array_equal(mine, theirs)
    stream.close()


class Deaf(Overlapped):
    """Collects nothing in push, so that errors are there at the end."""

    def push(self, frame):
        """Take one frame."""
        with self.busy:
            self._hand_over(self._pipeline.infer(frame))


def deaf_stream():
    """Return a stream of two windows, of which the second could not be registered."""
    stream = Deaf(make_pipeline(Gated(bad=(10,))))
    for frame in make_frames(26):
        stream.push(frame)
    stream.trajectory()
    return stream


def test_an_error_at_the_end_is_raised_by_flush_or_close_or_reset():
    stream = deaf_stream()
    with pytest.raises(ValueError, match='bad 10'):
        stream.flush()
    assert [update.frame_ids[-1] for update in stream.flush()] == [15]
    stream.close()
    with pytest.raises(ValueError, match='bad 10'):
        deaf_stream().close()
    with pytest.raises(ValueError, match='bad 10'), deaf_stream():
        pass
    with pytest.raises(KeyError), deaf_stream():
        raise KeyError('mine')
    stream = deaf_stream()
    with pytest.raises(ValueError, match='bad 10'):
        stream.reset()
    assert len(stream.trajectory()) == 0 and stream.flush() == []
    stream.close()


def test_errors_of_frames_are_those_of_the_pipeline_and_it_goes_on():
    frames = make_frames(40)
    with Overlapped(make_pipeline()) as stream:
        found = [update for frame in frames[:30] for update in stream.push(frame)]
        with pytest.raises(ValueError, match='must rise, got 3'):
            stream.push(frames[3])
        with pytest.raises(InputError, match='is before'):
            stream.push(type(frames[0])(50, 0, frames[0].image))
        found += run(stream, frames[30:])
    assert [i for update in found for i in update.frame_ids] == list(range(40))


def test_close_ends_the_window_at_work_drops_the_one_that_waits_and_joins():
    aligner = Gated()
    aligner.gate.clear()
    stream = Overlapped(make_pipeline(aligner))
    found = [update for frame in make_frames(36) for update in stream.push(frame)]
    wait_for(lambda: aligner.n_begun == 1)
    closer = threading.Thread(target=stream.close)
    closer.start()
    time.sleep(0.02)
    assert closer.is_alive()
    aligner.gate.set()
    closer.join(20)
    assert not closer.is_alive() and aligner.n_begun == 1
    assert len(stream.trajectory()) == len(stream.states()) == 26
    assert not [t for t in threading.enumerate() if t.name.startswith('registration')]
    assert [update.frame_ids[-1] for update in found + stream.flush()] == [15, 25]
    with pytest.raises(RuntimeError, match='after shutdown'):
        run(stream, make_frames(20, 36))


def test_an_interrupt_while_push_waits_ends_the_thread_and_goes_on_up():
    aligner, n_pushed = Gated(), []
    aligner.gate.clear()

    def interrupt():
        wait_for(lambda: len(n_pushed) == 45)       # from here on push waits for room
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.05)
        aligner.gate.set()

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt), Overlapped(make_pipeline(aligner)) as stream:
        for frame in make_frames(N):
            stream.push(frame)
            n_pushed.append(frame.index)
    helper.join(20)
    assert len(n_pushed) == 45 and aligner.n_begun == 1 and len(stream.trajectory()) == 26
    assert not [t for t in threading.enumerate() if t.name.startswith('registration')]


def test_busy_time_counts_overlapping_blocks_once():
    busy = BusyTime()

    def work():
        with busy:
            time.sleep(0.03)

    start, other = time.perf_counter(), threading.Thread(target=work)
    with busy:
        other.start()
        time.sleep(0.02)
        assert 0.02 <= busy.total_s
    other.join()
    elapsed = time.perf_counter() - start
    assert 0.03 <= busy.total_s <= elapsed
    before = busy.total_s
    time.sleep(0.01)
    assert busy.total_s == before
