"""A test's end of the wire: starts the real node, sends it images, collects what it publishes."""

from contextlib import ExitStack
import time

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry, Path
import numpy as np
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from longrecon_ros.ros.environment import own_domain
from longrecon_ros.ros.messages import header, time_message, transform_message
from longrecon_ros.ros.node_process import NodeProcess
from longrecon_ros.ros.peer import leave

RELIABLE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.TRANSIENT_LOCAL)
CAMERA_FRAME = 'camera_optical_frame'
PARAMETERS = {'use_sim_time': True, 'node.status_period_s': 0.05, 'node.queue_policy': 'keep_all',
              'node.extrinsic_wait_s': 0.3,
              'node.cloud_period_s': 0.0, 'node.path_period_s': 0.0}


class Rig:
    """The node in its own process, and one node here; use as a context.

    Everything received is kept: ``odometry``, ``paths``, ``clouds``, ``transforms`` (messages of
    /tf), ``status`` (newest values of /diagnostics).
    """

    def __init__(self, folder, parameters=(), namespace='', compressed=False, remaps=()):
        self._stack = ExitStack()
        # nothing is written where the tests are started
        own = {'node.save_folder': str(folder / 'saved'), 'node.maps_folder': str(folder / 'maps')}
        self._folder, self._parameters = folder, {**PARAMETERS, **own, **dict(parameters)}
        self._namespace, self._remaps = namespace, {'image': 'camera/image', **dict(remaps)}
        self._kind = CompressedImage if compressed else Image
        if compressed:
            self._parameters['node.image_transport'] = 'compressed'
        self._topic = f'{namespace}/camera/image' + ('/compressed' if compressed else '')
        self.odometry, self.paths, self.clouds, self.transforms = [], [], [], []
        self._n_sent = 0
        self._now = (10**9, time.monotonic())       # time of the recording, and since when
        self._clock_at = 0.0
        self.status, self.level, self.message = {}, None, ''
        self.parts = {}         # values of all statuses, by their part's name
        self.statuses = {}      # the newest DiagnosticStatus of each part, by its name

    def __enter__(self):
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _begin(self):
        # a domain for each: latched messages of the test before must not be seen
        self._stack.enter_context(self.enter_domain())
        context = Context()
        context.init()
        self._stack.callback(context.try_shutdown)
        self.node = Node('rig', context=context)
        # before the domain is somebody else's: two cameras there would be one too many
        self._stack.callback(leave, self.node)
        prefix = f'{self._namespace}/longrecon'
        for kind, topic, qos, kept in (
                (Odometry, f'{prefix}/odometry', RELIABLE, self.odometry),
                (Path, f'{prefix}/path', LATCHED, self.paths),
                (PointCloud2, f'{prefix}/cloud', LATCHED, self.clouds),
                (TFMessage, '/tf', RELIABLE, self.transforms)):
            self.node.create_subscription(kind, topic, kept.append, qos)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._take_status, RELIABLE)
        self._images = self.node.create_publisher(self._kind, self._topic, RELIABLE)
        self._infos = self.node.create_publisher(
            CameraInfo, f'{self._namespace}/camera/camera_info', RELIABLE)
        self._clock = self.node.create_publisher(Clock, '/clock', RELIABLE)
        self._static = self.node.create_publisher(TFMessage, '/tf_static', LATCHED)
        self._services = {}
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        arguments = ['-r', f'__ns:={self._namespace}'] if self._namespace else []
        self.process = self._stack.enter_context(NodeProcess(
            self._folder, self._parameters, self._remaps, arguments))
        self.wait(self.is_up)

    def __exit__(self, *problem):
        self._stack.close()

    def enter_domain(self):
        """Return the context of being in the ROS domain of this rig."""
        return own_domain()

    def is_up(self):
        """Say whether the node listens to the camera."""
        return self._images.get_subscription_count() and self._infos.get_subscription_count() \
            and self.status

    def ask(self, kind, name, request=None):
        """Call a service of the node, named below it, and return the response."""
        answer = self.begin_to_ask(kind, name, request)
        self.wait(answer.done, 60.0)
        return answer.result()

    def begin_to_ask(self, kind, name, request=None):
        """Call a service of the node; return the future of its response."""
        request = kind.Request() if request is None else request
        return self.connect(kind, name).call_async(request)

    def connect(self, kind, name):
        """Return the client of a service of the node, which it has found."""
        if name not in self._services:
            self._services[name] = self.node.create_client(
                kind, f'{self._namespace}/longrecon/{name}', qos_profile=QoSProfile(depth=100))
        client = self._services[name]
        self.wait(client.service_is_ready)
        return client

    def send_mounting(self, T_base_camera):
        """Publish base_link -> camera on /tf_static and let it arrive."""
        self._static.publish(TFMessage(transforms=[
            transform_message(0, 'base_link', CAMERA_FRAME, T_base_camera)]))
        self.spin(0.3)

    def send_info(self, frame, K=None):
        """Publish the calibration of a frame, or another K."""
        K = frame.K if K is None else K
        message = CameraInfo(header=header(frame.stamp_ns, CAMERA_FRAME), width=frame.size[0],
                             height=frame.size[1], distortion_model='plumb_bob', d=[0.0] * 5)
        message.k = np.asarray(K, float).ravel()
        message.p = np.concatenate([K, np.zeros((3, 1))], axis=1).ravel()
        self._infos.publish(message)
        self.spin(0.1)

    def send(self, frames, encode=None, is_patient=True):
        """Publish frames; if patient, never more ahead than the node's queue."""
        for frame in frames:
            self._n_sent += 1
            self._now = (frame.stamp_ns, time.monotonic())
            self._tick(0.0)
            self._images.publish((encode or image_message)(frame))
            if is_patient:
                self.wait(lambda: self._n_sent - int(self.status['images received']) < 20)

    def wait_processed(self, n):
        """Wait until the pipeline has taken so many images."""
        self.wait(lambda: int(self.status['images taken']) >= n)

    def call(self, name):
        """Call a Trigger of the node, such as ~/save, and return the response."""
        return self.ask(Trigger, name)

    def wait(self, is_over, timeout_s=60.0):
        """Spin until something holds; AssertionError with the node's log after the time."""
        end = time.monotonic() + timeout_s
        while not is_over():
            self.process_check()
            assert time.monotonic() < end, f'{self.status}\n{self.process.log.read_text()}'
            self._tick()
            self._executor.spin_once(timeout_sec=0.02)

    def _tick(self, period_s=0.02):
        """Publish the time of the recording, which goes on from the last image."""
        stamp_ns, since = self._now
        if time.monotonic() - self._clock_at >= period_s:
            self._clock_at = time.monotonic()
            self._clock.publish(Clock(clock=time_message(
                stamp_ns + round((self._clock_at - since) * 1e9))))

    def process_check(self):
        """Raise when the node has ended."""
        if hasattr(self, 'process'):
            self.process.check()

    def spin(self, duration_s):
        """Let messages pass for some time."""
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            self._tick()
            self._executor.spin_once(timeout_sec=0.02)

    def stop(self, number):
        """End the node by a signal; return its exit code once its last messages are here."""
        code = self.process.stop(number)
        n_before = -1
        while n_before != (n := sum(map(len, (self.odometry, self.paths, self.clouds,
                                              self.transforms)))):
            n_before = n
            self.spin(0.3)
        return code

    def transform(self, parent, child) -> list[TransformStamped]:
        """Return all transforms of one edge of the tree."""
        return [t for message in self.transforms for t in message.transforms
                if (t.header.frame_id, t.child_frame_id) == (parent, child)]

    def _take_status(self, message):
        for status in message.status:
            name, _, part = status.name.rpartition(': ')
            if f'/{name}' != f'{self._namespace}/longrecon':
                continue
            self.parts[part] = {value.key: value.value for value in status.values}
            self.statuses[part] = status
            if status.name.endswith('longrecon: SLAM'):
                self.status = {value.key: value.value for value in status.values}
                self.level, self.message = status.level, status.message


def image_message(frame, encoding='rgb8'):
    """Return a frame as an Image of some 8-bit colour encoding."""
    pixels = frame.image if encoding == 'rgb8' else frame.image[..., ::-1]
    h, w = pixels.shape[:2]
    message = Image(header=header(frame.stamp_ns, CAMERA_FRAME), height=h, width=w, step=3 * w,
                    encoding=encoding)
    message.data.frombytes(np.ascontiguousarray(pixels).tobytes())
    return message
