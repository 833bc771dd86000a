"""Frames, transforms, scale and covariance of the real node, seen from outside over DDS."""

from contextlib import nullcontext
import os
import signal
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from geometry_msgs.msg import Transform, Vector3
from managed import ManagedRig
from nav_msgs.msg import Odometry
from rig import RELIABLE
from street import frames_of, street, true_base
from tf2_msgs.msg import TFMessage

from longrecon_ros.geometry import se3
from longrecon_ros.ros.messages import header, matrix_of, stamp_ns, transform_message
from longrecon_ros.ros.odometry import UNKNOWN_VARIANCE
from longrecon_ros.types import Frame

N = 36
MODES = {'full': {('map', 'odom'), ('odom', 'base_link')}, 'odom': {('odom', 'base_link')},
         'none': set()}


@pytest.fixture(scope='module')
def production():
    """Return a drive down a street."""
    return street(N)


@pytest.fixture(scope='module')
def frames(production):
    """Return the frames of the drive."""
    return frames_of(production)


def drive(rig, frames):
    """Send frames and wait until each has its odometry."""
    n_before = len(rig.odometry)
    rig.send(frames)
    rig.wait(lambda: len(rig.odometry) == n_before + len(frames))


def begin(rig, frames):
    """Wait for the node and tell it the calibration."""
    rig.wait_active()
    rig.send_info(frames[0])


def positions(odometry):
    """Return the positions (K, 3) of odometry messages."""
    return np.array([[m.pose.pose.position.x, m.pose.pose.position.y, m.pose.pose.position.z]
                     for m in odometry])


def pose(message):
    """Return a geometry_msgs Pose as a matrix."""
    p = message.position
    return matrix_of(Transform(translation=Vector3(x=p.x, y=p.y, z=p.z),
                               rotation=message.orientation))


def variances_of(odometry):
    """Return the diagonal (6,) of a pose's covariance."""
    return np.diag(np.reshape(odometry.pose.covariance, (6, 6)))


def edges(rig):
    """Return the edges (parent, child) that were on /tf."""
    return {(t.header.frame_id, t.child_frame_id) for m in rig.transforms for t in m.transforms}


@pytest.mark.parametrize('mode', MODES)
def test_the_transforms_are_those_of_the_mode(mode, frames, tmp_path):
    with ManagedRig(tmp_path, {'node.tf_mode': mode, 'node.odom_frame': 'odom'}) as rig:
        begin(rig, frames)
        drive(rig, frames[:18])
        if ('map', 'odom') in MODES[mode]:
            rig.wait(lambda: ('map', 'odom') in edges(rig))
        rig.spin(0.3)
        assert edges(rig) == MODES[mode]
        assert {(m.header.frame_id, m.child_frame_id) for m in rig.odometry} == {
            ('odom', 'base_link')}


def other_odom(stamp):
    """Return the pose of the base in somebody else's odom, which drifts, at a time, ns."""
    t_s = (stamp - 17e17) * 1e-9
    R = se3.so3_exp(np.array([0, 0, 0.05 * t_s]))
    return se3.from_parts(R, [3 + 4.5 * t_s, 0.4 * t_s, 0])


def test_somebody_elses_odom_is_placed_where_the_map_has_the_base(frames, tmp_path):
    with ManagedRig(tmp_path, {'node.tf_mode': 'map_odom', 'node.slew_s': 0.0}) as rig:
        others = rig.node.create_publisher(TFMessage, '/tf', RELIABLE)
        begin(rig, frames)
        rig.wait(lambda: others.get_subscription_count() >= 2)
        next_ns = frames[0].stamp_ns - 10**7
        for frame in frames[:28]:
            # at 33 Hz, and later than the images they are for
            rig.send([frame])
            rig.spin(0.01)
            while next_ns < frame.stamp_ns + 3 * 10**7:
                others.publish(TFMessage(transforms=[transform_message(
                    next_ns, 'odom', 'base_link', other_odom(next_ns))]))
                next_ns += 30303030
        rig.wait(lambda: len(rig.odometry) == 28)
        assert rig.call('save').success
        rig.wait(lambda: rig.paths and len(rig.paths[-1].poses) == 28)
        path = rig.paths[-1].poses
        length = path[-1].pose.position.x

        def placed():
            T_map_odom = matrix_of(rig.transform('map', 'odom')[-1].transform)
            return T_map_odom @ other_odom(frames[27].stamp_ns)
        # nothing is corrected slowly here, so that our odom is the map, too
        rig.wait(lambda: rig.transform('map', 'odom') and np.allclose(
            placed(), pose(rig.odometry[27].pose.pose), atol=1e-6))
        # but for what the last window has said since
        assert np.allclose(placed(), pose(path[-1].pose), atol=0.06 * length)
        assert length > 0.3
        assert not any('no transform' in line for line in rig.process.complaints())

        # the camera sees nothing any more: the robot goes on by its odom
        black = [Frame(f.index, f.stamp_ns, np.zeros_like(f.image)) for f in frames[28:34]]
        before = matrix_of(rig.transform('map', 'odom')[-1].transform)
        rig.send(black)
        rig.wait(lambda: len(rig.odometry) == 34)
        rig.spin(0.3)
        assert np.allclose(before, matrix_of(rig.transform('map', 'odom')[-1].transform),
                           atol=0.02 * length)


