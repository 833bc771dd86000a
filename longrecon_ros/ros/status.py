"""The state of the node for /diagnostics."""

from dataclasses import dataclass, field
from typing import Any, List

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSProfile

from ..types import FrameState, Update
from .camera import Camera
from .worker import Worker


@dataclass
class Counts:
    """What has happened to the images since the last reset."""

    taken: int = 0              # by the pipeline
    refused: int = 0            # unreadable, of another size, or out of order
    poses: int = 0
    lost: int = 0               # poses that are guesses
    unlinked: int = 0           # windows that could not be aligned
    latency_ms: float = 0.0     # from the stamp of the newest pose to its publication
    window_ms: float = 0.0      # the backbone, for the newest window
    problem: str = ''           # the last refusal
    last_states: List[int] = field(default_factory=list)

    def add(self, update: Update, now_ns: int) -> None:
        """Count what one window gave."""
        self.last_states = update.states.tolist()
        self.poses += len(self.last_states)
        self.lost += self.last_states.count(FrameState.LOST)
        self.unlinked += not update.linked
        self.latency_ms = (now_ns - int(update.stamps_ns[-1])) * 1e-6
        self.window_ms = update.timings_ms.get('backbone', 0.0)


class Status:
    """Publishes one DiagnosticStatus on /diagnostics."""

    def __init__(self, node: Node, camera: Camera, worker: Worker):
        self._node, self._camera, self._worker = node, camera, worker
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics',
                                                QoSProfile(depth=1))
        self._n_lost_told = 0
        self.counts = Counts()

    def publish(self) -> None:
        """Send the state of now."""
        level, message = self._judge()
        name = self._node.get_fully_qualified_name().lstrip('/')
        status = DiagnosticStatus(name=f'{name}: SLAM', hardware_id=self._camera.topic,
                                  level=level, message=message)
        status.values = [KeyValue(key=key, value=_text(value))
                         for key, value in self.values().items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def values(self) -> dict:
        """Return the counters by name."""
        counts = self.counts
        return {
            'images received': self._camera.n_received,
            'images lost before the node': self._camera.n_lost,
            'images waiting': self._worker.n_waiting,
            'images dropped': self._worker.n_dropped,
            'images taken': counts.taken,
            'images refused': counts.refused,
            'poses': counts.poses,
            'poses lost': counts.lost,
            'windows unlinked': counts.unlinked,
            'latency [ms]': counts.latency_ms,
            'backbone, newest window [ms]': counts.window_ms,
        }

    def _judge(self):
        """Return (level, message): the worst of what is going on."""
        counts, camera = self.counts, self._camera
        n_lost = self._worker.n_dropped + camera.n_lost
        n_new, self._n_lost_told = n_lost - self._n_lost_told, n_lost
        if camera.fault:
            return DiagnosticStatus.ERROR, camera.fault
        if FrameState.LOST in counts.last_states:
            return DiagnosticStatus.WARN, 'lost: the poses are guesses'
        if n_new:
            return DiagnosticStatus.WARN, (f'{n_new} images dropped since the last message: send '
                                           'fewer, or smaller ones')
        if counts.problem:
            return DiagnosticStatus.WARN, counts.problem
        if not camera.n_received:
            return DiagnosticStatus.WARN, f'no image yet on {camera.topic}'
        return DiagnosticStatus.OK, 'running'


def _text(value: Any) -> str:
    return f'{value:.1f}' if isinstance(value, float) else str(value)
