"""The worker's own process: `python -m longrecon_ros.worker.process`, started by `supervisor`.

Its arguments are a socket and the ring of images, which it inherits, the slots of the ring, its
memory (MB) and patience (s), and the folder of the other process. It speaks `wire`. When the other
end is gone, whatever it died of, it removes what that has left behind and ends. Exit codes: 0 when
it was asked to end, 2 after an error of the user, 77 when memory was short.
"""

from contextlib import suppress
import faulthandler
import logging
import os
from pathlib import Path
import queue
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Dict, List, Optional

import cv2
import numpy as np
from scipy import linalg

from .. import __version__
from ..config import load
from ..errors import LongreconError
from ..memory import resident_mb
from .messages import OUT_OF_MEMORY, read_calibration
from .remains import remove_dead_segments
from .ring import Ring
from .session import Session, Settings, smaller
from .wire import Channel, WireError

_BEAT_S = 0.5
_BURY_S = 10.0              # for what is left behind to be removed
# Python's words when there is no memory for the stack of a thread
_NO_THREAD = ("can't start new thread", 'unable to start watchdog thread')

_log = logging.getLogger(__name__)


class Worker:
    """Answers the messages of the other process, one after the other."""

    def __init__(self, channel: Channel, ring: Ring, timeout_s: float, folder: Path):
        self._channel, self._ring, self._timeout_s = channel, ring, timeout_s
        self._folder = folder       # of the other process
        self._inbox: 'queue.SimpleQueue[Dict[str, Any]]' = queue.SimpleQueue()
        self._session: Optional[Session] = None
        self._epoch = 0
        self._doing, self._since_s = 'starting', time.monotonic()
        self._is_burying = False

    def run(self) -> int:
        """Work until it is asked to end; return the exit code."""
        for name, job in (('inbox', self._read), ('beat', self._beat)):
            threading.Thread(target=job, name=name, daemon=True).start()
        while True:
            message = self._inbox.get()
            kind = message['kind']
            if kind == 'stop':
                self._end()
                return 0
            self._doing, self._since_s = kind, time.monotonic()
            if kind == 'start':
                if not self._start(message):
                    return 2
            else:
                getattr(self, f'_do_{kind}')(message)
            self._doing, self._since_s = '', time.monotonic()

    def tell(self, message: Dict[str, Any]) -> None:
        """Send a message; when nobody listens, the inbox knows, too."""
        try:
            self._channel.send(message)
        except WireError:
            pass

    def _start(self, message: Dict[str, Any]) -> bool:
        try:
            config, settings = load(overrides=message['config']), Settings(**message['settings'])
            if message['share'] < 1:
                config = smaller(config, message['share'])
            self._session = Session(config, settings, message['resume'], self.tell)
            if message['warm_up']:
                self._session.warm_up()
        except LongreconError as error:
            self.tell({'kind': 'failed', 'text': str(error)})
            return False
        self.tell({'kind': 'ready', 'version': __version__, 'pid': os.getpid(),
                   **self._session.facts()})
        return True

    def _do_begin(self, message: Dict[str, Any]) -> None:
        self._epoch = message['epoch']
        self._session.begin(read_calibration(message['calibration']), message['topic'],
                            self._epoch)

    def _do_frame(self, message: Dict[str, Any]) -> None:
        image = self._ring.read(message['slot'], message['shape'])
        try:
            self._session.take(message['index'], message['stamp_ns'], image, message['name'])
        except LongreconError as error:
            self.tell({'kind': 'refused', 'index': message['index'], 'text': str(error)})
        else:
            self.tell({'kind': 'taken', 'index': message['index'], 'epoch': self._epoch})

    def _do_call(self, message: Dict[str, Any]) -> None:
        answer = {'kind': 'answer', 'ticket': message['ticket'], 'is_done': True}
        try:
            answer['text'] = getattr(self._session, message['method'])(*message['arguments'])
        except LongreconError as error:
            answer.update(is_done=False, text=str(error))
        self.tell(answer)

    def _do_want(self, message: Dict[str, Any]) -> None:
        self._session.want(message['cloud'], message['tiles'], message['fresh'],
                           message['metres_per_unit'], message['up'])

    def _read(self) -> None:
        """Put messages into the inbox; end the process when there will be no more."""
        try:
            while True:
                self._inbox.put(self._channel.receive())
        except WireError:
            pass
        self._bury()

    def _bury(self) -> None:
        """Remove what the other process would have removed, and end at once."""
        # whatever comes in between: no worker without somebody to work for
        self._is_burying = True
        with suppress(RuntimeError):        # no memory for its thread
            faulthandler.dump_traceback_later(_BURY_S, exit=True)
        _remove_once_dead(self._folder)
        # its participant may hold its lock for a moment yet
        for _ in range(3):
            remove_dead_segments()
            time.sleep(0.1)
        os._exit(0)

    def _end(self) -> None:
        if self._session is not None:
            self._session.close()

    def _beat(self) -> None:
        while not self._is_burying:
            # a thread of C ends this process if it hangs, when nobody is there to kill it
            faulthandler.dump_traceback_later(self._timeout_s, exit=True)
            self.tell({'kind': 'beat', 'doing': self._doing, 'rss_mb': resident_mb(),
                       'gpu_mb': gpu_mb(),
                       'busy_s': time.monotonic() - self._since_s if self._doing else 0.0})
            time.sleep(_BEAT_S)


