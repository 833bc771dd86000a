"""The state of the node for /diagnostics: what it does, what is wrong, and what mends it.

Statuses are named ``<node>: SLAM``, camera, latency, worker, map and scale; that of SLAM is as bad
as the worst of them.
"""

import math
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSProfile

from .findings import Level, worst
from .health import Health, TOTAL

_PROBLEM_S = 30.0           # for how long a refused image is told
_N_FOR_LATE = 20            # the first poses wait for the worker to start
_STATES = {'starting': (Level.OK, 'starting'),
           'ready': (Level.OK, 'running'),
           'restarting': (Level.WARN, 'the worker is started again'),
           'failed': (Level.ERROR, 'the worker gave up; mend it and configure the node again'),
           'stopped': (Level.ERROR, 'the worker is down')}

Judgement = Tuple[Level, str]


class Status(NamedTuple):
    """One status of /diagnostics."""

    part: str
    level: Level
    message: str
    values: Dict[str, Any]


class Diagnostics:
    """Publishes a `Health` on /diagnostics; ``topic``, that of the images, is the hardware id."""

    def __init__(self, node: Node, health: Health, topic: str):
        self._node, self._topic = node, topic
        self.health = health
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics',
                                                QoSProfile(depth=1))
        self._n_gone_told = 0

    def publish(self) -> None:
        """Send the state of now."""
        counts = self.health.counts
        n_gone = counts.dropped + counts.lost_before
        # after a reset the counts begin anew
        n_new, self._n_gone_told = max(0, n_gone - self._n_gone_told), n_gone
        name = self._node.get_fully_qualified_name().lstrip('/')
        array = DiagnosticArray(status=[
            _message(status, name, self._topic)
            for status in statuses(self.health, self._topic, n_new, time.monotonic())])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)


def statuses(health: Health, topic: str, n_new: int, now_s: float) -> List[Status]:
    """Return the statuses, that of SLAM first.

    ``n_new`` images were dropped or lost since the last time; ``now_s`` is a steady clock.
    """
    parts = [_of('worker', _judge_worker(health), _worker_values(health)),
             _of('camera', _judge_camera(health, topic), _camera_values(health, now_s)),
             _of('latency', _judge_latency(health), _latency_values(health)),
             _of('map', [], _map_values(health)),
             _of('scale', [(Level.OK, health.scale.state)], _scale_values(health))]
    whole = [*_judge_images(health, n_new, now_s),
             *((part.level, part.message) for part in parts if part.part != 'scale')]
    return [_of('SLAM', whole, _slam_values(health)), *parts]


def _of(part: str, judgements: List[Judgement], values: Dict[str, Any]) -> Status:
    """Return a status with the worst level, and everything of that level in the message."""
    level = max((level for level, _ in judgements), default=Level.OK)
    found = [text for at, text in judgements if at == level and text != 'running']
    return Status(part, level, ' | '.join(found) or 'running', values)


def _judge_images(health: Health, n_new: int, now_s: float) -> List[Judgement]:
    counts, found = health.counts, []
    if counts.is_lost:
        found.append((Level.WARN, 'lost: the poses are guesses'))
    if n_new:
        found.append((Level.WARN, f'{n_new} images dropped since the last message: send fewer, or '
                      'smaller ones'))
    if counts.problem and now_s - counts.problem_s <= _PROBLEM_S:
        found.append((Level.WARN, counts.problem))
    return found


def _judge_camera(health: Health, topic: str) -> List[Judgement]:
    level = worst(health.findings)
    # hints are for the values
    found = [(finding.level, str(finding)) for finding in health.findings
             if finding.level == level > Level.OK]
    if not health.counts.received and not found:
        return [(Level.WARN, f'no image yet on {topic}')]
    return found


