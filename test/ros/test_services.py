"""The services of the real node, asked over DDS."""

import json
import random
import signal

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from managed import ManagedRig
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from std_srvs.srv import SetBool, Trigger
from street import frames_of, street

from longrecon_ros.ros.messages import stamp_ns
from longrecon_ros.types import Frame

N = 40          # windows of 8 with 3 shared: after 8, 13, 18, ... images


@pytest.fixture(scope='module')
def frames():
    """Return the frames of a short drive down a street."""
    return frames_of(street(N))


class ServiceRig(ManagedRig):
    """A rig whose node keeps its files below ``folder``."""

    def __init__(self, folder, parameters=()):
        super().__init__(folder, {'node.maps_folder': str(folder / 'maps'), **dict(parameters)})
        self.maps = folder / 'maps'

    def drive(self, frames):
        """Send frames and wait until each has its odometry."""
        n_before = len(self.odometry)
        self.send(frames, is_patient=False)
        self.wait(lambda: len(self.odometry) == n_before + len(frames))

    def trigger(self, name):
        """Call a service; return whether it was done, and the sentence."""
        answer = self.ask(Trigger, name)
        assert len(answer.message) > 3, f'{name}: {answer}'
        return answer.success, answer.message

    def localize(self, wanted):
        """Call ~/set_localization; return whether it was done, and the sentence."""
        answer = self.ask(SetBool, 'set_localization', SetBool.Request(data=wanted))
        return answer.success, answer.message

    def name_map(self, name):
        """Set node.map_name; return whether it was taken, and why not."""
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=name)
        request = SetParameters.Request(parameters=[Parameter(name='node.map_name', value=value)])
        result, = self.ask(SetParameters, 'set_parameters', request).results
        return result.successful, result.reason


@pytest.fixture
def rig(frames, tmp_path):
    """Return a rig with an active node that has had its first 18 images."""
    with ServiceRig(tmp_path) as rig:
        rig.wait_active()
        rig.send_info(frames[0])
        rig.drive(frames[:18])
        yield rig


def _positions(odometry):
    return np.array([[m.pose.pose.position.x, m.pose.pose.position.y] for m in odometry])


def _goes_on(odometry, n_before, n_missing=0):
    """Check that odom goes on where it was, ``n_missing`` images later."""
    x = _positions(odometry)[:, 0]
    usual = np.median(np.diff(x[:n_before]))
    step = x[n_before] - x[n_before - 1]
    assert 0.3 * (1 + n_missing) < step / usual < 3 * (1 + n_missing), x


def test_what_comes_during_a_pause_is_not_taken_and_odom_goes_on(rig, frames):
    assert rig.trigger('pause') == (True, 'paused')
    assert rig.trigger('pause') == (True, 'paused already')
    rig.wait(lambda: rig.told['state'] == 'paused')
    rig.send(frames[18:20], is_patient=False)
    rig.wait(lambda: int(rig.status['images received']) == 20)
    assert rig.trigger('resume') == (True, 'running')
    rig.drive(frames[20:28])
    stamps = [stamp_ns(m.header.stamp) for m in rig.odometry]
    assert stamps == [f.stamp_ns for f in frames[:18] + frames[20:28]]
    _goes_on(rig.odometry, 18, n_missing=2)
    assert rig.status['resets'] == '0'


def test_services_of_an_inactive_node_say_what_to_do(rig):
    assert rig.change('deactivate')
    done, text = rig.trigger('pause')
    assert not done and 'activate' in text
    assert rig.change('cleanup')
    for name in ('pause', 'reset', 'save', 'save_map', 'load_map'):
        done, text = rig.trigger(name)
        assert not done and 'first' in text


def test_reset_begins_at_the_origin(rig, frames):
    done, text = rig.trigger('reset')
    assert done
    rig.drive(frames[18:28])
    assert np.allclose(_positions(rig.odometry)[18], 0)
    assert rig.status['resets'] == '1'
    rig.wait(lambda: rig.paths and 0 < len(rig.paths[-1].poses) <= 10)


def test_save_writes_a_run_and_the_stream_goes_on(rig, frames):
    done, text = rig.trigger('save')
    assert done and '18 poses' in text
    assert json.loads((rig.maps.parent / 'saved' / 'result.json').read_text())['poses'] == 18
    rig.drive(frames[18:26])
    _goes_on(rig.odometry, 18)
    assert '26 poses' in rig.trigger('save')[1]


def test_save_without_images_says_what_to_do(tmp_path):
    with ServiceRig(tmp_path) as rig:
        rig.wait_active()
        for name in ('save', 'save_map'):
            done, text = rig.trigger(name)
            assert not done and 'send images' in text
        assert rig.localize(True) == (
            False, 'there is no map to localize in: send images, or load one')


def test_a_map_is_saved_by_name_and_loaded_again(rig, frames):
    assert rig.name_map('first/floor') == (True, '')
    done, text = rig.trigger('save_map')
    assert done and str(rig.maps / 'first' / 'floor') in text
    assert (rig.maps / 'first' / 'floor' / 'map.json').exists()
    rig.drive(frames[18:23])
    done, text = rig.trigger('load_map')
    assert done and 'submaps' in text
    # the same drive again: it is found in the map that was loaded
    rig.drive([_later(frame, 100) for frame in frames[:18]])
    assert np.allclose(_positions(rig.odometry)[23], 0)
    rig.wait(lambda: int(rig.parts['map']['submaps']) > 3)


