"""Everything behind the node's topics: the front thread, the ring, the worker's process.

It lives from `configure` to `cleanup`, and knows no rclpy; the node publishes what comes out.
"""

from collections import deque
from pathlib import Path
import shutil
import tempfile
import threading
import time
from typing import Any, Callable, Deque, Dict, List

from .. import __version__
from ..config import as_flat_dict, build, Config
from ..errors import LongreconError
from ..scale import ScaleConfig
from ..tracking import TrackingConfig
from ..worker.ring import Ring
from ..worker.stream import Stream, StreamConfig
from ..worker.supervisor import Supervisor, WorkerConfig
from .estimator import Estimator
from .front import Decoder, Front
from .node_config import Live

_READY_S = 600.0            # for a backbone to be loaded and warm
_LOOK_S = 0.2               # between two looks for a signal
_TAKE_IN_S = 10.0           # for the front to take in what is there


class Engine:
    """Owns the threads and the process. ``notify`` is called when there are `outputs`.

    `outputs` are records of `front` and messages of the worker (dicts). Raises ConfigError for
    parameters that the ROS process itself uses.
    """

    def __init__(self, config: Config, live: Live, decode: Decoder, notify: Callable[[], None],
                 latency: Callable[[str, float], None]):
        node = live.config
        self._config, self._live, self._notify = config, live, notify
        tracking = build(TrackingConfig, config.tracking)
        scale = build(ScaleConfig, config.scale)
        self.scale_source = scale.source
        self.folder = Path(tempfile.mkdtemp(prefix='longrecon-'))
        windows = StreamConfig(config.window.size, config.window.overlap, node.queue_policy,
                               node.latency_budget_s)
        self._ring = Ring.create(windows.n_slots)
        self.stream = Stream(windows, self._ring)
        self._outputs: Deque[Any] = deque()
        self._pending: Dict[int, str] = {}      # methods by ticket
        self._lock = threading.Lock()
        self._n_tickets = 0
        self._is_settled = threading.Event()    # ready, or known not to become so
        self._failure = ''
        self.facts: Dict[str, Any] = {}
        self.estimator = Estimator(tracking if tracking.use else None, scale,
                                   lambda: live.config.slew_s)
        self.front = Front(self.stream, lambda: self.supervisor, decode, self.estimator,
                           node.gap_s, node.queue_size, node.queue_policy, notify, latency)
        self.supervisor = Supervisor(
            WorkerConfig(node.worker_python, node.worker_timeout_s, node.worker_memory_mb,
                         node.worker_deaths),
            self._ring, self.folder, self._start_message, self._take)
        # its thread uses what is above
        self.supervisor.start()

    def wait_until_ready(self, is_cancelled: Callable[[], Any] = lambda: False) -> None:
        """Wait for the backbone; raises LongreconError with the reason when it cannot be had."""
        end_s = time.monotonic() + _READY_S
        while not self._is_settled.wait(_LOOK_S):
            if is_cancelled():
                raise LongreconError('interrupted before the backbone was ready')
            if time.monotonic() > end_s:
                raise LongreconError(f'the worker is not ready after {_READY_S:.0f} s; set '
                                     'node.warm_up to false, or take a smaller backbone')
        if self._failure:
            raise LongreconError(self._failure)

    def call(self, method: str, *arguments: Any) -> int:
        """Have the worker call a method of its session; return the ticket of the answer."""
        with self._lock:
            self._n_tickets += 1
            ticket = self._n_tickets
            self._pending[ticket] = method
        self.front.post(self.front.reset if method in ('reset', 'load_map', 'set_localization')
                        else self.front.call, ticket, method, *arguments)
        return ticket

    def outputs(self) -> List[Any]:
        """Return what has come since the last call, the front's first; ends with its failure."""
        if self.front.failure is not None:
            raise self.front.failure
        found = self.front.outputs()
        while self._outputs:
            found.append(self._outputs.popleft())
        return [output for output in found if not self._is_stale(output)]

    def close(self) -> None:
        """End everything, and remove what was kept for a worker that had to be started anew."""
        self.supervisor.close()
        self.front.close()
        self._ring.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_stale(self, output: Any) -> bool:
        """Say whether an answer comes for a second time, and take note of the first."""
        if not isinstance(output, dict) or output['kind'] != 'answer' or not output['ticket']:
            return False
        with self._lock:
            return self._pending.pop(output['ticket'], None) is None

    def _start_message(self) -> Dict[str, Any]:
        # what the last worker said must have been taken in: its tail goes to the next one
        is_taken_in = threading.Event()
        self.front.post(is_taken_in.set)
        is_taken_in.wait(_TAKE_IN_S)
        node, config = self._live.config, self._config
        flat = {name: value for name, value in as_flat_dict(config).items() if value is not None}
        return {'kind': 'start', 'config': flat, 'share': self.supervisor.share,
                'warm_up': node.warm_up, 'resume': {'tail': self.estimator.tail},
                'settings': {
                    'folder': str(self.folder), 'save_folder': node.save_folder,
                    'source': node.source, 'groundtruth_file': node.groundtruth_file,
                    'cloud_period_s': node.cloud_period_s, 'tile_points': node.tile_points,
                    'path_poses': node.path_poses,
                    'grid_resolution_m': node.grid_resolution_m}}

    def _take(self, message: Dict[str, Any]) -> None:
        """Pass on what the supervisor or the worker says; runs in the supervisor's thread."""
        kind = message['kind']
        if kind == 'step':
            self.supervisor.thrived()
            self.front.post(self.front.step, message)
            return
        if kind == 'lost':
            self.front.post(self.front.lost, message)
            return
        if kind == 'answer':
            # after the windows that came before it
            self.front.post(self.front.put, message)
            return
        if kind == 'ready':
            if message['version'] != __version__:
                message = {'kind': 'failed', 'text': (
                    f'the worker runs longrecon_ros {message["version"]}, the node {__version__}: '
                    'install one version for both interpreters')}
                kind = 'failed'
            else:
                self.facts = message
                self.front.post(self.front.up, message['generation'], message['size'],
                                message['overlap'])
        if kind in ('failed', 'gave_up'):
            self._failure = message['text']
        if kind in ('died', 'failed', 'gave_up'):
            if kind == 'died':
                self.front.post(self.front.down)
            else:
                self.front.post(self.front.give_up, message['text'])
            self._break_off(message['text'])
        if kind in ('ready', 'failed', 'gave_up'):
            self._is_settled.set()
        self._outputs.append(message)
        self._notify()

    def _break_off(self, text: str) -> None:
        """Answer the calls that the worker took with it."""
        with self._lock:
            tickets = list(self._pending)
        for ticket in tickets:
            self._outputs.append({'kind': 'answer', 'ticket': ticket, 'is_done': False,
                                  'text': f'{text}: try again when it is back'})


def check_sections(config: Config) -> None:
    """Raise ConfigError for a wrong value in the sections that the ROS process uses itself."""
    for record, section in ((TrackingConfig, config.tracking), (ScaleConfig, config.scale)):
        build(record, section)
