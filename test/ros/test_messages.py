"""Records to messages: exact stamps, conventions, bytes."""

import time

from hypothesis import given, strategies as st
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from longrecon_ros.geometry import se3
from longrecon_ros.ros import messages
from longrecon_ros.ros.compat import point_cloud2, tf2
from longrecon_ros.ros.odometry import BaseState
from longrecon_ros.ros.path_bytes import path_bytes
from longrecon_ros.types import FrameState, PointCloud

T = se3.from_parts(se3.so3_exp([0.3, -0.2, 1.1]), [1.0, -2.0, 3.5])


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_are_exact_to_the_nanosecond(stamp):
    assert messages.stamp_ns(messages.time_message(stamp)) == stamp


def test_a_transform_goes_there_and_back():
    message = messages.transform_message(7, 'map', 'odom', T)
    assert (message.header.frame_id, message.child_frame_id) == ('map', 'odom')
    assert np.allclose(messages.matrix_of(message.transform), T)


def test_odometry_has_the_order_of_rep_103():
    pose, twist = (np.arange(36.0).reshape(6, 6) + offset for offset in (100, 200))
    state = BaseState(5 * 10**9 + 1, T, pose, np.arange(1.0, 7.0), twist, FrameState.TRACKED)
    message = messages.odometry_message(state, 'odom', 'base_link')
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (5, 1)
    assert (message.header.frame_id, message.child_frame_id) == ('odom', 'base_link')
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    assert [linear.x, linear.y, linear.z] == [1, 2, 3]
    assert [angular.x, angular.y, angular.z] == [4, 5, 6]
    assert np.array_equal(np.reshape(message.pose.covariance, (6, 6)), pose)
    assert np.array_equal(np.reshape(message.twist.covariance, (6, 6)), twist)
    assert deserialize_message(serialize_message(message), type(message)) == message


def cloud(n):
    """Return a random cloud."""
    rng = np.random.default_rng(0)
    return PointCloud(rng.normal(size=(n, 3)), rng.integers(0, 256, (n, 3)))


def test_a_cloud_survives_the_wire_bit_by_bit():
    wanted = cloud(1000)
    message = messages.cloud_message(wanted, 'odom', 3, 10**6)
    received = deserialize_message(serialize_message(message), PointCloud2)
    rows = np.frombuffer(received.data, np.dtype('<f4')).reshape(-1, 4)
    assert np.array_equal(rows[:, :3], wanted.points)
    packed = rows[:, 3].copy().view('<u4')
    assert np.array_equal(np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1),
                          wanted.colors)
    assert (received.height, received.width, received.point_step) == (1, 1000, 16)
    assert received.is_dense and not received.is_bigendian


@pytest.mark.parametrize('n, limit, expected', [(0, 5, 0), (5, 5, 5), (1001, 100, 100)])
def test_a_big_cloud_is_thinned_evenly(n, limit, expected):
    message = messages.cloud_message(cloud(n), 'odom', 0, limit)
    assert message.width == expected and len(message.data) == 16 * expected
    if n > limit:
        rows = np.frombuffer(message.data, np.float32).reshape(-1, 4)
        assert np.array_equal(rows[[0, -1], :3], cloud(n).points[[0, -1]])


def path_message(stamps, poses, frame):
    """Return a path as rclpy would have it made."""
    path = Path(header=messages.header(stamps[-1] if stamps else 0, frame))
    path.poses = [PoseStamped(header=messages.header(stamp, frame), pose=messages.pose_message(T))
                  for stamp, T in zip(stamps, poses)]
    return path


@pytest.mark.parametrize('frame', ['map', 'm', 'robot1/map', 'a_frame', ''])
@pytest.mark.parametrize('n', [0, 1, 2, 7])
def test_a_path_in_bytes_is_what_the_middleware_reads_as_the_same_path(frame, n):
    rng = np.random.default_rng(n)
    poses = se3.exp(rng.normal(size=(n, 6)))
    stamps = np.sort(rng.integers(0, 2**31 * 10**9, n)).tolist()
    wanted = path_message(stamps, poses, frame)
    ours = path_bytes(stamps, poses, frame)
    # all but the padding, which the middleware does not clear
    assert len(ours) == len(serialize_message(wanted))
    assert deserialize_message(ours, type(wanted)) == wanted