def test_map_odom_goes_on_by_the_clock_while_a_window_is_computed(frames, tmp_path):
    with ManagedRig(tmp_path, {'node.tf_tolerance_s': 0.4}) as rig:
        found = []

        def take(message):
            now_ns, since = rig._now
            now_ns += round((time.monotonic() - since) * 1e9)
            found.extend((now_ns, stamp_ns(t.header.stamp)) for t in message.transforms
                         if t.child_frame_id == 'odom')
        rig.node.create_subscription(TFMessage, '/tf', take, RELIABLE)
        begin(rig, frames)
        drive(rig, frames[:18])
        worker = rig.worker()
        os.kill(worker, signal.SIGSTOP)
        try:
            rig.send(frames[18:26])
            n_before = len(found)
            rig.wait(lambda: len(found) >= n_before + 40)
        finally:
            os.kill(worker, signal.SIGCONT)
        assert len(rig.odometry) == 26, 'the tracker goes on, too'
        now, stamps = np.array(found[n_before:]).T
        assert 0.7 * 0.05 < np.median(np.diff(stamps)) * 1e-9 < 1.3 * 0.05
        assert 0.2 < np.median(stamps - now) * 1e-9 <= 0.42


class Neighbour(ManagedRig):
    """A rig in the domain of the one before."""

    def enter_domain(self):
        """Stay in the domain that is there already."""
        return nullcontext()


def test_two_robots_do_not_meet(frames, tmp_path):
    folders = tmp_path / 'a', tmp_path / 'b'
    for folder in folders:
        folder.mkdir()
    own = {'node.map_frame': 'a/map', 'node.odom_frame': 'a/odom', 'node.base_frame': 'a/base'}
    with ManagedRig(folders[0], own, namespace='/a') as a, \
            Neighbour(folders[1], namespace='/b', remaps={'/tf': 'tf'}) as b:
        on_b = []
        b.node.create_subscription(TFMessage, '/b/tf', on_b.append, RELIABLE)
        begin(a, frames)
        begin(b, frames)
        a.send(frames[:18])
        b.send(frames[20:33])
        a.wait(lambda: len(a.odometry) == 18)
        b.wait(lambda: len(b.odometry) == 13 and on_b)
        assert {m.header.frame_id for m in a.odometry} == {'a/odom'}
        assert {m.header.frame_id for m in b.odometry} == {'odom'}
        for rig in (a, b):
            rig.wait(lambda: edges(rig) >= {('a/map', 'a/odom'), ('a/odom', 'a/base')})  # noqa: B023
            assert len(edges(rig)) == 2, 'the transforms of b are on a topic of its own'
        b.wait(lambda: {('map', 'odom'), ('odom', 'base_link')} == {
            (t.header.frame_id, t.child_frame_id) for m in on_b for t in m.transforms})
        assert a.worker() != b.worker()
        assert a.state() == b.state() == 'active'
        assert a.call('reset').success
        drive(b, frames[33:36])
        a.wait(lambda: a.status['resets'] == '1')
        assert b.status['resets'] == '0'


def test_a_clock_that_jumps_back_takes_the_transforms_along(frames, tmp_path):
    with ManagedRig(tmp_path) as rig:
        begin(rig, frames)
        drive(rig, frames[:18])
        rig.wait(lambda: rig.transform('map', 'odom'))
        back_ns = 10**11
        # three must agree that the stamps are right: the first two are refused
        rig.send([Frame(0, f.stamp_ns - back_ns, f.image) for f in frames[:15]])
        rig.wait(lambda: len(rig.odometry) == 18 + 13)
        rig.transforms.clear()
        rig.wait(lambda: rig.transform('map', 'odom'))
        assert all(stamp_ns(t.header.stamp) < frames[0].stamp_ns
                   for t in rig.transform('map', 'odom'))
        assert rig.state() == 'active'