def _judge_worker(health: Health) -> List[Judgement]:
    worker = health.worker
    level, text = _STATES.get(worker.state, (Level.WARN, f'the worker is {worker.state}'))
    if level and worker.fault:
        text = f'{text}: {worker.fault}'
    if level == Level.OK and worker.pid and worker.beat_age_s > worker.beat_limit_s:
        return [(Level.WARN, f'the worker gave no sign for {worker.beat_age_s:.0f} s')]
    return [(level, text)]


def _judge_latency(health: Health) -> List[Judgement]:
    total = health.latency[TOTAL]
    p95_ms, = total.at(95)
    if health.budget_ms and len(total) >= _N_FOR_LATE and p95_ms > health.budget_ms:
        return [(Level.WARN, f'late: 95 % of the poses come within {p95_ms:.0f} ms, and the '
                 f'budget is {health.budget_ms:.0f} ms; send fewer or smaller images')]
    return []


def _slam_values(health: Health) -> Dict[str, Any]:
    """Return the counters; `replay` paces itself by them."""
    counts, latency = health.counts, health.latency
    return {
        'images received': counts.received,
        'images lost before the node': counts.lost_before,
        'images waiting': counts.waiting,
        'images dropped': counts.dropped,
        'images skipped': counts.skipped,
        'images untracked': counts.untracked,
        'images taken': counts.taken,
        'images refused': sum(counts.refused.values()),
        'poses': counts.poses,
        'poses lost': counts.lost,
        'windows unlinked': counts.unlinked,
        'resets': counts.resets,
        'segments': counts.segments,
        'latency [ms]': latency[TOTAL].last,
        'backbone, newest window [ms]': latency['infer'].last,
        'scale_state': health.scale.state,
        'findings': ' '.join(finding.code for finding in health.findings) or 'none',
    }


def _camera_values(health: Health, now_s: float) -> Dict[str, Any]:
    values = {'rate in [Hz]': health.received.hz(now_s), 'rate out [Hz]': health.posed.hz(now_s)}
    values.update((f'refused: {reason}', n) for reason, n in sorted(health.counts.refused.items()))
    if health.counts.problem:
        values['last refused'] = health.counts.problem
    values.update((finding.code, f'{finding.text}; {finding.fix}') for finding in health.findings)
    return values


def _latency_values(health: Health) -> Dict[str, Any]:
    return dict(_percentiles(health)) | {'budget [ms]': health.budget_ms}


def _percentiles(health: Health) -> Iterator[Tuple[str, float]]:
    for stage in health.latency.stages():
        p50_ms, p95_ms = health.latency[stage].at(50, 95)
        yield f'{stage} p50 [ms]', p50_ms
        yield f'{stage} p95 [ms]', p95_ms


def _worker_values(health: Health) -> Dict[str, Any]:
    worker = health.worker
    return {'state': worker.state, 'pid': worker.pid, 'restarts': worker.restarts,
            'last fault': worker.fault or 'none', 'memory [MB]': worker.rss_mb,
            'GPU memory [MB]': worker.gpu_mb, 'last sign of life [s]': worker.beat_age_s}


def _map_values(health: Health) -> Dict[str, Any]:
    return {'submaps': health.map.submaps, 'points': health.map.points,
            'closures': health.map.closures, 'tiles': health.map.tiles,
            'memory [MB]': health.map.mb}


def _scale_values(health: Health) -> Dict[str, Any]:
    scale = health.scale
    return {'state': scale.state, 'metres per unit': f'{scale.metres_per_unit:.4g}',
            'sigma [%]': 100 * scale.sigma, 'source': scale.source}


def _message(status: Status, node: str, topic: str) -> DiagnosticStatus:
    values = [KeyValue(key=key, value=_text(value)) for key, value in status.values.items()]
    return DiagnosticStatus(name=f'{node}: {status.part}', hardware_id=topic,
                            level=bytes([status.level]), message=status.message, values=values)


def _text(value: Any) -> str:
    """Return a value for people; what is not known yet is said so."""
    if isinstance(value, float):
        return f'{value:.1f}' if math.isfinite(value) else 'unknown'
    return str(value)