def test_a_million_points_are_not_packed_one_by_one():
    big = cloud(10**6)
    start = time.process_time()
    messages.cloud_message(big, 'odom', 0, 10**6)
    assert time.process_time() - start < 2.0, 'element-wise filling takes many seconds'


def test_the_stand_in_fills_what_a_decoder_of_fields_expects():
    fields = point_cloud2._FIELDS
    message = point_cloud2.stand_in(Header(), fields, np.arange(8, dtype=np.float32).reshape(2, 4))
    assert message.row_step == 32
    assert np.frombuffer(message.data, np.float32).tolist() == list(range(8))


class Wire:
    """Stands for a node that only subscribes."""

    def create_subscription(self, kind, topic, callback, qos):
        """Keep the callback by its topic."""
        self.take[topic] = callback

    def __init__(self):
        self.take = {}


def test_static_transforms_are_chained_both_ways():
    wire = Wire()
    lookup = tf2.TransformLookup(wire)
    assert lookup.lookup('base_link', 'camera') is None
    message = tf2.TFMessage(transforms=[
        messages.transform_message(0, 'base_link', 'mast', T),
        messages.transform_message(0, '/mast', 'camera', se3.inverse(T) @ T @ T),
        messages.transform_message(0, 'base_link', 'lidar', T @ T @ T)])
    wire.take['/tf_static'](message)
    assert np.allclose(lookup.lookup('base_link', 'camera'), T @ T)
    assert np.allclose(lookup.lookup('camera', 'lidar'), T)
    assert np.allclose(lookup.lookup('camera', 'camera'), np.eye(4))
    assert lookup.lookup('base_link', 'elsewhere') is None


def test_a_ring_of_transforms_does_not_hang():
    wire = Wire()
    lookup = tf2.TransformLookup(wire)
    wire.take['/tf_static'](tf2.TFMessage(transforms=[messages.transform_message(0, 'a', 'b', T),
                                           messages.transform_message(0, 'b', 'a', T)]))
    assert lookup.lookup('c', 'a') is None


def moving(stamp, x):
    """Return odom -> base_link at a time, ns."""
    return tf2.TFMessage(transforms=[messages.transform_message(
        stamp, 'odom', 'base_link', se3.from_parts(np.eye(3), [x, 0, 0]))])


def test_moving_transforms_are_interpolated_and_never_extrapolated():
    wire = Wire()
    lookup = tf2.TransformLookup(wire)
    for stamp, x in ((100, 1.0), (200, 2.0), (300, 5.0)):
        wire.take['/tf'](moving(stamp, x))
    found = [lookup.lookup('odom', 'base_link', stamp) for stamp in (100, 150, 250, 300)]
    assert [T[0, 3] for T in found] == pytest.approx([1.0, 1.5, 3.5, 5.0])
    assert lookup.lookup('odom', 'base_link')[0, 3] == 5.0
    assert lookup.lookup('odom', 'base_link', 99) is None
    assert lookup.lookup('odom', 'base_link', 301) is None
    wire.take['/tf'](moving(50, 9.0))
    assert lookup.lookup('odom', 'base_link', 50)[0, 3] == 9.0, 'the clock was set back'
    assert lookup.lookup('odom', 'base_link', 150) is None


def test_fixed_and_moving_transforms_make_one_tree():
    wire = Wire()
    lookup = tf2.TransformLookup(wire)
    wire.take['/tf_static'](tf2.TFMessage(transforms=[
        messages.transform_message(0, 'base_link', 'camera', T)]))
    wire.take['/tf'](moving(10, 1.0))
    wire.take['/tf'](moving(20, 2.0))
    expected = se3.from_parts(np.eye(3), [1.5, 0, 0]) @ T
    assert np.allclose(lookup.lookup('odom', 'camera', 15), expected)


def test_a_grid_has_rows_from_below_and_its_place():
    cells = np.array([[-1, 0], [100, 50]], np.int8)
    message = messages.grid_message({'cells': cells, 'resolution_m': 0.125, 'T_map_origin': T},
                                    'map', 9)
    assert (message.info.height, message.info.width) == (2, 2)
    assert message.data.tolist() == [-1, 0, 100, 50]
    assert message.info.origin.position.x == 1.0
    assert deserialize_message(serialize_message(message), type(message)) == message
