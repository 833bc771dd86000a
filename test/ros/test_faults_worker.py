"""What may befall the worker of the real node: it is told, and what was promised is kept."""

import json
import os
from pathlib import Path
import re
import signal
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Transform, Vector3
from managed import ManagedRig
from std_srvs.srv import SetBool, Trigger

from longrecon_ros import backbones
from longrecon_ros.io.trajectory_file import read_tum
from longrecon_ros.ros.messages import matrix_of, stamp_ns
from longrecon_ros.synthetic.recipe import Production, Recipe
from longrecon_ros.types import Frame

PERIOD_NS = 50_000_000


@pytest.fixture(scope='module')
def drive():
    """Return a function that gives images from a to b of a drive there and back, and again."""
    n = 30
    film = Production.of(Recipe('street', n_frames=n, size=(320, 240))).film
    there = [film.frame(i).to_frame() for i in range(n)]
    way = [*there, *there[-2:0:-1]]

    def images(first, last):
        return [Frame(i, there[0].stamp_ns + i * PERIOD_NS, way[i % len(way)].image, there[0].K)
                for i in range(first, last)]
    return images


def steps(odometry):
    """Return how far the base went from image to image."""
    positions = np.array([[p.x, p.y, p.z] for p in (m.pose.pose.position for m in odometry)])
    return np.linalg.norm(np.diff(positions, axis=0), axis=1)


def wait_idle(rig):
    """Wait until the worker is there and has nothing to do."""
    rig.wait(lambda: rig.parts['worker']['state'] == 'ready'
             and int(rig.status['images waiting']) < 5, 60.0)


def send_signal(rig, number):
    """Send a signal to the worker."""
    pid = int(rig.parts['worker']['pid'])
    assert pid > 1, f'there is no worker: {rig.parts["worker"]}'
    os.kill(pid, number)


def kill(rig):
    """Kill the worker and wait until the node says so; return when it was killed."""
    worker = rig.parts['worker']
    n_before, killed_at_s = int(worker['restarts']), time.time()
    send_signal(rig, signal.SIGKILL)
    rig.wait(lambda: int(rig.parts['worker']['restarts']) == n_before + 1)
    return killed_at_s


def lines(rig, text):
    """Return the lines of the node's log that have a text."""
    return [line for line in rig.process.log.read_text().splitlines() if text in line]


def data_mb(pid):
    """Return the memory of a process that RLIMIT_DATA counts, MB."""
    status = Path(f'/proc/{pid}/status').read_text()
    return int(re.search(r'VmData:\s+(\d+)', status)[1]) / 1024


N = 75
FIRST = 18              # windows of 8 with 3 shared end after 8, 13 and 18 images


@pytest.fixture(scope='module')
def killed(drive, tmp_path_factory):
    """Return a rig whose worker was killed four times in ``N`` images, and the map saved then."""
    folder = tmp_path_factory.mktemp('killed')
    with ManagedRig(folder, {'node.save_folder': str(folder / 'saved')}) as rig:
        rig.wait_active()
        rig.idle_mb = data_mb(rig.parts['worker']['pid'])
        rig.send_info(drive(0, 1)[0])
        rig.send(drive(0, FIRST))
        rig.wait_processed(FIRST)
        rig.wait(lambda: rig.status['images waiting'] == '0')
        rig.killed_at_s = kill(rig)
        rig.wait(lambda: rig.parts['worker']['state'] == 'restarting')
        rig.when_down = rig.level, rig.message
        wait_idle(rig)
        # in the middle of a window: it has all images of it, and no time to answer
        send_signal(rig, signal.SIGSTOP)
        rig.send(drive(FIRST, 30))
        rig.wait(lambda: len(rig.odometry) == 30)
        kill(rig)
        wait_idle(rig)
        for first in (30, 45):
            rig.send(drive(first, first + 15))
            kill(rig)
            rig.wait(lambda: rig.parts['worker']['state'] == 'ready')
        rig.send(drive(60, N))
        rig.wait(lambda: len(rig.odometry) == N)
        wait_idle(rig)
        rig.saved = rig.call('save')
        rig.folder = folder
        yield rig


