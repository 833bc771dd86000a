"""The node as a managed one, and what it leaves behind, seen from outside over DDS and /proc."""

import os
import signal
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from lifecycle_msgs.msg import Transition
from managed import ManagedRig
from processes import children, folders, is_alive, n_files, n_threads, shared_files
from street import frames_of, street

from longrecon_ros.worker.remains import owned_segments

N = 26
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(scope='module')
def frames():
    """Return the frames of a short drive down a street."""
    return frames_of(street(N))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder where the node keeps its temporary files, too."""
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    return tmp_path


def gone(*pids, timeout_s=20.0):
    """Say whether all of these processes end in time."""
    return _comes(lambda: not any(map(is_alive, pids)), timeout_s)


def _comes(holds, timeout_s=20.0):
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_manager_leads_the_node_through_its_states(frames, folder):
    with ManagedRig(folder, {'node.autostart': False}) as rig:
        assert rig.state() == 'unconfigured'
        rig.wait(lambda: rig.told)
        assert rig.told['state'] == 'unconfigured'
        assert not children(rig.process.pid) and not folders(folder)

        assert rig.change('configure') and rig.state() == 'inactive'
        rig.wait(lambda: rig.told['state'] == 'inactive')
        worker = rig.worker()
        assert len(folders(folder)) == 1
        assert rig.change('activate') and rig.state() == 'active'
        rig.wait_active()
        rig.send_info(frames[0])
        rig.send(frames[:13])
        rig.wait(lambda: len(rig.odometry) == 13)

        assert rig.change('deactivate') and rig.state() == 'inactive'
        rig.wait(lambda: rig.told['state'] == 'inactive')
        n_transforms = len(rig.transform('map', 'odom'))
        rig.send(frames[13:15], is_patient=False)
        rig.spin(0.5)
        assert len(rig.odometry) == 13, 'an inactive node takes no image'
        assert len(rig.transform('map', 'odom')) <= n_transforms + 1
        assert rig.worker() == worker, 'the map stays'

        assert rig.change('activate')
        rig.wait_active()
        rig.send_info(frames[0])
        rig.send(frames[15:], is_patient=False)
        rig.wait(lambda: len(rig.odometry) == 13 + len(frames[15:]))
        _goes_on(rig.odometry)
        assert rig.status['resets'] == rig.status['segments'] == '0'

        assert rig.change('deactivate') and rig.change('cleanup')
        assert rig.state() == 'unconfigured'
        assert not children(rig.process.pid) and not is_alive(worker) and not folders(folder)
        rig.wait(lambda: rig.told['worker'] == 'stopped')

        assert rig.change('configure') and rig.state() == 'inactive'
        assert rig.worker() != worker
        assert rig.change('shutdown') and rig.state() == 'finalized'
        assert not children(rig.process.pid) and not folders(folder)
        assert rig.stop(signal.SIGTERM) == 0


def _goes_on(odometry):
    """Check that odom is continuous over a pause of two images."""
    x = np.array([m.pose.pose.position.x for m in odometry])
    steps = np.diff(x)
    usual = np.median(steps)
    assert usual > 0 and steps.max() < 6 * usual and steps.min() > -usual, steps


def test_it_starts_by_itself(folder):
    with ManagedRig(folder) as rig:
        rig.wait(lambda: rig.told.get('state') == 'waiting')
        assert rig.state() == 'active'
        assert rig.told['worker'] == 'ready'


def test_an_impossible_transition_is_refused_and_the_node_lives(folder):
    with ManagedRig(folder, {'node.autostart': False}) as rig:
        for label in ('activate', 'deactivate', 'cleanup', 'dance'):
            assert not rig.change(label)
        # by number, as managers ask
        for number in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CLEANUP, 77):
            assert not rig.change(number)
        assert rig.state() == 'unconfigured'
        assert rig.change('configure') and not rig.change('configure')
        assert rig.state() == 'inactive'


def test_a_backbone_that_cannot_be_had_leaves_the_node_unconfigured(folder):
    with ManagedRig(folder, {'node.autostart': False, 'backbone': 'simulated'}) as rig:
        assert not rig.change('configure')
        assert rig.state() == 'unconfigured'
        rig.wait(lambda: 'simulated' in rig.told.get('problem', ''))
        assert gone(*children(rig.process.pid)) and not folders(folder)


def test_configuring_again_and_again_grows_nothing(frames, folder):
    with ManagedRig(folder, {'node.autostart': False, 'node.tf_mode': 'map_odom'}) as rig:
        # the rig hears of them one after the other
        rig.wait(lambda: ('longrecon', '/') in rig.node.get_node_names_and_namespaces())
        found, n_topics = [], None
        while n_topics != (n_topics := _n_topics(rig)):
            rig.spin(0.5)
        for _ in range(4):
            assert rig.change('configure') and rig.change('activate')
            rig.wait_active()
            rig.send_info(frames[0])
            rig.send(frames[:9], is_patient=False)
            rig.wait(lambda: len(rig.odometry) >= 8)
            n_busy = n_threads(rig.process.pid)
            assert rig.change('deactivate') and rig.change('cleanup')
            rig.odometry.clear()
            rig.wait(lambda: rig.told['worker'] == 'stopped')
            pid = rig.process.pid
            assert n_threads(pid) <= n_busy - 3, 'front, supervisor, and who reads stderr'
            # what is gone is heard of a moment later
            rig.wait(lambda: _n_topics(rig) == n_topics)
            found.append((n_threads(pid), n_files(pid)))
        assert found[1:] == found[1:2] * 3, found


def _n_topics(rig):
    """Return how many topics and services the node has, and ends of /tf."""
    node = rig.node
    found = [sum(len(kinds) for _, kinds in by('longrecon', '/')) for by in (
        node.get_publisher_names_and_types_by_node, node.get_subscriber_names_and_types_by_node,
        node.get_service_names_and_types_by_node)]
    return (*found, len(node.get_publishers_info_by_topic('/tf')),
            len(node.get_subscriptions_info_by_topic('/tf')))


def test_the_worker_gives_signs_of_life(folder):
    with ManagedRig(folder) as rig:
        rig.wait_active()
        rig.wait(lambda: rig.parts['worker']['pid'] == str(rig.worker()))
        rig.wait(lambda: float(rig.parts['worker']['memory [MB]']) > 10)
        rig.wait(lambda: float(rig.parts['worker']['last sign of life [s]']) > 0.3)
        rig.wait(lambda: float(rig.parts['worker']['last sign of life [s]']) < 0.3)


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_ends_all_and_leaves_nothing(number, frames, folder):
    with ManagedRig(folder) as rig:
        worker, own = _busy(rig, frames)
        assert rig.stop(number) == 0
        assert gone(worker) and not folders(folder)
        assert own and not own & shared_files()


def test_a_killed_node_leaves_nothing_either(frames, folder):
    with ManagedRig(folder) as rig:
        worker, own = _busy(rig, frames)
        os.kill(rig.process.pid, signal.SIGKILL)
        assert gone(rig.process.pid, worker)
        assert _comes(lambda: not folders(folder))
        assert own and not own & shared_files()


def test_a_node_killed_while_its_worker_starts_leaves_nothing(folder):
    with ManagedRig(folder, {'node.autostart': False}) as rig:
        rig.begin_to_change('configure')
        rig.wait(lambda: children(rig.process.pid))
        workers = children(rig.process.pid)
        os.kill(rig.process.pid, signal.SIGKILL)
        assert gone(rig.process.pid, *workers)
        assert _comes(lambda: not folders(folder))


def _busy(rig, frames):
    """Have the worker compute; return its process id and the segments of the node."""
    rig.wait_active()
    rig.send_info(frames[0])
    rig.send(frames[:N], is_patient=False)
    rig.wait(lambda: len(rig.odometry) >= 8)
    return rig.worker(), owned_segments(rig.process.pid)
