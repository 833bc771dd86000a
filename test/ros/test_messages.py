"""Records to messages: exact stamps, conventions, bytes."""

import sys
import time
import types

from hypothesis import given, strategies as st
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: make test, or source a ROS')
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from longrecon_ros.geometry import se3
from longrecon_ros.io.image_message import image_to_rgb
from longrecon_ros.ros import messages
from longrecon_ros.ros.base_motion import BaseState
from longrecon_ros.ros.compat import cv_bridge, point_cloud2, tf2
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
    state = BaseState(5 * 10**9 + 1, T, np.arange(1.0, 7.0), np.arange(11.0, 17.0),
                      np.arange(21.0, 27.0), FrameState.TRACKED)
    message = messages.odometry_message(state, 'odom', 'base_link')
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (5, 1)
    assert (message.header.frame_id, message.child_frame_id) == ('odom', 'base_link')
    twist = message.twist.twist
    assert [twist.linear.x, twist.linear.y, twist.linear.z] == [1, 2, 3]
    assert [twist.angular.x, twist.angular.y, twist.angular.z] == [4, 5, 6]
    assert np.array_equal(np.reshape(message.pose.covariance, (6, 6)), np.diag(range(11, 17)))
    assert np.array_equal(np.reshape(message.twist.covariance, (6, 6)), np.diag(range(21, 27)))
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


def test_a_path_carries_the_stamp_of_its_end():
    path = messages.path_message([1, 2], [np.eye(4), T], 'map')
    assert messages.stamp_ns(path.header.stamp) == 2
    assert [messages.stamp_ns(p.header.stamp) for p in path.poses] == [1, 2]
    assert not messages.path_message([], [], 'map').poses


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


def image(encoding='bgr8'):
    """Return an image of one pixel with the bytes 1, 2, 3."""
    message = Image(height=1, width=1, step=3, encoding=encoding)
    message.data.frombytes(bytes([1, 2, 3]))
    return message


def fake_cv_bridge(monkeypatch, convert):
    """Install a module cv_bridge whose bridge converts so."""
    bridge = type('CvBridge', (), {'imgmsg_to_cv2': staticmethod(convert)})
    error = type('CvBridgeError', (TypeError,), {})
    module = types.ModuleType('cv_bridge')
    module.CvBridge, module.CvBridgeError = bridge, error
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)


def test_cv_bridge_is_used_where_it_works(monkeypatch):
    fake_cv_bridge(monkeypatch, lambda message, encoding: np.full((1, 1, 3), 77, np.uint8))
    assert cv_bridge.make_decoder()(image(), 'x').tolist() == [[[77, 77, 77]]]


def test_a_cv_bridge_of_another_numpy_is_left_alone(monkeypatch):
    def fail(message, encoding):
        raise AttributeError('_ARRAY_API not found')

    fake_cv_bridge(monkeypatch, fail)
    assert cv_bridge.make_decoder()(image(), 'x').tolist() == [[[3, 2, 1]]]


def test_without_cv_bridge_our_decoder_is_used(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    decode = cv_bridge.make_decoder()
    assert np.array_equal(decode(image('rgb8'), 'x'), image_to_rgb(image('rgb8'), 'x'))


class Wire:
    """Stands for a node that only subscribes."""

    def create_subscription(self, kind, topic, callback, qos):
        """Keep the callback."""
        self.receive = callback


def test_static_transforms_are_chained_both_ways():
    wire = Wire()
    lookup = tf2.StaticLookup(wire)
    assert lookup.lookup('base_link', 'camera') is None
    message = tf2.TFMessage(transforms=[
        messages.transform_message(0, 'base_link', 'mast', T),
        messages.transform_message(0, '/mast', 'camera', se3.inverse(T) @ T @ T),
        messages.transform_message(0, 'base_link', 'lidar', T @ T @ T)])
    wire.receive(message)
    assert np.allclose(lookup.lookup('base_link', 'camera'), T @ T)
    assert np.allclose(lookup.lookup('camera', 'lidar'), T)
    assert np.allclose(lookup.lookup('camera', 'camera'), np.eye(4))
    assert lookup.lookup('base_link', 'elsewhere') is None


def test_a_ring_of_transforms_does_not_hang():
    wire = Wire()
    lookup = tf2.StaticLookup(wire)
    wire.receive(tf2.TFMessage(transforms=[messages.transform_message(0, 'a', 'b', T),
                                           messages.transform_message(0, 'b', 'a', T)]))
    assert lookup.lookup('c', 'a') is None
