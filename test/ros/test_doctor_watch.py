"""What the doctor of a camera finds on real topics, over DDS."""

import time

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from longrecon_ros.ros.doctor import Doctor
from longrecon_ros.ros.doctor_watch import Watch
from longrecon_ros.ros.endpoints import choose_qos, offers_of, Request
from longrecon_ros.ros.findings import DoctorConfig, Level
from longrecon_ros.ros.messages import header
from longrecon_ros.ros.peer import leave

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
VOLATILE, LATCHED = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL


class Wire:
    """Two nodes of this process: ``driver`` publishes images, ``watcher`` has a doctor."""

    def __init__(self, context):
        self.driver = Node('driver', context=context, namespace='/robot')
        self.watcher = Node('watcher', context=context)
        self._executor = SingleThreadedExecutor(context=context)
        for node in (self.driver, self.watcher):
            self._executor.add_node(node)
        self.n_received = 0

    def publish(self, kind=Image, reliability=RELIABLE, durability=VOLATILE):
        """Return a publisher of the driver."""
        return self.driver.create_publisher(
            kind, '/cam/image', QoSProfile(depth=5, reliability=reliability,
                                           durability=durability))

    def watch(self, request, **config):
        """Subscribe, and return the watch over it."""
        doctor = Doctor('/cam/image', '/cam/camera_info', DoctorConfig(**config))
        watch = Watch(self.watcher, doctor, '/cam/image', '/cam/camera_info')

        def take(message):
            self.n_received += 1
            watch.take_image(message)

        self.watcher.create_subscription(
            Image, '/cam/image', take,
            QoSProfile(depth=5, reliability=request.reliability, durability=request.durability),
            event_callbacks=watch.event_callbacks())
        return watch

    def spin_until(self, is_over, timeout_s=20.0):
        """Let messages pass until something holds."""
        end = time.monotonic() + timeout_s
        while not is_over():
            assert time.monotonic() < end
            self._executor.spin_once(timeout_sec=0.02)

    def close(self):
        """End both nodes."""
        for node in (self.driver, self.watcher):
            leave(node)


@pytest.fixture
def wire(context):
    """Return two nodes that find each other."""
    wire = Wire(context)
    yield wire
    wire.close()


def codes(watch, request):
    """Return the findings of a watch by code."""
    return {finding.code: finding for finding in watch.examine(request)}


def test_a_real_mismatch_is_found_and_auto_mends_it(wire):
    publisher = wire.publish(reliability=BEST_EFFORT)
    strict = Request(RELIABLE)
    watch = wire.watch(strict)
    wire.spin_until(lambda: watch.facts(strict).n_incompatible)
    found = codes(watch, strict)['QOS_MISMATCH']
    assert found.level is Level.ERROR and '/robot/driver offers less reliability' in found.text
    reliability, durability, text = choose_qos(offers_of(wire.watcher, '/cam/image'))
    assert '/robot/driver offers no more' in text
    auto = Request(reliability, durability)
    watch = wire.watch(auto)
    wire.spin_until(lambda: publisher.get_subscription_count() and (
        publisher.publish(Image(header=header(time.time_ns(), 'optical'))) or wire.n_received))
    assert 'QOS_MISMATCH' not in codes(watch, auto)


def test_a_latched_request_misses_a_volatile_publisher(wire):
    wire.publish()
    request = Request(RELIABLE, LATCHED)
    watch = wire.watch(request)
    wire.spin_until(lambda: watch.facts(request).offers)
    assert 'less durability' in codes(watch, request)['QOS_MISMATCH'].text


def test_a_real_compressed_topic_is_named_when_raw_is_missing(wire):
    wire.driver.create_publisher(CompressedImage, '/cam/image/compressed', 5)
    request = Request()
    watch = wire.watch(request)
    wire.spin_until(lambda: watch.facts(request).image_topics)
    found = codes(watch, request)['NO_PUBLISHER']
    assert '/cam/image/compressed' in found.text and 'to compressed' in found.fix


def test_real_publishers_are_counted_and_named(wire):
    publishers = [wire.publish(), wire.publish(reliability=BEST_EFFORT)]
    request = Request(BEST_EFFORT)
    watch = wire.watch(request, silence_s=0.1)
    wire.spin_until(lambda: len(watch.facts(request).offers) == len(publishers))
    assert 'TWO_PUBLISHERS' in codes(watch, request)
    wire.spin_until(lambda: 'NO_IMAGES' in codes(watch, request))


def test_images_of_a_real_topic_are_examined(wire):
    publisher = wire.publish()
    request = Request(RELIABLE)
    watch = wire.watch(request)
    wire.spin_until(lambda: publisher.get_subscription_count() and watch.facts(request).offers)
    for _ in range(5):
        publisher.publish(Image(header=header(0, 'optical'), height=480, width=640))
    wire.spin_until(lambda: wire.n_received == 5)
    watch.take_info('good', size=(320, 240))
    found = codes(watch, request)
    assert found.keys() == {'STAMP_ZERO', 'CAMERA_INFO_SIZE'}
    assert watch.facts(request).camera_frame == 'optical'


def test_real_simulated_time_without_a_clock(wire):
    wire.watcher.set_parameters([Parameter('use_sim_time', value=True)])
    request = Request()
    watch = wire.watch(request, silence_s=0.1)
    wire.spin_until(lambda: 'SIM_TIME_STOPPED' in codes(watch, request))
