"""Order, bounds, drops and failures of the worker."""

import threading
import time

import pytest

from longrecon_ros.ros.worker import Outcome, TOLD, Worker


class Handler:
    """Returns what it takes; waits for ``gate`` first."""

    def __init__(self, gate, tell):
        self._gate, self._tell = gate, tell
        self.is_closed = False

    def take(self, item):
        """Return the item, or raise for a negative one."""
        self._gate.wait(10)
        if item < 0:
            raise ValueError(f'bad {item}')
        return item

    def flush(self):
        """Return a word."""
        return 'flushed'

    def tell_later(self):
        """Tell something from another thread, once the gate is open."""
        threading.Thread(target=lambda: self._gate.wait(10) and self._tell('later')).start()

    def close(self):
        """Take note."""
        self.is_closed = True


@pytest.fixture
def gate():
    """Return an event that keeps the worker in its first call until it is set."""
    return threading.Event()


def make(gate, policy, capacity=3):
    """Return a worker and the event of its notifications."""
    told = threading.Event()
    return Worker(lambda tell: Handler(gate, tell), told.set, capacity, policy), told


def collect(worker, told, n):
    """Return n outcomes."""
    found = []
    while len(found) < n:
        assert told.wait(10)
        told.clear()
        found += worker.outcomes()
    return found


def wait_for(condition):
    """Wait until a condition holds."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_latest_drops_the_oldest_waiting_item_and_counts(gate):
    worker, told = make(gate, 'latest')
    worker.offer(0)
    wait_for(lambda: worker.n_waiting == 0)         # it is in the handler's hands
    for item in range(1, 9):
        worker.offer(item)
    assert (worker.n_waiting, worker.n_dropped) == (3, 5)
    gate.set()
    assert [outcome.value for outcome in collect(worker, told, 4)] == [0, 6, 7, 8]
    worker.close()


def test_keep_all_makes_the_sender_wait_and_loses_nothing(gate):
    worker, told = make(gate, 'keep_all')
    sender = threading.Thread(target=lambda: [worker.offer(item) for item in range(20)])
    sender.start()
    wait_for(lambda: worker.n_waiting == 3)
    assert sender.is_alive()
    gate.set()
    assert [outcome.value for outcome in collect(worker, told, 20)] == list(range(20))
    sender.join(10)
    assert worker.n_dropped == 0
    worker.close()


def test_calls_keep_their_place_among_the_items_and_are_never_dropped(gate):
    worker, told = make(gate, 'latest')
    worker.offer(0)
    wait_for(lambda: worker.n_waiting == 0)
    worker.offer(1)
    ticket = worker.call('flush')
    for item in range(2, 6):
        worker.offer(item)
    gate.set()
    outcomes = collect(worker, told, 5)
    assert [outcome.value for outcome in outcomes] == [0, 'flushed', 3, 4, 5]
    assert outcomes[1].ticket == ticket > 0 and outcomes[0].ticket == 0
    worker.close()


def test_an_exception_is_an_outcome_and_the_worker_goes_on(gate):
    gate.set()
    worker, told = make(gate, 'keep_all')
    worker.offer(-1)
    worker.offer(2)
    failed, fine = collect(worker, told, 2)
    assert isinstance(failed.error, ValueError) and str(failed.error) == 'bad -1'
    assert (fine.value, fine.error) == (2, None)
    worker.close()


def test_a_handler_that_cannot_be_made_is_the_only_outcome():
    def make_handler(tell):
        raise ValueError('no weights')

    told = threading.Event()
    worker = Worker(make_handler, told.set, 3, 'latest')
    outcome, = collect(worker, told, 1)
    assert str(outcome.error) == 'no weights'
    worker.call('flush')
    worker.close()
    assert worker.outcomes() == []


def test_the_handler_may_tell_by_itself_and_is_closed_at_the_end(gate):
    handlers = []
    told = threading.Event()
    worker = Worker(lambda tell: handlers.append(Handler(gate, tell)) or handlers[0], told.set, 3,
                    'latest')
    worker.call('tell_later')
    answer, = collect(worker, told, 1)
    assert answer.ticket == 1 and answer.value is None
    gate.set()
    assert collect(worker, told, 1) == [Outcome(TOLD, 'later')]
    assert not handlers[0].is_closed
    worker.close()
    assert handlers[0].is_closed


def test_clear_forgets_items_and_keeps_calls(gate):
    worker, told = make(gate, 'latest')
    worker.offer(0)
    wait_for(lambda: worker.n_waiting == 0)
    worker.offer(1)
    worker.call('flush')
    worker.clear()
    gate.set()
    assert [outcome.value for outcome in collect(worker, told, 2)] == [0, 'flushed']
    worker.close()


def test_close_wakes_a_sender_and_leaves_the_queue(gate):
    worker, _ = make(gate, 'keep_all', capacity=1)
    worker.offer(0)
    wait_for(lambda: worker.n_waiting == 0)
    sender = threading.Thread(target=lambda: [worker.offer(item) for item in range(1, 5)])
    sender.start()
    wait_for(lambda: worker.n_waiting == 1)
    closer = threading.Thread(target=worker.close)
    closer.start()
    sender.join(10)
    assert not sender.is_alive() and closer.is_alive(), 'the call it is in is not broken off'
    gate.set()
    closer.join(10)
    assert not closer.is_alive() and worker.n_waiting == 0
