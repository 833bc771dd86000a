"""What /diagnostics says of the state of the node."""

import math
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from longrecon_ros.ros.diagnostics import Diagnostics, statuses
from longrecon_ros.ros.findings import Finding, Level
from longrecon_ros.ros.health import Counts, Health, Latency, Percentiles, Rate, STAGES, TOTAL
from longrecon_ros.ros.peer import leave
from longrecon_ros.types import FrameState

NOW_S = 1000.0
OF_THE_REPLAY = ['images received', 'images lost before the node', 'images waiting',
                 'images dropped', 'images taken', 'images refused', 'poses', 'poses lost',
                 'windows unlinked', 'latency [ms]', 'backbone, newest window [ms]']


@pytest.fixture
def health():
    """Return the health of a node that does well."""
    health = Health(counts=Counts(received=10, taken=8, poses=8, waiting=2))
    health.worker.state, health.worker.pid = 'ready', 42
    return health


def tell(health, n_new=0):
    """Return the statuses by part."""
    return {status.part: status for status in statuses(health, '/cam', n_new, NOW_S)}


def test_percentiles_are_those_of_the_newest_values():
    values = np.random.default_rng(0).exponential(10.0, 1234)
    percentiles = Percentiles(500)
    for value in values:
        percentiles.add(value)
    assert len(percentiles) == 500 and percentiles.last == values[-1]
    assert percentiles.at(50, 95) == pytest.approx(np.percentile(values[-500:], [50, 95]))


def test_percentiles_of_few_values():
    percentiles = Percentiles(5)
    assert all(math.isnan(value) for value in (*percentiles.at(50, 95), percentiles.last))
    percentiles.add(3.0)
    assert percentiles.at(50, 95) == (3.0, 3.0) and len(percentiles) == 1
    with pytest.raises(ValueError, match='n: expected'):
        Percentiles(0)


def test_the_rate_follows_what_happens():
    rate = Rate(span_s=5.0)
    assert rate.hz(0.0) == 0.0
    for i in range(300):
        rate.add(i / 30)
    assert rate.hz(299 / 30) == pytest.approx(30.0)
    assert rate.hz(299 / 30 + 2.5) == pytest.approx(15.0, rel=0.02)
    assert rate.hz(20.0) == 0.0


def test_latency_takes_stages_of_others():
    latency = Latency(10)
    latency.add('window', 7.0)
    assert latency.stages() == [*STAGES, TOTAL, 'window'] and latency['window'].last == 7.0


def test_a_node_that_does_well(health):
    told = tell(health)
    assert list(told) == ['SLAM', 'worker', 'camera', 'latency', 'map', 'scale']
    assert all(status.level is Level.OK for status in told.values())
    assert told['SLAM'].message == 'running'
    assert [key for key in told['SLAM'].values if key in OF_THE_REPLAY] == OF_THE_REPLAY
    assert told['SLAM'].values['images taken'] == 8


def test_counts(health):
    health.counts.add_poses([FrameState.TRACKED, FrameState.LOST, FrameState.STATIONARY])
    health.counts.refuse('stamp zero', '/cam: no stamp', NOW_S)
    health.counts.refuse('stamp zero', '/cam: no stamp', NOW_S)
    health.counts.refuse('size changed', '/cam: 320x240', NOW_S)
    told = tell(health)
    values = told['SLAM'].values
    assert (values['poses'], values['poses lost'], values['images refused']) == (11, 1, 3)
    assert told['camera'].values['refused: stamp zero'] == 2
    assert told['SLAM'].level is Level.WARN
    assert told['SLAM'].message == 'lost: the poses are guesses | /cam: 320x240'
    health.counts.add_poses([FrameState.TRACKED])
    assert tell(health)['SLAM'].message == '/cam: 320x240'
    health.counts.problem_s = NOW_S - 31.0
    assert tell(health)['SLAM'].level is Level.OK


def test_before_the_first_image():
    told = tell(Health())
    assert told['worker'].message == 'starting'
    assert (told['SLAM'].level, told['SLAM'].message) == (Level.WARN, 'no image yet on /cam')


def test_dropped_images(health):
    told = tell(health, n_new=7)['SLAM']
    assert told.level is Level.WARN and told.message.startswith('7 images dropped')


