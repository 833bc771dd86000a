"""The node under images at camera rate for a long time: does it stay on time, does anything grow.

The real node runs in its own process and is watched from outside over DDS, as a robot sees it.
"""

from dataclasses import dataclass
from pathlib import Path
import tempfile
import time
from typing import Any, Callable, Dict, List, Mapping, Sequence, Set, Tuple

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from ..errors import LongreconError
from ..memory import resident_mb
from ..synthetic.recipe import Production, Recipe
from ..worker.remains import dead_segments, owned_segments
from .environment import own_domain
from .messages import stamp_ns, time_message
from .node_process import NodeProcess
from .peer import peer

_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
_SETTLE_S = 60.0            # for the node to load its backbone and be found


@dataclass(frozen=True, slots=True)
class Soak:
    """What is sent, and for how long."""

    duration_s: float
    rate_hz: float = 30.0
    size: Tuple[int, int] = (640, 480)
    n_images: int = 120                     # that are sent forth and back, over and over
    row_s: float = 10.0
    parameters: Mapping[str, Any] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """What one stretch of time was like."""

    time_s: float
    n_sent: int
    n_posed: int
    p50_ms: float                           # from sending an image to its odometry being here
    p95_ms: float
    inside_p95_ms: float                    # from its arrival in the node to its publication
    node_mb: float
    worker_mb: float
    n_threads: int
    n_files: int                            # open in the node
    n_skipped: int
    n_dropped: int
    n_untracked: int                        # images that there was no time to pose
    n_lost: int                             # images whose pose is a guess


