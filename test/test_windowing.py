"""Windows: every frame is new once, overlaps are right, for any size and overlap."""

from hypothesis import given, strategies as st
import numpy as np
import pytest

from longrecon_ros.types import Frame
from longrecon_ros.windowing import Windower

IMAGE = np.zeros((1, 1, 3), np.uint8)


def run(n_frames, size, overlap, feed='all', first=0):
    windower = Windower(size, overlap, feed)
    windows = [windower.push(Frame(first + i, i, IMAGE)) for i in range(n_frames)]
    windows.append(windower.flush())
    return [window for window in windows if window is not None]


@st.composite
def settings_of_windows(draw):
    size = draw(st.integers(1, 20))
    return draw(st.integers(0, 80)), size, draw(st.integers(0, size - 1))


@given(settings_of_windows(), st.sampled_from(['all', 'new']))
def test_every_frame_is_new_exactly_once(setting, feed):
    n_frames, size, overlap = setting
    windows = run(n_frames, size, overlap, feed, first=5)
    new = [i for window in windows for i in window.frame_ids[window.n_overlap:]]
    assert new == list(range(5, 5 + n_frames))
    assert [window.index for window in windows] == list(range(len(windows)))


@given(settings_of_windows())
def test_overlaps_repeat_the_end_of_the_window_before(setting):
    n_frames, size, overlap = setting
    windows = run(n_frames, size, overlap)
    for before, window in zip(windows, windows[1:]):
        n = window.n_overlap
        assert n == overlap
        np.testing.assert_array_equal(window.frame_ids[:n],
                                      before.frame_ids[len(before.frames) - n:])
    assert all(len(window.frames) == size for window in windows[:-1])
    assert all(len(window.frames) <= size for window in windows[-1:])


@given(settings_of_windows())
def test_feed_new_holds_unseen_frames_only(setting):
    n_frames, size, overlap = setting
    windows = run(n_frames, size, overlap, 'new')
    assert all(window.n_overlap == 0 for window in windows)
    assert [len(w.frames) for w in windows[:1]] in ([], [min(size, n_frames)])
    assert all(len(window.frames) == size - overlap for window in windows[1:-1])


def test_nothing_new_gives_nothing():
    windower = Windower(4, 2)
    assert windower.flush() is None
    for i in range(4):
        window = windower.push(Frame(i, i, IMAGE))
    assert window is not None and windower.flush() is None


def test_the_stream_goes_on_after_a_flush():
    windower = Windower(4, 2)
    for i in range(3):
        assert windower.push(Frame(i, i, IMAGE)) is None
    assert list(windower.flush().frame_ids) == [0, 1, 2]
    assert windower.push(Frame(3, 3, IMAGE)) is None
    window = windower.push(Frame(4, 4, IMAGE))
    assert list(window.frame_ids) == [1, 2, 3, 4] and window.n_overlap == 2


def test_frames_of_old_windows_are_let_go():
    windower = Windower(6, 2)
    for i in range(100):
        windower.push(Frame(i, i, IMAGE))
    assert len(windower._seen) + len(windower._new) <= 6


@pytest.mark.parametrize('size, overlap, feed, words', [
    (4, 4, 'all', 'overlap'), (0, 0, 'all', 'size'), (4, -1, 'all', 'overlap'),
    (4, 1, 'some', 'feed')])
def test_misuse_names_the_argument(size, overlap, feed, words):
    with pytest.raises(ValueError, match=words):
        Windower(size, overlap, feed)
