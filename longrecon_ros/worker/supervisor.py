"""Starts the worker's process, watches it, and starts it again when it dies."""

from collections import deque
from dataclasses import dataclass
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Deque, Dict, Optional

from .messages import OUT_OF_MEMORY
from .ring import Ring
from .wire import Channel, pair, WireError

_LONGEST_PAUSE_S = 30.0     # between two tries
_SHRINK = 0.7               # of the window, after memory was short
_END_S = 10.0               # for the worker to end by itself
_LAST_LINES = 20
_WATCH_S = 0.5              # between two looks at the worker
# what libraries write before they end a process themselves for want of memory
_MEMORY_WORDS = ('MemoryError', 'OpenBLAS error: Memory allocation', 'bad_alloc')
_MARKS = ('_ROS_WHEELS_BOOTSTRAP_COMPLETE', 'LD_LIBRARY_PATH')


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How the worker is run."""

    python: str = ''                        # interpreter; '': that of this process
    timeout_s: float = 120.0                # a worker at one message for longer is started anew
    memory_mb: float = 0.0                  # that it may take; 0: no limit
    most_deaths: int = 5                    # in a row, without a window in between


class Supervisor:
    """Owns the process, from `start` on; ``take`` gets what it says, in a thread of its own.

    ``make_start()`` returns the message that starts a worker, at the first time and after each
    death; the share of the usual window that it should ask for is `share`. Besides the worker's
    own messages there are three of the supervisor: ``died`` (``text``, ``is_memory``, and the last
    ``lines`` of its stderr), ``gave_up`` after too many deaths, and ``failed`` of a worker that
    could not start. Each worker has a number, `generation`, which its ``ready`` carries: what is
    meant for one is not sent to the next.
    """

    def __init__(self, config: WorkerConfig, ring: Ring, folder: Path,
                 make_start: Callable[[], Dict[str, Any]],
                 take: Callable[[Dict[str, Any]], None]):
        self._config, self._ring, self._folder = config, ring, folder
        self._make_start, self._take = make_start, take
        self.generation = 0
        self._channel: Optional[Channel] = None
        self._process: Optional[subprocess.Popen] = None
        self._last_lines: Deque[str] = deque(maxlen=_LAST_LINES)
        self._is_closing = threading.Event()
        self._ended = threading.Event()
        self.state = 'starting'             # ready | restarting | failed | stopped
        self.share = 1.0
        self.n_restarts = 0
        self.beat: Dict[str, Any] = {}
        self.beat_at_s = time.monotonic()
        self.fault = ''
        self._n_deaths = 0
        self._words_now, self._told_memory = '', False
        self._n_oom_kills = 0
        self._threads = [threading.Thread(target=job, name=name, daemon=True) for name, job in (
            ('supervisor', self._live), ('watchdog', self._watch))]

    def start(self) -> None:
        """Start the worker; from now on ``make_start`` and ``take`` are called."""
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Process id of the worker; 0 while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def send(self, message: Dict[str, Any], generation: Optional[int] = None) -> bool:
        """Tell the worker something, if it is that one; False when nobody was told."""
        channel = self._channel
        if channel is None or generation not in (None, self.generation):
            return False
        try:
            channel.send(message)
        except WireError:
            return False
        return True

    def thrived(self) -> None:
        """Take note that the worker does what it is there for: earlier deaths do not count."""
        self._n_deaths = 0

    def close(self) -> None:
        """End the worker, by force if it does not end by itself."""
        self._is_closing.set()
        self.send({'kind': 'stop'})
        if not self._ended.wait(_END_S):
            self._kill()
            self._ended.wait(_END_S)
        for thread in self._threads:
            thread.join(_END_S)

    def _watch(self) -> None:
        """Kill a worker that has been at one message for too long.

        In a thread of its own: with keep_all, the caller's may wait for this very worker.
        """
        while not self._ended.wait(_WATCH_S):
            busy_s = float(self.beat.get('busy_s', 0.0)) + time.monotonic() - self.beat_at_s
            if self.pid and busy_s > self._config.timeout_s:
                self._words_now = (f'it was silent, or at one window, for {busy_s:.0f} s '
                                   '(node.worker_timeout_s)')
                self._kill()

    def _live(self) -> None:
        while not self._is_closing.is_set():
            self._words_now, self._told_memory = '', False
            self._last_lines.clear()
            self._n_oom_kills = _n_oom_kills()
            self._spawn()
            self._listen()
            code = self._bury()
            if self._is_closing.is_set() or self.state == 'failed':
                break
            if not self._goes_on(code):
                break
        self.state = self.state if self.state == 'failed' else 'stopped'
        self._ended.set()

    def _spawn(self) -> None:
        ours, theirs = pair()
        self.beat, self.beat_at_s = {}, time.monotonic()
        command = [self._config.python or sys.executable, '-m', 'longrecon_ros.worker.process',
                   str(theirs.fileno()), str(self._ring.fd), str(self._ring.n_slots),
                   str(int(self._config.memory_mb)),
                   str(max(1, round(self._config.timeout_s))), str(self._folder)]
        try:
            environment = self._environment()
            self._process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(), self._ring.fd), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
                env=environment)
        except OSError as error:
            ours.close()
            self._process = None
            self._fail(f'{command[0]}: cannot be started ({error.strerror}); set '
                       'node.worker_python to the interpreter that has torch')
            return
        finally:
            theirs.close()
        self._drainer = threading.Thread(target=self._drain, args=(self._process.stderr,),
                                         name='worker_stderr', daemon=True)
        self._drainer.start()
        self.generation += 1
        self._channel = Channel(ours)
        self.send(self._make_start())

    def _environment(self) -> Dict[str, str]:
        """Return that of the worker: temporary files are in the folder that we remove."""
        environment = {**os.environ, 'TMPDIR': str(self._folder), 'PYTHONUNBUFFERED': '1'}
        # one core is for the tracker
        environment.setdefault('OMP_NUM_THREADS',
                               str(max(1, len(os.sched_getaffinity(0)) - 1)))
        if self._config.python and self._config.python != sys.executable:
            for name in _MARKS:
                environment.pop(name, None)
            if not _has_package(self._config.python, environment):
                here = str(Path(__file__).resolve().parents[2])
                paths = [here, *filter(None, [environment.get('PYTHONPATH')])]
                environment['PYTHONPATH'] = os.pathsep.join(paths)
        return environment

    def _listen(self) -> None:
        """Take messages until the worker is gone."""
        while self._channel is not None:
            try:
                message = self._channel.receive()
            except WireError:
                return
            self.beat_at_s = time.monotonic()
            kind = message['kind']
            if kind == 'beat':
                self.beat = message
                continue
            if kind == 'ready':
                self.state = 'ready'
                message['generation'] = self.generation
            elif kind == 'fault':
                self._words_now, self._told_memory = message['text'], message['is_memory']
                continue
            elif kind == 'failed':
                self._fail(message['text'])
                continue
            self._take(message)

    def _bury(self) -> int:
        """Wait for the process that is gone; return its exit code."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is None:
            return -1
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._kill()
            code = self._process.wait()
        # its last words; a child of its may keep the pipe open
        self._drainer.join(1.0)
        return code

    def _goes_on(self, code: int) -> bool:
        """Tell of the death, and wait before the next try; False after too many."""
        is_memory = self._told_memory or code == OUT_OF_MEMORY or (
            code == -signal.SIGKILL and _n_oom_kills() > self._n_oom_kills) or any(
            words in line for line in tuple(self._last_lines) for words in _MEMORY_WORDS)
        words = self._words_now or self._words()
        cause = 'out of memory' if is_memory else _cause(code)
        text = f'the worker died ({cause}{": " + words if words else ""})'
        self.fault = text
        if is_memory:
            self.share = max(0.1, self.share * _SHRINK)
        self._n_deaths += 1
        if self.state == 'starting' and self._words_now and not is_memory:
            self._fail(text)            # an error that it would meet again
            return False
        if self._n_deaths > self._config.most_deaths:
            self._fail(f'{text}; it died {self._n_deaths} times in a row: mend the cause, then '
                       'configure the node again', 'gave_up')
            return False
        self.state = 'restarting'
        self.n_restarts += 1
        self._take({'kind': 'died', 'text': text, 'is_memory': is_memory,
                    'lines': list(self._last_lines)})
        # at once the first time
        pause_s = min(_LONGEST_PAUSE_S, 2.0 ** (self._n_deaths - 2)) * (self._n_deaths > 1)
        self._is_closing.wait(pause_s)
        return not self._is_closing.is_set()

    def _fail(self, text: str, kind: str = 'failed') -> None:
        self.state, self.fault = 'failed', text
        self._take({'kind': kind, 'text': text})

    def _drain(self, stream: Any) -> None:
        with stream:
            for line in stream:
                self._last_lines.append(line.decode(errors='replace').rstrip())

    def _words(self) -> str:
        """Return the last line that the worker wrote to its stderr."""
        return next((line.strip() for line in reversed(self._last_lines) if line.strip()), '')

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL)


def _has_package(python: str, environment: Dict[str, str]) -> bool:
    """Say whether an interpreter has this package among its own."""
    return subprocess.call([python, '-c', 'import longrecon_ros'], env=environment, cwd='/',
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL) == 0


def _n_oom_kills() -> int:
    """Return how many processes the system has killed for memory; 0 where it does not tell."""
    try:
        lines = Path('/proc/vmstat').read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith('oom_kill ')), 0)


def _cause(code: int) -> str:
    return f'killed by signal {-code}' if code < 0 else f'exit code {code}'
