"""Which images the worker gets: whole windows, evenly spread, nothing lost when it starts anew."""

from hypothesis import given, strategies as st
import numpy as np
import pytest

from longrecon_ros.windowing import Windower
from longrecon_ros.worker.ring import Ring
from longrecon_ros.worker.stream import Stream, StreamConfig

IMAGE = np.zeros((2, 3, 3), np.uint8)
PERIOD_NS = 33_000_000


class Camera:
    """Offers images to a stream; ``sent`` are the messages for the worker."""

    def __init__(self, size=6, overlap=2, policy='latest', budget_s=1.0):
        self.config = StreamConfig(size, overlap, policy, budget_s)
        self.ring = Ring.create(self.config.n_slots)
        self.stream = Stream(self.config, self.ring)
        self.sent, self.n = [], 0

    def offer(self, n):
        """Offer n images, each of its own grey; return the messages."""
        found = []
        for _ in range(n):
            image = IMAGE + np.uint8(self.n % 251)
            message = self.stream.offer(self.n * PERIOD_NS, image, f'image {self.n}')
            found += [message] if message else []
            self.n += 1
        self.sent += found
        return found


@pytest.fixture
def make():
    """Return a maker of cameras, whose rings are closed in the end."""
    made = []

    def camera(*arguments, **options):
        made.append(Camera(*arguments, **options))
        return made[-1]

    yield camera
    for one in made:
        one.ring.close()


def windows_of(indices, size, overlap):
    """Return the windows that a windower makes of frames."""
    from longrecon_ros.types import Frame
    windower = Windower(size, overlap)
    windows = [windower.push(Frame(i, i, IMAGE)) for i in indices]
    return [w for w in windows if w is not None]


def test_images_are_numbered_and_are_in_the_ring(make):
    camera = make()
    for n, message in enumerate(camera.offer(8)):
        assert (message['index'], message['stamp_ns']) == (n, n * PERIOD_NS)
        assert (camera.ring.read(message['slot'], message['shape']) == n).all()
    assert camera.stream.n_waiting == 8


def test_a_slow_worker_gets_whole_windows_and_the_rest_is_dropped_between_them(make):
    camera = make()
    camera.offer(100)
    n_first = len(camera.sent)
    assert n_first == 6 + 2 * 4, 'one at work, one that waits, and one that is being filled'
    assert camera.stream.counts.dropped == 100 - n_first
    camera.stream.answered(5, 1e-3)
    more = camera.offer(50)
    assert [m['index'] for m in more[:4]] == list(range(n_first, n_first + 4))
    # an answer of 1 ms a window: four windows may wait, each whole
    assert (len(camera.sent) - 6) % 4 == 0


