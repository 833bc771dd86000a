"""Gathers the health of a `SlamNode` for /diagnostics and ~/status."""

import math
import time
from typing import Any, Dict

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from .diagnostics import Diagnostics
from .estimator import Mapped
from .findings import Finding, Level
from .front import Posed, Refused, Segment
from .health import Counts, Health, MapHealth, ScaleHealth, WorkerHealth

_REPORT_S = 5.0     # between two log lines about images refused for the same reason
_LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Status:
    """Counts what comes out of the engine, and publishes the state of all."""

    def __init__(self, node: Any):
        self._node = node
        self._publisher = node.create_publisher(DiagnosticStatus, '~/status', _LATCHED)
        self._health = Health()
        self._diagnostics = Diagnostics(node, self._health, node.resolve_topic_name('image'))
        self._told: Any = None
        self._taken = -1, -1                # epoch and index of the newest image taken
        self._logged_s: Dict[str, float] = {}       # by reason, of refused images
        self.failure = ''
        self._past = 0, 0                   # received, and lost before, by earlier inputs

    def begin(self) -> None:
        """Forget what is past: the node is configured anew."""
        self.failure, self._taken = '', (-1, -1)
        self._health.counts, self._health.map, self._past = Counts(), MapHealth(), (0, 0)

    def retire(self, inputs: Any) -> None:
        """Keep what was counted by inputs that are closed now."""
        self._past = self._past[0] + inputs.camera.n_received, self._past[1] + inputs.camera.n_lost

    def latency(self, stage: str, duration_ms: float) -> None:
        """Take a measurement; any thread may call."""
        self._health.latency.add(stage, duration_ms)

    def received(self) -> None:
        """Take note of an image that came."""
        self._health.received.add(time.monotonic())

    def take(self, output: Any) -> None:
        """Count what came out of the engine."""
        counts, now_s = self._health.counts, time.monotonic()
        if isinstance(output, Posed):
            counts.add_poses([output.state.state])
            self._health.posed.add(now_s)
        elif isinstance(output, Mapped):
            self._take_mapped(output)
        elif isinstance(output, Refused):
            self._refuse(output, now_s)
        elif isinstance(output, Segment):
            counts.segments += not output.is_new_map
            counts.resets += output.is_new_map
        elif output['kind'] == 'taken':
            counts.taken += self._is_new(output['epoch'], output['index'])
        elif output['kind'] == 'refused':
            self._refuse(Refused('by the pipeline', output['text']), now_s)

    def _is_new(self, epoch: int, index: int) -> bool:
        """Say whether an image is taken for the first time: a new worker gets some again."""
        if epoch == self._taken[0] and index <= self._taken[1]:
            return False
        self._taken = max(self._taken, (epoch, index))
        return True

    def publish(self) -> None:
        """Send the state of now."""
        self._gather()
        self._diagnostics.publish()
        self._tell()

    def _take_mapped(self, mapped: Mapped) -> None:
        step, health = mapped.step, self._health
        health.counts.unlinked += not step.is_linked
        timings = step.timings_ms
        self.latency('infer', timings.get('backbone', 0.0))
        self.latency('align', timings.get('align', 0.0) + timings.get('map', 0.0))
        figures = step.map_figures
        health.map = MapHealth(figures.get('n_submaps', 0), figures.get('n_points', 0),
                               figures.get('n_closures', 0), figures.get('n_tiles', 0),
                               figures.get('megabytes', 0.0))

    def _refuse(self, refused: Refused, now_s: float) -> None:
        if refused.reason:
            self._health.counts.refuse(refused.reason, refused.text, now_s)
        # a gap is told, and nothing is refused; each reason for itself: none hides another
        if now_s - self._logged_s.get(refused.reason, -math.inf) >= _REPORT_S:
            self._logged_s[refused.reason] = now_s
            self._node.get_logger().warning(refused.text)

    def _gather(self) -> None:
        node, health = self._node, self._health
        engine, inputs, counts = node.engine, node.inputs, self._health.counts
        health.findings = [] if inputs is None else inputs.camera.examine()
        if inputs is not None:
            camera = inputs.camera
            counts.received = self._past[0] + camera.n_received
            counts.lost_before = self._past[1] + camera.n_lost
            if camera.fault:
                health.findings = [Finding(Level.ERROR, 'BAD_CAMERA_INFO', camera.fault,
                                           'calibrate again'), *health.findings]
        if engine is None:
            health.worker = WorkerHealth(state='failed' if self.failure else 'stopped',
                                         fault=self.failure)
            return
        counts.dropped = engine.front.n_dropped + engine.stream.counts.dropped
        counts.untracked = engine.front.n_untracked
        counts.skipped = engine.stream.counts.skipped
        counts.waiting = engine.front.n_waiting + engine.stream.n_waiting
        supervisor, scale = engine.supervisor, engine.estimator.scale
        beat = supervisor.beat
        health.worker = WorkerHealth(
            supervisor.state, supervisor.pid, supervisor.n_restarts, supervisor.fault,
            beat.get('rss_mb', 0.0), beat.get('gpu_mb', 0.0),
            time.monotonic() - supervisor.beat_at_s)
        health.scale = ScaleHealth(scale.state, scale.metres_per_unit, scale.sigma, scale.source)

    def _tell(self) -> None:
        """Publish ~/status when it changes: what the node does, and in which unit it speaks."""
        values = self._summary()
        if values == self._told:
            return
        self._told = values
        level = max((finding.level for finding in self._health.findings), default=Level.OK)
        if values['worker'] in ('failed', 'stopped') and self.failure:
            level = Level.ERROR
        message = DiagnosticStatus(name=self._node.get_fully_qualified_name().lstrip('/'),
                                   level=bytes([level]), message=values['state'])
        message.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        self._publisher.publish(message)

    def _summary(self) -> Dict[str, str]:
        node, health = self._node, self._health
        inputs = node.inputs
        state = ('inactive' if node.engine else 'unconfigured') if inputs is None else (
            'paused' if inputs.is_paused else 'lost' if health.counts.is_lost else
            'tracking' if health.counts.poses else 'waiting')
        return {'state': state, 'worker': health.worker.state, 'scale_state': health.scale.state,
                'metres_per_unit': f'{health.scale.metres_per_unit:.4g}',
                'scale_sigma': f'{health.scale.sigma:.2g}', 'problem': self.failure}