def _remove_once_dead(folder: Path) -> None:
    """Have a folder removed when this process is gone: its threads write there to the end."""
    # the other end of the pipe is ours alone and stays open: it is closed by our death
    until_dead, _ = os.pipe()
    subprocess.Popen(['/bin/sh', '-c', 'cat; exec rm -rf -- "$1"', 'sh', str(folder)],
                     stdin=until_dead, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                     start_new_session=True)


class _Forward(logging.Handler):
    """Sends what the library logs to the other process."""

    def __init__(self, worker: Worker):
        super().__init__(logging.INFO)
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._worker.tell({'kind': 'log', 'level': record.levelno, 'text': self.format(record)})


def gpu_mb() -> float:
    """Return what torch has allocated on the GPU, MB; 0 when it is not in use."""
    torch = sys.modules.get('torch')
    cuda = getattr(torch, 'cuda', None)
    if cuda is None or not cuda.is_initialized():
        return 0.0
    return cuda.memory_allocated() * 1e-6


def main(arguments: List[str]) -> int:
    """Run the worker; return the exit code."""
    socket_fd, ring_fd, n_slots, memory_mb, timeout_s = map(int, arguments[:5])
    if memory_mb:
        # OpenBLAS waits for ever for a buffer that it cannot have: it gets it before
        linalg.cholesky(np.eye(64) @ np.eye(64))
        # what it takes itself; address space that is only reserved does not count
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    faulthandler.enable()
    # Ctrl-C is for the other process, which says what happens
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # the tracker, in the other process, has to be on time
    os.nice(5)
    cv2.setNumThreads(max(1, len(os.sched_getaffinity(0)) - 1))
    channel = Channel(socket.socket(fileno=socket_fd))
    try:
        return work(Worker(channel, Ring(ring_fd, n_slots), timeout_s,
                           Path(arguments[5])), channel)
    except BaseException as error:
        _tell_fault(channel, error)
        raise


def work(worker: Worker, channel: Channel) -> int:
    """Have this process be a worker; return its exit code."""
    def on_thread_error(its: threading.ExceptHookArgs) -> None:
        # a worker that has lost one of its threads hangs sooner or later
        threading.__excepthook__(its)
        _tell_fault(channel, its.exc_value)
        os._exit(1)

    threading.excepthook = on_thread_error
    logging.getLogger('longrecon_ros').addHandler(_Forward(worker))
    logging.getLogger('longrecon_ros').setLevel(logging.INFO)
    return worker.run()


def is_memory_short(error: BaseException) -> bool:
    """Say whether an error means that there was no more memory, on the GPU or beside it."""
    text = str(error)
    return (isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError'
            or isinstance(error, cv2.error) and (
                'Insufficient memory' in text or 'bad_alloc' in text)
            or isinstance(error, RuntimeError) and any(words in text for words in _NO_THREAD))


def _tell_fault(channel: Channel, error: BaseException) -> None:
    """Tell what this process dies of; end it at once if that is memory."""
    is_memory = is_memory_short(error)
    words = ' '.join(str(error).split()) or type(error).__name__
    try:
        channel.send({'kind': 'fault', 'is_memory': is_memory,
                      'text': f'{type(error).__name__}: {words}'})
    except (WireError, MemoryError):
        pass                    # the exit code says it, too
    if is_memory:
        os._exit(OUT_OF_MEMORY)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