def _later(frame, seconds):
    return Frame(frame.index, frame.stamp_ns + seconds * 10**9, frame.image, frame.K)


@pytest.mark.parametrize('name', ['../other', '/tmp/longrecon_escape', 'a/../../b', '~/map', '',
                                  'link', 'link/inner'])
def test_a_name_that_leads_out_is_refused(name, shared_rig, tmp_path):
    rig = shared_rig
    is_taken, why = rig.name_map(name)
    assert not is_taken and 'node.map_name' in why, why


@pytest.fixture(scope='module')
def shared_rig(tmp_path_factory):
    """Return a rig whose folder of maps has a link out of it and whose name of a map is wrong."""
    folder = tmp_path_factory.mktemp('names')
    (folder / 'maps').mkdir()
    (folder / 'elsewhere').mkdir()
    (folder / 'maps' / 'link').symlink_to(folder / 'elsewhere')
    with ServiceRig(folder, {'node.map_name': '../elsewhere'}) as rig:
        rig.wait_active()
        yield rig


def test_the_services_refuse_such_a_name_too(shared_rig):
    for name in ('save_map', 'load_map'):
        done, text = shared_rig.trigger(name)
        assert not done and 'leads out' in text
    assert not list(shared_rig.maps.parent.joinpath('elsewhere').iterdir())
    # good when it was named, and a link by the time it is used
    assert shared_rig.name_map('later') == (True, '')
    shared_rig.maps.joinpath('later').symlink_to(shared_rig.maps.parent / 'elsewhere')
    for name in ('save_map', 'load_map'):
        done, text = shared_rig.trigger(name)
        assert not done and 'link' in text
    shared_rig.wait(lambda: shared_rig.told['state'] == 'waiting')


def test_a_map_that_cannot_be_loaded_leaves_the_stream_alone(rig, frames):
    assert rig.name_map('absent') == (True, '')
    done, text = rig.trigger('load_map')
    assert not done and 'absent' in text
    assert rig.name_map('damaged') == (True, '')
    assert rig.trigger('save_map')[0]
    victim = max(rig.maps.joinpath('damaged').glob('*.npz'), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0xff
    victim.write_bytes(data)
    done, text = rig.trigger('load_map')
    assert not done and victim.name in text
    rig.drive(frames[18:28])
    _goes_on(rig.odometry, 18)
    assert rig.status['resets'] == rig.status['segments'] == '0'
    assert '28 poses' in rig.trigger('save')[1]


def test_localization_keeps_the_map_as_it_is(rig, frames):
    assert rig.localize(False) == (True, 'nothing to change')
    rig.drive(frames[18:23])
    _goes_on(rig.odometry, 18)
    assert rig.localize(True) == (True, 'localization')
    rig.drive([_later(frame, 100) for frame in frames[:13]])
    done, text = rig.trigger('save_map')
    assert not done and 'localization' in text
    assert rig.localize(True) == (True, 'nothing to change')
    rig.drive([_later(frame, 100) for frame in frames[13:33]])
    _goes_on(rig.odometry[23:], 13)
    rig.wait(lambda: int(rig.parts['map']['closures']) > 0)
    # 4 windows of the map, and the newest ones of 6
    assert 4 < int(rig.parts['map']['submaps']) <= 6
    assert rig.localize(False) == (True, 'mapping')
    rig.drive([_later(frame, 200) for frame in frames[:18]])
    rig.wait(lambda: int(rig.parts['map']['submaps']) == 4 + 3)


def test_a_storm_of_calls_is_answered_and_the_node_lives(rig, frames):
    dice = random.Random(4)
    names = ['pause', 'resume', 'reset', 'save', 'save_map', 'load_map', 'set_localization']
    answers = []
    rig.send(frames[18:], is_patient=False)
    for _ in range(50):
        name = dice.choice(names)
        if name == 'set_localization':
            request = SetBool.Request(data=dice.random() < 0.5)
            answers.append((name, rig.begin_to_ask(SetBool, name, request)))
        else:
            answers.append((name, rig.begin_to_ask(Trigger, name)))
    rig.wait(lambda: all(answer.done() for _, answer in answers), 120.0)
    for name, answer in answers:
        assert len(answer.result().message) > 3, name
    rig.trigger('resume')
    rig.trigger('reset')
    n_before = len(rig.odometry)
    rig.send([_later(frame, 100) for frame in frames[:13]], is_patient=False)
    rig.wait(lambda: len(rig.odometry) >= n_before + 13)
    assert 'Traceback' not in rig.process.log.read_text()


def test_many_calls_of_one_service_are_all_answered(rig):
    answers = [rig.begin_to_ask(Trigger, 'save') for _ in range(30)]
    rig.wait(lambda: all(answer.done() for answer in answers), 120.0)
    assert all(answer.result().success for answer in answers)


def test_who_waits_while_the_node_is_cleaned_up_does_no_harm(rig, frames):
    rig.send(frames[18:], is_patient=False)
    answer = rig.begin_to_ask(Trigger, 'save')
    assert rig.change('deactivate') and rig.change('cleanup')
    assert rig.state() == 'unconfigured'
    assert rig.change('configure') and rig.change('activate')
    rig.wait_active()
    rig.wait(answer.done)
    assert answer.result().success or 'cleaned up' in answer.result().message
    assert not rig.trigger('save')[0]
    assert rig.stop(signal.SIGTERM) == 0
    assert 'Traceback' not in rig.process.log.read_text()
