"""Messages and images between two processes."""

import hashlib
import os
import socket
import struct
import subprocess
import sys
import threading

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from longrecon_ros.worker.ring import Ring, SLOT_BYTES
from longrecon_ros.worker.wire import Channel, pair, WireError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2**63, 2**63) | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner,
                                                                max_size=3), max_leaves=8)
DTYPES = ['u1', 'i2', '<i8', 'f4', 'f8', '?', '>f4']


@pytest.fixture
def channels():
    """Return both ends of a connection."""
    ends = [Channel(end) for end in pair()]
    yield ends
    for end in ends:
        end.close()


def through(message):
    """Return a message as the other end gets it."""
    a, b = (Channel(end) for end in pair())
    thread = threading.Thread(target=a.send, args=(message,))
    thread.start()
    received = b.receive()
    thread.join()
    a.close()
    b.close()
    return received


@settings(max_examples=30)
@given(VALUES)
def test_plain_values_arrive_as_they_are(value):
    assert through({'kind': 'x', 'value': value}) == {'kind': 'x', 'value': value}


@settings(max_examples=30)
@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), min_size=1, max_size=4),
       st.integers(0, 99))
def test_arrays_arrive_with_shape_dtype_and_bytes(dtype, shape, seed):
    array = (np.random.default_rng(seed).random(shape) * 100).astype(dtype)
    received = through({'kind': 'x', 'deep': [{'a': array}, array.T], 'n': np.int64(3)})
    assert received['n'] == 3 and isinstance(received['n'], int)
    for sent, got in ((array, received['deep'][0]['a']), (array.T, received['deep'][1])):
        assert got.dtype == sent.dtype and got.shape == sent.shape
        assert got.tobytes() == sent.tobytes()


def test_large_messages_and_several_senders_keep_whole(channels):
    a, b = channels
    senders = [threading.Thread(target=a.send, args=(
        {'kind': 'x', 'n': n, 'array': np.full((300, 300), n)},)) for n in range(8)]
    for sender in senders:
        sender.start()
    found = [b.receive() for _ in senders]
    for sender in senders:
        sender.join()
    assert sorted(message['n'] for message in found) == list(range(8))
    assert all((message['array'] == message['n']).all() for message in found)


def test_objects_are_refused_before_anything_is_sent(channels):
    a, b = channels
    with pytest.raises(ValueError, match='cannot be sent'):
        a.send({'kind': 'x', 'array': np.array([object()])})
    a.send({'kind': 'next'})
    assert b.receive() == {'kind': 'next'}


def test_a_closed_end_wakes_the_reader_and_refuses_the_writer(channels):
    a, b = channels
    threading.Timer(0.05, a.close).start()
    with pytest.raises(WireError):
        b.receive()
    with pytest.raises(WireError):
        for _ in range(100):
            b.send({'kind': 'x', 'array': np.zeros(100_000)})


@pytest.mark.parametrize('data', [
    b'GET / HTTP/1.1\r\n\r\n', struct.pack('<4sQ', b'lrw1', 1 << 60),
    struct.pack('<4sQ', b'lrw1', 2**10)])
def test_what_is_no_message_is_an_error_and_takes_no_memory(data):
    end, other = socket.socketpair()
    end.sendall(data)
    end.close()
    with pytest.raises(WireError):
        Channel(other).receive()


def test_an_array_of_an_absurd_size_is_refused():
    end, other = socket.socketpair()
    text = b'{"kind": {"__array__": ["<f8", [1000000000, 1000000000]]}}'
    end.sendall(struct.pack('<4sQ', b'lrw1', len(text)) + text)
    with pytest.raises(WireError, match='no part of a message'):
        Channel(other).receive()
    end.close()


def test_another_process_reads_what_was_written_to_the_ring():
    ring = Ring.create(3)
    image = np.random.default_rng(0).integers(0, 255, (7, 5, 3), np.uint8)
    ring.write(2, image)
    code = ('import sys, hashlib; from longrecon_ros.worker.ring import Ring; '
            f'image = Ring({ring.fd}, 3).read(2, (7, 5, 3)); '
            'sys.stdout.write(hashlib.sha1(image.tobytes()).hexdigest())')
    told = subprocess.run([sys.executable, '-c', code], pass_fds=[ring.fd], check=True,
                          capture_output=True, text=True).stdout
    assert told == hashlib.sha1(image.tobytes()).hexdigest()
    ring.close()


def test_the_ring_has_no_name_and_takes_memory_for_what_is_used_only():
    before = set(os.listdir('/dev/shm'))
    ring = Ring.create(100)
    ring.write(99, np.zeros((480, 640, 3), np.uint8))
    assert set(os.listdir('/dev/shm')) == before
    assert os.fstat(ring.fd).st_blocks * 512 < 2 * 640 * 480 * 3
    ring.close()


def test_a_copy_stays_when_the_slot_is_written_again():
    ring = Ring.create(1)
    ring.write(0, np.full((4, 4, 3), 7, np.uint8))
    copy = ring.read(0, (4, 4, 3))
    ring.write(0, np.zeros((4, 4, 3), np.uint8))
    assert (copy == 7).all()
    ring.close()


def test_slots_and_sizes_are_checked():
    ring = Ring.create(2)
    with pytest.raises(ValueError, match='0 to 1'):
        ring.write(2, np.zeros((1, 1, 3), np.uint8))
    wide = np.broadcast_to(np.uint8(0), (1, SLOT_BYTES // 3 + 1, 3))
    with pytest.raises(ValueError, match='48 MB'):
        ring.write(0, wide)
    ring.close()