@dataclass(frozen=True, slots=True)
class Report:
    """All rows, and what was left behind in the end."""

    rows: Tuple[Row, ...]
    exit_code: int
    left_processes: Tuple[int, ...]
    left_files: Tuple[str, ...]
    complaints: Tuple[str, ...]             # warnings and errors of the node's log

    def slope(self, name: str) -> float:
        """Return by how much a figure of the rows grows a minute, over their second half."""
        rows = self.rows[len(self.rows) // 2:]
        if len(rows) < 2:
            return 0.0
        t, y = (np.array([getattr(row, key) for row in rows], float) for key in ('time_s', name))
        return float(60.0 * np.polyfit(t, y, 1)[0])


def run_soak(soak: Soak, tell: Callable[[Row], None] = lambda row: None) -> Report:
    """Run the node; ``tell`` gets each row. Raises LongreconError when the node ends early."""
    with own_domain(), tempfile.TemporaryDirectory(prefix='soak-') as name:
        folder = Path(name)
        temporary = folder / 'tmp'
        temporary.mkdir()
        images, infos = _messages(soak)
        process = NodeProcess(folder, {'node.use_extrinsic': 'none',
                                       'node.save_folder': f'{name}/saved',
                                       **dict(soak.parameters)}, {'image': 'camera/image'},
                              temporary=temporary)
        with process:
            with peer('longrecon_soak') as node:
                rig = _Rig(node, process)
                rows = rig.run(soak, images, infos, tell)
                segments = owned_segments(process.pid)
            code = process.stop()
        # what others on this machine leave meanwhile is not ours
        left_files = {*segments.intersection(dead_segments()),
                      *(path.name for path in temporary.iterdir())}
        complaints = tuple(process.complaints())
    left = tuple(pid for pid in sorted(rig.workers) if Path(f'/proc/{pid}').exists())
    return Report(tuple(rows), code, left, tuple(sorted(left_files)), complaints)


def _messages(soak: Soak) -> Tuple[List[Image], CameraInfo]:
    film = Production.of(Recipe('street', soak.n_images, soak.size, fps=soak.rate_hz)).film
    images = []
    for i in range(soak.n_images):
        frame = film.frame(i).to_frame()
        message = Image(height=soak.size[1], width=soak.size[0], step=3 * soak.size[0],
                        encoding='rgb8')
        message.header.frame_id = 'camera'
        message.data.frombytes(np.ascontiguousarray(frame.image).tobytes())
        images.append(message)
    info = CameraInfo(width=soak.size[0], height=soak.size[1], distortion_model='plumb_bob',
                      d=[0.0] * 5)
    info.k, info.p = frame.K.ravel(), np.concatenate([frame.K, np.zeros((3, 1))], 1).ravel()
    # forth and back: no image of the two ends twice in a row
    return images + images[-2:0:-1], info


class _Rig:
    """Sends images and takes note of what comes back."""

    def __init__(self, node: Node, process: NodeProcess):
        self._node, self._process = node, process
        self.workers: Set[int] = set()
        self._values: Dict[str, Dict[str, str]] = {}
        self._sent_s: Dict[int, float] = {}
        self._latency_ms: List[float] = []
        self._images = node.create_publisher(Image, 'camera/image', _QOS)
        self._infos = node.create_publisher(CameraInfo, 'camera/camera_info', _QOS)
        node.create_subscription(Odometry, 'longrecon/odometry', self._take_odometry, _QOS)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._take_status, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)

    def run(self, soak: Soak, images: Sequence[Image], info: CameraInfo,
            tell: Callable[[Row], None]) -> List[Row]:
        """Send images at their rate and return the rows."""
        self._wait_for_node()
        rows: List[Row] = []
        start_s = row_s = time.monotonic()
        n_sent = n_row = 0
        while time.monotonic() - start_s < soak.duration_s:
            due_s = start_s + n_sent / soak.rate_hz
            while (now_s := time.monotonic()) < due_s:
                self._spin(due_s - now_s)
            self._send(images[n_sent % len(images)], info, n_sent)
            n_sent += 1
            if now_s - row_s >= soak.row_s:
                rows.append(self._row(now_s - start_s, n_sent - n_row))
                tell(rows[-1])
                row_s, n_row = now_s, n_sent
        return rows

    def _wait_for_node(self) -> None:
        end_s = time.monotonic() + _SETTLE_S
        while not (self._images.get_subscription_count() and self._values):
            self._spin(0.05)
            if time.monotonic() > end_s:
                raise LongreconError(f'the node is not there after {_SETTLE_S:.0f} s')

    def _send(self, image: Image, info: CameraInfo, n: int) -> None:
        now_ns = time.time_ns()
        image.header.stamp = info.header.stamp = time_message(now_ns)
        if n % 30 == 0:
            self._infos.publish(info)
        self._sent_s[now_ns] = time.monotonic()
        self._images.publish(image)

    def _spin(self, duration_s: float) -> None:
        self._executor.spin_once(timeout_sec=max(0.0, duration_s))
        self._process.check()

    def _take_odometry(self, message: Odometry) -> None:
        sent_s = self._sent_s.pop(stamp_ns(message.header.stamp), None)
        if sent_s is not None:
            self._latency_ms.append(1e3 * (time.monotonic() - sent_s))

    def _take_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            part = status.name.rpartition(': ')[2]
            self._values[part] = {value.key: value.value for value in status.values}
        pid = int(self._values.get('worker', {}).get('pid', 0))
        if pid:
            self.workers.add(pid)

    def _row(self, time_s: float, n_sent: int) -> Row:
        latency, self._latency_ms = np.array(self._latency_ms or [np.nan]), []
        old_s = time.monotonic() - 10.0
        self._sent_s = {stamp: at for stamp, at in self._sent_s.items() if at > old_s}
        proc = Path(f'/proc/{self._process.pid}')
        slam, worker = self._values['SLAM'], self._values['worker']
        return Row(time_s, n_sent, int(np.isfinite(latency).sum()),
                   *np.percentile(latency, [50, 95]).tolist(),
                   _number(self._values['latency'].get('total p95 [ms]', '')),
                   resident_mb(self._process.pid),
                   _number(worker['memory [MB]']), len(list((proc / 'task').iterdir())),
                   len(list((proc / 'fd').iterdir())), int(slam['images skipped']),
                   int(slam['images dropped']), int(slam['images untracked']),
                   int(slam['poses lost']))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float('nan')