def test_a_killed_worker_is_told_at_once_and_started_again(killed):
    level, message = killed.when_down
    assert level == DiagnosticStatus.WARN
    assert message == 'the worker is started again: the worker died (killed by signal 9)'
    worker = killed.parts['worker']
    assert (worker['state'], worker['restarts']) == ('ready', '4')
    assert worker['last fault'] == 'the worker died (killed by signal 9)'
    assert killed.statuses['worker'].level == DiagnosticStatus.OK
    told = lines(killed, 'the worker died (killed by signal 9)')
    assert len(told) == 4 and len(lines(killed, 'the worker is back')) == 4
    assert all(line.startswith('[ERROR]') for line in told)
    told_at_s = float(re.search(r'\[(\d+\.\d+)\]', told[0])[1])
    assert told_at_s - killed.killed_at_s < 2.0


def test_every_image_is_posed_once_and_odom_goes_on_without_a_jump(killed, drive):
    assert [stamp_ns(m.header.stamp) for m in killed.odometry] == \
        [image.stamp_ns for image in drive(0, N)]
    assert np.array_equal(matrix(killed.odometry[0]), np.eye(4))
    length = steps(killed.odometry)
    before = np.median(length[:FIRST - 1])
    assert 0.8 * before < np.median(length[-15:]) < 1.25 * before, 'the scale is what it was'
    assert length.max() < 5 * before
    assert killed.status['images taken'] == killed.status['poses'] == str(N)
    for what in ('dropped', 'refused', 'lost before the node', 'skipped'):
        assert killed.status[f'images {what}'] == '0'
    assert (killed.status['resets'], killed.status['segments']) == ('0', '0')


def test_the_map_keeps_what_it_had_and_grows_on(killed, drive):
    assert killed.saved.success, killed.saved.message
    stamps_ns = read_tum(killed.folder / 'saved' / 'trajectory.txt').stamps_ns.tolist()
    sent_ns = [image.stamp_ns for image in drive(0, N)]
    # the first window is always kept; of the others, those since the last checkpoint are not
    assert stamps_ns[:8] == sent_ns[:8] and stamps_ns[-15:] == sent_ns[-15:]
    assert len(stamps_ns) > N / 2 and set(stamps_ns) <= set(sent_ns)
    summary = json.loads((killed.folder / 'saved' / 'result.json').read_text())
    assert summary['n_unlinked'] == 0


def test_a_worker_that_hangs_is_killed_and_after_too_many_deaths_the_node_gives_up(
        drive, tmp_path):
    # all images are kept, so that nothing may wait for ever
    with ManagedRig(tmp_path, {
            'node.worker_timeout_s': 5.0, 'node.worker_deaths': 1,
            'node.save_folder': str(tmp_path / 'saved'),
            'node.maps_folder': str(tmp_path / 'maps')}) as rig:
        rig.wait_active()
        rig.send_info(drive(0, 1)[0])
        rig.send(drive(0, FIRST))
        rig.wait_processed(FIRST)
        wait_idle(rig)
        send_signal(rig, signal.SIGSTOP)
        answer = rig.begin_to_ask(Trigger, 'save')
        rig.wait(lambda: rig.parts['worker']['restarts'] == '1', 60.0)
        assert 'silent' in rig.parts['worker']['last fault']
        status = rig.statuses['worker']
        assert 'node.worker_timeout_s' in status.message and status.level == DiagnosticStatus.WARN
        rig.wait(answer.done)
        assert not answer.result().success and 'try again' in answer.result().message
        # the next one hangs before it is ready
        rig.wait(lambda: int(rig.parts['worker']['pid']))
        send_signal(rig, signal.SIGSTOP)
        rig.wait(lambda: rig.parts['worker']['state'] == 'failed', 60.0)
        assert rig.level == DiagnosticStatus.ERROR and 'it died 2 times in a row' in rig.message
        # more than ring and queue hold
        for image in drive(FIRST, 120):
            rig.send([image], is_patient=False)
            rig.spin(0.01)
        rig.wait(lambda: int(rig.status['images received'])
                 + int(rig.status['images lost before the node']) == 120)
        assert int(rig.status['images dropped']) > 0
        requests = {name: Trigger.Request() for name in ('save', 'save_map', 'load_map', 'reset')}
        for name, request in (*requests.items(), ('set_localization', SetBool.Request(data=True))):
            answer = rig.ask(SetBool if name == 'set_localization' else Trigger, name, request)
            assert not answer.success and 'configure the node again' in answer.message, name
        assert rig.status['resets'] == '0', 'what fails changes nothing'
        assert all(rig.change(label) for label in ('deactivate', 'cleanup', 'configure',
                                                   'activate'))
        n_before = len(rig.odometry)
        rig.send_info(drive(0, 1)[0])
        rig.send(drive(120, 132), is_patient=False)
        rig.wait(lambda: len(rig.odometry) == n_before + 12)
        assert rig.statuses['worker'].level == DiagnosticStatus.OK
        assert rig.stop(signal.SIGINT) == 0
    assert len(lines(rig, 'it died 2 times in a row')) >= 1


