"""A thread beside the executor's: works through what comes, in the order in which it came."""

from collections import deque, OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
import threading
from typing import Any, Callable, Deque, List, Literal, Optional

TOLD = -1       # ticket of what the object told by itself


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call gave: its value, or the exception it ended with."""

    ticket: int
    """The number that `Worker.call` returned; 0 for an item of the queue, `TOLD` for neither."""
    value: Any
    error: Optional[BaseException] = None


class Worker:
    """Runs the methods of one object in a thread of its own.

    The object is made there, by ``make_handler(tell)``; if that fails, the failure is the only
    outcome. `offer` hands it a queued item (its method ``take``), `call` any other method; both
    keep their order; `close` calls its ``close``. With ``tell(value)`` it may give outcomes at any
    time and from any thread of its own. ``notify`` is called, in the thread that they come from,
    whenever there are new `outcomes`.

    With policy ``latest`` a full queue drops its oldest item, counted by `n_dropped`; with
    ``keep_all`` `offer` waits for room. Names and arguments are all that crosses over, so that a
    process can take the place of the thread.
    """

    def __init__(self, make_handler: Callable[[Callable[[Any], None]], Any],
                 notify: Callable[[], None],
                 capacity: int, policy: Literal['latest', 'keep_all']):
        self._notify, self._capacity, self._policy = notify, capacity, policy
        self._handler: Any = None
        self._items: 'OrderedDict[int, tuple]' = OrderedDict()      # by number, not begun yet
        self._outcomes: Deque[Outcome] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._n_tickets = self._n_items = 0
        self.n_dropped = 0
        self._pool = ThreadPoolExecutor(1, 'pipeline')
        self._pool.submit(self._make, make_handler).add_done_callback(self._finish_making)

    @property
    def n_waiting(self) -> int:
        """Items in the queue."""
        return len(self._items)

    def offer(self, *item) -> None:
        """Queue one item for ``take(*item)``."""
        with self._changed:
            if self._policy == 'keep_all':
                self._changed.wait_for(
                    lambda: len(self._items) < self._capacity or self._is_closing)
            elif len(self._items) >= self._capacity:
                self._drop_oldest()
            if self._is_closing:
                return
            self._n_items += 1
            self._items[self._n_items] = item
            # by its number: a dropped item must not be kept by the pool
            self._submit(0, self._take, self._n_items)

    def call(self, method: str, *args) -> int:
        """Have a method called after what is queued; return the ticket of its outcome."""
        with self._changed:
            self._n_tickets += 1
            self._submit(self._n_tickets, self._call, method, args)
            return self._n_tickets

    def clear(self) -> None:
        """Drop the items in the queue."""
        with self._changed:
            while self._items:
                self._drop_oldest()

    def outcomes(self) -> List[Outcome]:
        """Return what has come out since the last call."""
        with self._changed:
            found = list(self._outcomes)
            self._outcomes.clear()
            return found

    def close(self) -> None:
        """End the thread after the call it is in, without the queue, and close the object."""
        with self._changed:
            self._is_closing = True
            self._items.clear()
            self._changed.notify_all()
        self._pool.shutdown(cancel_futures=True)
        if self._handler is not None:
            self._handler.close()

    def _drop_oldest(self) -> None:
        self._items.popitem(last=False)
        self.n_dropped += 1

    def _submit(self, ticket: int, job: Callable, *args) -> None:
        self._pool.submit(job, *args).add_done_callback(partial(self._finish, ticket))

    def _make(self, make_handler: Callable) -> None:
        self._handler = make_handler(lambda value: self._tell(Outcome(TOLD, value)))

    def _take(self, number: int) -> Any:
        with self._changed:
            item = self._items.pop(number, None)
            self._changed.notify_all()
        return _NOTHING if item is None else self._call('take', item)

    def _call(self, method: str, args: tuple) -> Any:
        return _NOTHING if self._handler is None else getattr(self._handler, method)(*args)

    def _finish_making(self, future: Future) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._tell(Outcome(0, None, future.exception()))

    def _finish(self, ticket: int, future: Future) -> None:
        if future.cancelled():
            return
        error = future.exception()
        value = None if error else future.result()
        if value is not _NOTHING:
            self._tell(Outcome(ticket, value, error))

    def _tell(self, outcome: Outcome) -> None:
        with self._changed:
            self._outcomes.append(outcome)
        self._notify()


_NOTHING = object()     # in place of a value: there was nothing to do