def test_the_worst_finding_wins(health):
    health.findings = [Finding(Level.ERROR, 'QOS_MISMATCH', 'nothing comes', 'set auto'),
                       Finding(Level.WARN, 'NO_TF', 'no way', 'publish it'),
                       Finding(Level.OK, 'BEST_EFFORT_RAW', 'big', 'compress')]
    told = tell(health)
    for part in ('SLAM', 'camera'):
        assert told[part].level is Level.ERROR
        assert told[part].message == 'QOS_MISMATCH: nothing comes; set auto'
    assert told['camera'].values['NO_TF'] == 'no way; publish it'
    assert told['SLAM'].values['findings'] == 'QOS_MISMATCH NO_TF BEST_EFFORT_RAW'
    health.findings = health.findings[2:]
    assert tell(health)['SLAM'].message == 'running'


@pytest.mark.parametrize('state, level', [
    ('starting', Level.OK), ('ready', Level.OK), ('restarting', Level.WARN),
    ('failed', Level.ERROR), ('stopped', Level.ERROR), ('odd', Level.WARN)])
def test_the_state_of_the_worker(health, state, level):
    health.worker.state, health.worker.fault = state, 'killed by signal 9'
    told = tell(health)
    assert told['worker'].level is told['SLAM'].level is level
    assert ('killed by signal 9' in told['SLAM'].message) == (level > Level.OK)
    assert told['worker'].values['last fault'] == 'killed by signal 9'


def test_a_silent_worker(health):
    health.worker.beat_age_s = 11.0
    assert tell(health)['SLAM'].message == 'the worker gave no sign for 11 s'


def test_late_poses(health):
    health.budget_ms = 500.0
    for _ in range(19):
        health.latency.add(TOTAL, 900.0)
    assert tell(health)['latency'].level is Level.OK       # the first ones
    health.latency.add(TOTAL, 900.0)
    told = tell(health)
    assert told['SLAM'].level is told['latency'].level is Level.WARN
    assert 'within 900 ms, and the budget is 500 ms' in told['SLAM'].message
    assert told['latency'].values['total p95 [ms]'] == 900.0
    for _ in range(500):
        health.latency.add(TOTAL, 100.0)
    assert tell(health)['SLAM'].level is Level.OK


@pytest.fixture
def node(context):
    """Return a node in a namespace."""
    node = Node('slam', namespace='/robot', context=context)
    yield node
    leave(node)


class Listener:
    """Reads /diagnostics in the node that writes it."""

    def __init__(self, node):
        self._received = []
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._received.append, 10)
        publisher = next(p for p in node.publishers if p.topic_name == '/diagnostics')
        self._spin_until(publisher.get_subscription_count)

    def read(self):
        """Wait for a message and return it."""
        self._spin_until(lambda: self._received)
        return self._received.pop()

    def _spin_until(self, is_over):
        end = time.monotonic() + 20.0
        while not is_over():
            assert time.monotonic() < end
            self._executor.spin_once(timeout_sec=0.05)


def test_the_message_on_the_topic(health, node):
    health.latency.add('infer', 123.456)
    diagnostics = Diagnostics(node, health, '/cam')
    listener = Listener(node)
    diagnostics.publish()
    message = listener.read()
    assert message.header.stamp.sec > 0
    assert [status.name for status in message.status] == [
        f'robot/slam: {part}' for part in
        ('SLAM', 'worker', 'camera', 'latency', 'map', 'scale')]
    assert {status.hardware_id for status in message.status} == {'/cam'}
    slam, scale = ({pair.key: pair.value for pair in message.status[i].values} for i in (0, 5))
    assert slam['images received'] == '10' and slam['latency [ms]'] == 'unknown'
    assert slam['backbone, newest window [ms]'] == '123.5'
    assert scale == {'state': 'arbitrary', 'metres per unit': '1', 'sigma [%]': 'unknown',
                     'source': 'none'}


def test_drops_are_told_once_and_a_reset_is_none(health, node):
    diagnostics = Diagnostics(node, health, '/cam')
    listener = Listener(node)
    levels = []
    for counts in (Counts(received=9, dropped=5), Counts(received=9, dropped=5),
                   Counts(received=1), Counts(received=9, lost_before=2)):
        health.counts = counts
        diagnostics.publish()
        levels.append(listener.read().status[0].level)
    assert levels == [DiagnosticStatus.WARN, DiagnosticStatus.OK, DiagnosticStatus.OK,
                      DiagnosticStatus.WARN]