def test_services_of_a_dead_worker_answer_and_change_nothing(killed):
    n_resets, names = killed.status['resets'], ('save', 'save_map', 'reset')
    for name in names:              # it is not down for long
        killed.connect(Trigger, name)
    send_signal(killed, signal.SIGKILL)
    killed.wait(lambda: killed.parts['worker']['state'] == 'restarting')
    answers = [killed.begin_to_ask(Trigger, name) for name in names]
    killed.wait(lambda: all(answer.done() for answer in answers))
    for answer in (a.result() for a in answers):
        assert not answer.success and 'try again' in answer.message
    assert killed.status['resets'] == n_resets
    wait_idle(killed)
    assert killed.call('save').success


def test_short_memory_makes_windows_smaller(killed, drive, tmp_path):
    # less than a window of 24 takes
    with ManagedRig(tmp_path, {
            'window.size': 24, 'node.worker_memory_mb': killed.idle_mb + 90.0,
            'node.worker_timeout_s': 20.0, 'node.worker_deaths': 2,
            'node.save_folder': str(tmp_path / 'saved')}) as rig:
        rig.wait_active()
        rig.send_info(drive(0, 1)[0])
        rig.send(drive(0, 60))
        rig.wait(lambda: rig.odometry or rig.parts['worker']['state'] == 'failed', 100.0)
        died = lines(rig, 'the worker died (out of memory')
        assert died and died[0].startswith('[ERROR]')
        assert lines(rig, 'the worker is back')
        if rig.odometry:
            size = int(re.search(r'windows of (\d+)', lines(rig, 'the worker is back')[-1])[1])
            assert size < 24
        else:
            assert rig.level == DiagnosticStatus.ERROR and 'out of memory' in rig.message
            assert not rig.call('save').success


@pytest.mark.torch
def test_unreadable_weights_are_told_and_good_ones_in_their_place_are_taken(drive, tmp_path):
    from safetensors.torch import save_file

    from longrecon_ros.backbones import _checkpoint
    from longrecon_ros.backbones.pi3 import Pi3Backbone
    from longrecon_ros.nets import policy
    weights = tmp_path / 'model.safetensors'
    weights.write_bytes(b'no weights at all' * 100)
    options = {**backbones.load('pi3').tiny, 'weights': str(weights)}
    with ManagedRig(tmp_path, {'backbone': 'pi3', 'window.size': 6, 'window.overlap': 2,
                               **{f'pi3.{key}': value for key, value in options.items()}}) as rig:
        rig.wait(lambda: lines(rig, 'cannot be configured'))
        assert rig.state() == 'unconfigured'
        rig.wait(lambda: rig.level == DiagnosticStatus.ERROR)
        assert str(weights) in rig.message and rig.parts['worker']['state'] == 'failed'
        assert not rig.change('configure')
        net = policy.fill_randomly(_checkpoint.without_memory(
            Pi3Backbone.definition('tiny').make), policy.choose('cpu'), 3)
        save_file({key: value.clone() for key, value in net.state_dict().items()}, weights)
        assert rig.change('configure') and rig.change('activate')
        rig.wait_active()
        rig.send_info(drive(0, 1)[0])
        rig.send(drive(0, 6))
        rig.wait(lambda: len(rig.odometry) == 6, 60.0)
        assert rig.parts['worker']['state'] == 'ready'


def matrix(odometry):
    """Return the pose of an odometry message."""
    pose = odometry.pose.pose
    p = pose.position
    return matrix_of(Transform(translation=Vector3(x=p.x, y=p.y, z=p.z),
                               rotation=pose.orientation))
