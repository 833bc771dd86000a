"""Numbers that a publisher gives its messages: rclpy hands them out since Iron."""

from typing import Any, Callable

from rclpy.subscription import Subscription


class GapCounter:
    """Calls ``take(message)`` for each message and ``lose(n)`` when n before it are missing.

    What is missing before the first message goes unnoticed. Without numbers (Humble), `callback`
    is ``take`` itself.
    """

    def __init__(self, take: Callable[[Any], None], lose: Callable[[int], None]):
        self._take, self._lose = take, lose
        self._last = 0
        # a callback of two arguments gets the number, too
        self.callback = self._take_numbered if hasattr(Subscription, 'CallbackType') else take

    def _take_numbered(self, message: Any, info: Any) -> None:
        number = info['publication_sequence_number']
        if number and self._last and number > self._last + 1:
            self._lose(number - self._last - 1)
        self._last = number or 0
        self._take(message)
