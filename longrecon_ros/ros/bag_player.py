"""A bag's camera and transforms as live topics."""

from dataclasses import dataclass
from pathlib import Path
import struct
from typing import Any, Collection, Dict, Iterator, Optional, Tuple

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from ..io.bag_reader import open_bag
from ..io.bag_topics import choose_image_topic, find_info_topic, list_topics
from .messages import time_message

_NEW_NAMES = {'tf/msg/tfMessage': 'tf2_msgs/msg/TFMessage'}
_LATCHED = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True, slots=True)
class BagTopics:
    """The topics of a bag that are played."""

    image: str
    info: Optional[str]
    is_compressed: bool
    n_images: int


def find_topics(path: Path, wanted: Optional[str]) -> BagTopics:
    """Return the camera of a bag; raises BagError when the choice is unclear."""
    with open_bag(path) as reader:
        topics = list_topics(reader)
    image = choose_image_topic(topics, wanted, path)
    kind, n_images = topics[image]
    return BagTopics(image, find_info_topic(topics, image), kind.endswith('CompressedImage'),
                     n_images)


class BagPlayer:
    """Publishes images, camera_info, /tf_static, /tf and /clock of a bag, in its order.

    Messages go out as they are in the bag, byte by byte (those of ROS 1 converted); images without
    a stamp get the time of recording. Transforms to ``own_frames``, which the node itself sends,
    are left out.
    """

    def __init__(self, node: Node, topics: BagTopics, depth: int, own_frames: Collection[str]):
        self._topics, self._own_frames = topics, own_frames
        qos = QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)
        kind = CompressedImage if topics.is_compressed else Image
        self._clock = node.create_publisher(Clock, '/clock', qos)
        self.images = node.create_publisher(kind, topics.image, qos)
        self._others: Dict[str, Publisher] = {
            '/tf': node.create_publisher(TFMessage, '/tf', qos),
            '/tf_static': node.create_publisher(TFMessage, '/tf_static', _LATCHED)}
        if topics.info is not None:
            self._others[topics.info] = node.create_publisher(CameraInfo, topics.info, qos)

    def play(self, path: Path) -> Iterator[int]:
        """Yield the time of recording, ns, before each image goes out."""
        with open_bag(path) as reader:
            # what holds always comes first, wherever it stands in the bag
            for topic, _, data in _messages(reader, {'/tf_static'}):
                self._play_other(topic, data)
            for topic, recorded_ns, data in _messages(
                    reader, {self._topics.image, *self._others} - {'/tf_static'}):
                if topic != self._topics.image:
                    self._play_other(topic, data)
                    continue
                yield recorded_ns
                self._clock.publish(Clock(clock=time_message(recorded_ns)))
                self.images.publish(_with_stamp(data, recorded_ns))

    def _play_other(self, topic: str, data: bytes) -> None:
        publisher = self._others[topic]
        if topic not in ('/tf', '/tf_static'):
            publisher.publish(data)
            return
        message = deserialize_message(data, TFMessage)
        message.transforms = [transform for transform in message.transforms
                              if transform.child_frame_id.lstrip('/') not in self._own_frames]
        if message.transforms:
            publisher.publish(message)


def _messages(reader: Any, topics: Collection[str]) -> Iterator[Tuple[str, int, bytes]]:
    """Yield (topic, time of recording in ns, CDR) of some topics."""
    from rosbags.typesys import get_typestore, Stores
    connections = [c for c in reader.connections if c.topic in topics]
    if not connections:
        return
    ros2 = get_typestore(Stores.ROS2_HUMBLE)
    for connection, recorded_ns, raw in reader.messages(connections):
        kind = _NEW_NAMES.get(connection.msgtype, connection.msgtype)
        data = raw if reader.is2 else ros2.ros1_to_cdr(raw, kind)
        yield connection.topic, recorded_ns, bytes(data)


def _with_stamp(data: bytes, recorded_ns: int) -> bytes:
    """Return a CDR message that begins with a header, stamped if it is not yet."""
    order = '<' if data[1] & 1 else '>'         # after the encapsulation's first byte
    if struct.unpack_from(order + 'iI', data, 4) != (0, 0):
        return data
    stamp = struct.pack(order + 'iI', *divmod(recorded_ns, 10**9))
    return data[:4] + stamp + data[12:]
