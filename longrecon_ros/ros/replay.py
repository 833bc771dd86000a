"""A bag through the live node: started, fed over DDS without loss, asked to save, ended."""

from dataclasses import dataclass
import json
import logging
from pathlib import Path
import tempfile
import time
from typing import Any, Callable, Dict, Optional, Protocol

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger

from ..config import as_flat_dict, build, Config
from ..errors import InputError, LongreconError
from ..io.trajectory_file import write_tum
from ..types import Trajectory
from .bag_player import BagPlayer, BagTopics, find_topics
from .environment import own_domain
from .node_config import NodeConfig
from .node_process import NodeProcess
from .peer import peer

__all__ = ['find_topics', 'Progress', 'Replay', 'run_replay']

_IN_FLIGHT = 16         # images sent and not taken by the pipeline yet
_DEPTH = 2 * _IN_FLIGHT
_TICK_S = 0.02
_STATUS_S = 0.05        # the pace of the sender hangs on it
_MATCH_S = 60.0         # for the node to start and to be found
_SILENCE_S = 600.0      # without any progress: a window of a big network may take minutes
_LOST_S = 5.0           # an image that is not there so long after the last one will not come

_log = logging.getLogger(__name__)


class Progress(Protocol):
    """Is told how far the replay is."""

    def update(self, n_done: int, remark: str) -> None:
        """Show that ``n_done`` images are done."""


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What to play, and how."""

    bag: Path
    topics: BagTopics
    config: Config
    source: str                             # one line for the results
    groundtruth: Optional[Trajectory] = None
    rate: Optional[float] = None            # times real time; None: as fast as it is processed
    is_live: bool = False                   # images are dropped as on a robot, not waited for
    domain: Optional[int] = None            # ROS domain; None: one of our own


def run_replay(replay: Replay, out: Path, progress: Progress) -> Dict[str, Any]:
    """Play a bag through the node and have it write its results; return those of result.json.

    Node and player talk over DDS, on this machine only. Raises LongreconError when the node ends
    early, stands still, or cannot save.
    """
    build(NodeConfig, replay.config.node)
    with own_domain(replay.domain), tempfile.TemporaryDirectory(prefix='longrecon-') as name:
        process = NodeProcess(Path(name), _parameters(replay, out, Path(name)),
                              _remaps(replay.topics))
        with process, peer('longrecon_replay') as node:
            feeder = _Feeder(replay, process, node)
            feeder.feed(progress)
            feeder.save()
            process.stop()
            for complaint in process.complaints():
                _log.warning('%s', complaint)
    return json.loads((out / 'result.json').read_text(encoding='utf-8'))


def _remaps(topics: BagTopics) -> Dict[str, str]:
    image = topics.image[:-len('/compressed')] if topics.is_compressed else topics.image
    return {'image': image, **({'camera_info': topics.info} if topics.info else {})}


def _parameters(replay: Replay, out: Path, folder: Path) -> Dict[str, Any]:
    """Return the parameters of the node: the configuration, and what a replay needs."""
    parameters = {name: value for name, value in as_flat_dict(replay.config).items()
                  if value is not None}
    parameters.update({
        'use_sim_time': True,
        'node.image_transport': 'compressed' if replay.topics.is_compressed else 'raw',
        'node.queue_policy': 'latest' if replay.is_live else 'keep_all',
        'node.queue_size': max(_DEPTH, parameters['node.queue_size']),
        'node.status_period_s': _STATUS_S,
        'node.save_folder': str(out.absolute()),
        'node.source': replay.source})
    if replay.topics.info is None:
        parameters['node.calibration_wait_s'] = 0.0
    if replay.groundtruth is not None:
        file = folder / 'groundtruth.txt'
        write_tum(file, replay.groundtruth)
        parameters['node.groundtruth_file'] = str(file)
    return parameters


class _Feeder:
    """Sends the bag at the pace at which the node takes it, by what the node says of itself."""

    def __init__(self, replay: Replay, process: NodeProcess, node: Node):
        self._replay, self._process = replay, process
        node_config = replay.config.node
        self._player = BagPlayer(node, replay.topics, _DEPTH,
                                 (node_config['odom_frame'], node_config['base_frame']))
        self._counts: Dict[str, int] = {}
        self._failure = ''
        node.create_subscription(DiagnosticArray, '/diagnostics', self._take_status, 10)
        self._save = node.create_client(Trigger, '/longrecon/save')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._changed_at = time.monotonic()

    def feed(self, progress: Progress) -> None:
        """Send everything and wait until the pipeline has it."""
        self._wait(lambda: self._player.images.get_subscription_count() and self._counts, _MATCH_S)
        start, first_ns, n_sent = time.monotonic(), None, 0
        for n_sent, recorded_ns in enumerate(self._player.play(self._replay.bag)):
            first_ns = recorded_ns if first_ns is None else first_ns
            if self._replay.rate is not None:
                self._wait_until(start + (recorded_ns - first_ns) * 1e-9 / self._replay.rate)
            if not self._replay.is_live:
                self._wait(lambda n=n_sent: n - self._n_done() < _IN_FLIGHT)
            self._spin(0.0)
            progress.update(self._n_done(), f'{self._n_done() / (time.monotonic() - start):.1f} '
                                            'a second')
        self._drain(n_sent + 1)

    def save(self) -> None:
        """Have the node write its results."""
        answer = self._save.call_async(Trigger.Request())
        self._changed_at = time.monotonic()
        self._wait(answer.done)
        if not answer.result().success:
            raise InputError(answer.result().message)

    def _drain(self, n_sent: int) -> None:
        """Wait until the node has dealt with all images; say how many did not reach it."""
        self._changed_at = time.monotonic()
        self._wait(lambda: self._n_done() >= n_sent or (
            self._is_idle() and time.monotonic() - self._changed_at > _LOST_S))
        n_missing = n_sent - self._n_done()
        if n_missing > 0:
            _log.warning('%d of %d images did not reach the node', n_missing, n_sent)

    def _n_done(self) -> int:
        """Return how many images the node has dealt with, one way or another."""
        return sum(self._counts.get(f'images {what}', 0)
                   for what in ('taken', 'refused', 'dropped', 'skipped',
                                'lost before the node'))

    def _is_idle(self) -> bool:
        return self._n_done() >= self._counts.get('images received', 0)

    def _take_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == 'longrecon: worker' and status.level == DiagnosticStatus.ERROR:
                values = {value.key: value.value for value in status.values}
                if values.get('state') == 'failed':
                    self._failure = values['last fault']
            if status.name == 'longrecon: SLAM':
                counts = {value.key: int(value.value) for value in status.values
                          if value.value.isdecimal()}
                if counts != self._counts:
                    self._counts, self._changed_at = counts, time.monotonic()

    def _wait_until(self, moment: float) -> None:
        while time.monotonic() < moment:
            self._spin(min(_TICK_S, moment - time.monotonic()))

    def _wait(self, is_over: Callable[[], Any], silence_s: float = _SILENCE_S) -> None:
        """Wait for something; raise LongreconError when the node stands still for so long."""
        while not is_over():
            self._spin(_TICK_S)
            if time.monotonic() - self._changed_at > silence_s:
                raise LongreconError(f'the node has made no progress for {silence_s:.0f} s; try a '
                                     'smaller window, or smaller images')

    def _spin(self, timeout_s: float) -> None:
        self._executor.spin_once(timeout_sec=max(0.0, timeout_s))
        self._process.check()
        if self._failure:
            raise LongreconError(self._failure)