@pytest.fixture(scope='module')
def unscaled(frames, tmp_path_factory):
    """Return the positions of the drive in arbitrary units."""
    with ManagedRig(tmp_path_factory.mktemp('unscaled')) as rig:
        begin(rig, frames)
        drive(rig, frames[:18])
        rig.wait(lambda: rig.told['scale_state'] == 'arbitrary')
        return positions(rig.odometry)


def test_a_constant_scale_makes_metres(frames, unscaled, tmp_path):
    with ManagedRig(tmp_path, {'scale.source': 'constant', 'scale.metres_per_unit': 2.5}) as rig:
        begin(rig, frames)
        rig.wait(lambda: rig.told['scale_state'] == 'metric')
        assert float(rig.told['metres_per_unit']) == 2.5
        drive(rig, frames[:18])
        assert np.allclose(positions(rig.odometry), 2.5 * unscaled,
                           atol=0.02 * 2.5 * unscaled[-1, 0])


def test_wheels_make_metres_without_a_jump(production, frames, unscaled, tmp_path):
    E = production.world.T_base_camera

    def wheel_message(i):
        T = true_base(production, i)
        message = Odometry(header=header(frames[i].stamp_ns, 'odom'), child_frame_id='base_link')
        p, q = message.pose.pose.position, message.pose.pose.orientation
        p.x, p.y, p.z = T[:3, 3].tolist()
        q.x, q.y, q.z, q.w = se3.quaternion_xyzw_from_rotation(T[:3, :3]).tolist()
        return message

    with ManagedRig(tmp_path, {'scale.source': 'wheel', 'node.use_extrinsic': 'require'}) as rig:
        wheels = rig.node.create_publisher(Odometry, '/wheel_odometry', RELIABLE)
        begin(rig, frames)
        rig.send_mounting(E)
        rig.wait(wheels.get_subscription_count)
        states = []
        for i in range(N):
            wheels.publish(wheel_message(i))
            rig.send([frames[i]])
            if i % 5 == 2:
                rig.wait(lambda: len(rig.odometry) >= i - 7)        # noqa: B023, at once
                rig.spin(0.15)
            if rig.told['scale_state'] not in states:
                states.append(rig.told['scale_state'])
        rig.wait(lambda: len(rig.odometry) == N)
        rig.wait(lambda: rig.told['scale_state'] == 'metric')
        assert states in (['arbitrary', 'estimated'], ['arbitrary', 'estimated', 'metric'])
        truth = np.array([true_base(production, i)[:3, 3] for i in range(N)])
        true_scale = np.linalg.norm(truth[17] - truth[0]) / np.linalg.norm(unscaled[-1])
        assert float(rig.told['metres_per_unit']) == pytest.approx(true_scale, rel=0.05)
        steps = np.linalg.norm(np.diff(positions(rig.odometry), axis=0), axis=1)
        true_steps = np.linalg.norm(np.diff(truth, axis=0), axis=1)
        # half as much again while odom catches up, and what the scale was wrong by until then
        assert (steps < 2 * true_steps).all(), 'no step is a jump'
        assert steps[-6:].sum() == pytest.approx(true_steps[-6:].sum(), rel=0.15)


def test_black_images_are_lost_and_said_so(frames, tmp_path):
    with ManagedRig(tmp_path) as rig:
        begin(rig, frames)
        drive(rig, frames[:18])
        rig.wait(lambda: rig.told['state'] == 'tracking')
        variances = np.array([variances_of(m) for m in rig.odometry])
        assert np.isfinite(variances).all() and (variances < 1).all()
        drive(rig, [Frame(f.index, f.stamp_ns, np.zeros_like(f.image)) for f in frames[18:28]])
        lost = rig.odometry[-1]
        assert np.array_equal(variances_of(lost), np.full(6, UNKNOWN_VARIANCE))
        assert np.isfinite(positions([lost])).all()
        rig.wait(lambda: rig.told['state'] == 'lost')
        drive(rig, frames[28:])
        rig.wait(lambda: rig.told['state'] == 'tracking')
        assert rig.odometry[-1].pose.covariance[0] < 1