def test_no_window_that_has_begun_is_broken(make):
    camera = make()
    stamps, answered = [], -1
    for n in range(400):
        stamps += [m['stamp_ns'] // PERIOD_NS for m in camera.offer(1)]
        if n % 23 == 22:                    # the worker takes 23 images for a window
            done = [w for w in windows_of(range(len(stamps)), 6, 2)
                    if w.frame_ids[-1] > answered]
            if done:
                answered = int(done[0].frame_ids[-1])
                camera.stream.answered(answered, 23 * PERIOD_NS * 1e-9)
    assert camera.stream.every > 1 and camera.stream.counts.skipped > 0
    for window in windows_of(range(len(stamps)), 6, 2)[3:]:
        new = [stamps[i] for i in window.frame_ids[2:]]
        assert len(set(np.diff(new))) == 1, 'evenly spread within a window'


def test_the_stride_follows_the_worker(make):
    camera = make(budget_s=10.0)
    camera.offer(6)
    camera.stream.answered(5, 0.0)
    assert camera.stream.every == 1
    for _ in range(20):
        camera.stream.answered(5, 4 * 3 * PERIOD_NS * 1e-9)     # three times too slow
    camera.offer(40)
    assert camera.stream.every == 4, 'a little more than three'
    for _ in range(40):
        camera.stream.answered(len(camera.sent) - 1, 1e-3)
    camera.offer(40)
    assert camera.stream.every == 1


def test_a_short_budget_lets_fewer_windows_wait(make):
    waiting = {}
    for budget_s in (0.05, 1.0):
        camera = make(budget_s=budget_s)
        camera.offer(6)
        camera.stream.answered(5, 0.1)
        camera.offer(200)
        waiting[budget_s] = camera.stream.n_waiting
    assert waiting[0.05] < waiting[1.0]


def test_keep_all_leaves_nothing_out_as_long_as_there_is_room(make):
    camera = make(policy='keep_all')
    while camera.stream.has_room:
        assert len(camera.offer(1)) == 1
    assert camera.stream.counts.dropped == camera.stream.counts.skipped == 0
    camera.stream.answered(5, 100.0)
    assert camera.stream.has_room
    assert camera.offer(4)[-1]['index'] == len(camera.sent) - 1


@given(st.integers(3, 9), st.integers(0, 4), st.lists(st.integers(1, 30), max_size=12))
def test_room_is_never_overrun_and_frames_stay_until_nobody_needs_them(size, overlap, bursts):
    camera = Camera(size, min(overlap, size - 1))
    last = -1
    for burst in bursts:
        camera.offer(burst)
        ends = [w.frame_ids[-1] for w in windows_of(range(len(camera.sent)), size,
                                                    camera.config.overlap)]
        open_ends = [int(end) for end in ends if end > last]
        if open_ends:
            last = open_ends[0]
            camera.stream.answered(last, 1e-3)
        held = camera.stream._held
        assert len({one.slot for one in held}) == len(held)
        for one in held:
            assert (camera.ring.read(one.slot, one.shape) == one.stamp_ns // PERIOD_NS % 251).all()
        if last >= 0 and held:
            assert held[0].index <= max(0, last - camera.config.overlap + 1)
    camera.ring.close()


def test_a_new_worker_gets_the_shared_frames_and_all_that_was_not_answered(make):
    camera = make()
    camera.offer(14)
    camera.stream.answered(5, 0.01)
    messages = camera.stream.again(6, 2, n_seen=2)
    assert [m['index'] for m in messages] == list(range(4, 14))
    # frames 4, 5 are known; 6..9 and 10..13 are windows: the next image begins one
    camera.stream.answered(9, 0.01)
    assert len(camera.offer(1)) == 1
    assert camera.stream.n_waiting == 5


def test_a_new_worker_without_anything_answered_begins_at_the_start(make):
    camera = make()
    camera.offer(9)
    assert [m['index'] for m in camera.stream.again(6, 2, 0)] == list(range(9))


def test_smaller_windows_are_counted_anew(make):
    camera = make(policy='keep_all')
    camera.offer(11)                        # a window, and five frames of the next two
    camera.stream.answered(5, 0.01)
    camera.stream.again(4, 1, n_seen=1)     # 6..8 and two frames more
    assert not camera.stream._n_in_window == 0
    camera.offer(1)
    assert camera.stream._n_in_window == 0


def test_a_flush_ends_the_window_that_is_being_filled(make):
    camera = make()
    camera.offer(8)
    camera.stream.flushed()
    camera.stream.answered(7, 0.01)
    assert camera.stream.n_waiting == 0
    assert [m['index'] for m in camera.offer(4)] == [8, 9, 10, 11]


def test_reset_begins_at_zero(make):
    camera = make()
    camera.offer(10)
    camera.stream.reset()
    assert camera.stream.n_waiting == 0
    assert [m['index'] for m in camera.offer(3)] == [0, 1, 2]


def test_an_image_that_is_too_large_is_told_and_takes_no_place(make):
    camera = make()
    wide = np.broadcast_to(np.uint8(0), (1, (1 << 24) + 1, 3))
    with pytest.raises(ValueError, match='48 MB'):
        camera.stream.offer(0, wide, 'wide')
    assert [m['index'] for m in camera.offer(2)] == [0, 1]
