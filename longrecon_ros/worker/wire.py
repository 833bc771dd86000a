"""Messages between two processes: plain values and arrays, without pickle.

The two ends may run other versions of Python and numpy. A message is a dict of what JSON knows,
with numpy arrays anywhere inside; arrays travel as raw bytes behind the JSON.
"""

import json
import socket
import struct
import threading
from typing import Any, Dict, List, Optional

import numpy as np

_HEAD = struct.Struct('<4sQ')
_MAGIC = b'lrw1'
_MARK = '__array__'
_MAX_JSON = 1 << 28
_MAX_ARRAY = 1 << 34


class WireError(Exception):
    """The other end is gone, or does not speak this language."""


class Channel:
    """One end of a connection; `send` may be called from several threads, `receive` from one."""

    def __init__(self, end: socket.socket):
        self._end = end
        self._lock = threading.Lock()

    def send(self, message: Dict[str, Any]) -> None:
        """Send one message; raises WireError when the other end is gone."""
        arrays: List[np.ndarray] = []
        text = json.dumps(_without_arrays(message, arrays)).encode()
        try:
            with self._lock:
                self._end.sendall(_HEAD.pack(_MAGIC, len(text)) + text)
                for array in arrays:
                    if array.nbytes:
                        self._end.sendall(memoryview(array).cast('B'))
        except OSError as error:
            raise WireError(f'the connection is closed ({error})') from None

    def receive(self) -> Dict[str, Any]:
        """Wait for a message and return it; raises WireError when the other end is gone."""
        magic, n_bytes = _HEAD.unpack(self._read(_HEAD.size))
        if magic != _MAGIC or n_bytes > _MAX_JSON:
            raise WireError('this is no message of longrecon_ros: are both ends of one version?')
        arrays: List[np.ndarray] = []
        places: List[tuple] = []
        message = _find_arrays(json.loads(bytes(self._read(n_bytes))), places)
        for dtype, shape in places:
            arrays.append(self._array(np.dtype(dtype), shape))
        return _with_arrays(message, arrays)

    def close(self) -> None:
        """Close this end; a thread that waits in `receive` wakes with WireError."""
        try:
            self._end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._end.close()

    def _array(self, dtype: np.dtype, shape: List[int]) -> np.ndarray:
        if dtype.hasobject or dtype.itemsize * int(np.prod(shape, dtype=object)) > _MAX_ARRAY:
            raise WireError(f'an array of {dtype} {shape} is no part of a message')
        array = np.empty(shape, dtype)
        if array.nbytes:
            self._fill(memoryview(array.reshape(-1)).cast('B'))
        return array

    def _read(self, n_bytes: int) -> bytearray:
        data = bytearray(n_bytes)
        self._fill(memoryview(data))
        return data

    def _fill(self, view: memoryview) -> None:
        while len(view):
            try:
                n_read = self._end.recv_into(view)
            except OSError as error:
                raise WireError(f'the connection is closed ({error})') from None
            if not n_read:
                raise WireError('the other end is gone')
            view = view[n_read:]


def pair() -> tuple:
    """Return two connected sockets; the second one may be handed to a child process."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def _without_arrays(value: Any, arrays: List[np.ndarray]) -> Any:
    """Return a value as JSON knows it; arrays are collected and leave a mark."""
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise ValueError(f'message: an array of {value.dtype} cannot be sent')
        # not ascontiguousarray: that makes a number an array of one
        array = value if value.flags.c_contiguous else value.copy(order='C')
        arrays.append(array)
        return {_MARK: [array.dtype.str, list(array.shape)]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): _without_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(item, arrays) for item in value]
    return value


def _find_arrays(value: Any, places: List[tuple]) -> Any:
    """Note dtype and shape of each mark, in their order, and number the marks."""
    if isinstance(value, dict):
        if set(value) == {_MARK}:
            places.append(tuple(value[_MARK]))
            return {_MARK: len(places) - 1}
        return {key: _find_arrays(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_find_arrays(item, places) for item in value]
    return value


def _with_arrays(value: Any, arrays: List[np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_MARK}:
            return arrays[value[_MARK]]
        return {key: _with_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_arrays(item, arrays) for item in value]
    return value


def array_of(value: Any, dtype: Any) -> Optional[np.ndarray]:
    """Return a received value as an array; None stays None."""
    return None if value is None else np.asarray(value, dtype)
