"""The only thread beside the executor's: runs the pipeline, in the order in which things came."""

from collections import deque
from dataclasses import dataclass
import threading
from typing import Any, Callable, Deque, List, Literal, Optional, Tuple


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call gave: its value, or the exception it ended with."""

    ticket: int
    """The number that `Worker.call` returned; 0 for an item of the queue."""
    value: Any
    error: Optional[BaseException] = None


class Worker:
    """Runs the methods of one object in a thread of its own.

    The object is made there, by ``make_handler()``; if that fails, the failure is the only
    outcome. `offer` hands it a queued item (its method ``take``), `call` any other method; both
    keep their order. ``notify`` is called in the thread whenever there are new `outcomes`.

    With policy ``latest`` a full queue drops its oldest item, counted by `n_dropped`; with
    ``keep_all`` `offer` waits for room. Names and arguments are all that crosses over, so that a
    process can take the place of the thread.
    """

    def __init__(self, make_handler: Callable[[], Any], notify: Callable[[], None],
                 capacity: int, policy: Literal['latest', 'keep_all']):
        self._make_handler, self._notify = make_handler, notify
        self._capacity, self._policy = capacity, policy
        self._jobs: Deque[Tuple[int, str, tuple]] = deque()
        self._n_items = 0                       # jobs with ticket 0
        self._outcomes: Deque[Outcome] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._n_tickets = 0
        self.n_dropped = 0
        self._thread = threading.Thread(target=self._run, name='pipeline', daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Items in the queue."""
        return self._n_items

    def offer(self, *item) -> None:
        """Queue one item for ``take(*item)``."""
        with self._changed:
            if self._policy == 'keep_all':
                self._changed.wait_for(lambda: self._n_items < self._capacity or self._is_closing)
            elif self._n_items >= self._capacity:
                self._drop_oldest()
            self._add(0, 'take', item)

    def call(self, method: str, *args) -> int:
        """Have a method called after what is queued; return the ticket of its outcome."""
        with self._changed:
            self._n_tickets += 1
            self._add(self._n_tickets, method, args)
            return self._n_tickets

    def clear(self) -> None:
        """Forget the items in the queue."""
        with self._changed:
            while self._n_items:
                self._drop_oldest()

    def outcomes(self) -> List[Outcome]:
        """Return what has come out since the last call."""
        with self._changed:
            found = list(self._outcomes)
            self._outcomes.clear()
            return found

    def close(self, timeout_s: Optional[float] = None) -> bool:
        """End the thread after the call it is in, without the queue; say whether it has ended."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _add(self, ticket: int, method: str, args: tuple) -> None:
        if self._is_closing:
            return
        self._jobs.append((ticket, method, args))
        self._n_items += ticket == 0
        self._changed.notify_all()

    def _drop_oldest(self) -> None:
        oldest = next(i for i, (ticket, _, _) in enumerate(self._jobs) if ticket == 0)
        del self._jobs[oldest]
        self._n_items -= 1
        self.n_dropped += 1

    def _run(self) -> None:
        try:
            handler = self._make_handler()
        except BaseException as error:  # noqa: BLE001, raised again where outcomes are read
            self._finish(Outcome(0, None, error))
            return
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._is_closing)
                if self._is_closing:
                    return
                ticket, method, args = self._jobs.popleft()
                self._n_items -= ticket == 0
                self._changed.notify_all()
            try:
                outcome = Outcome(ticket, getattr(handler, method)(*args))
            except BaseException as error:  # noqa: BLE001, raised again where outcomes are read
                outcome = Outcome(ticket, None, error)
            self._finish(outcome)

    def _finish(self, outcome: Outcome) -> None:
        with self._changed:
            self._outcomes.append(outcome)
        self._notify()
