"""Sending and looking up transforms: by tf2_ros where it is installed, else by stand-ins."""

from typing import Dict, List, Optional, Tuple

from geometry_msgs.msg import TransformStamped
import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from ...geometry import se3
from ..messages import matrix_of

_RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Broadcaster:
    """Sends transforms on /tf."""

    def __init__(self, node: Node):
        self._publisher = node.create_publisher(TFMessage, '/tf', _RELIABLE)

    def sendTransform(self, transforms: List[TransformStamped]) -> None:  # noqa: N802, as tf2_ros
        """Send several transforms in one message."""
        self._publisher.publish(TFMessage(transforms=transforms))


class StaticLookup:
    """Knows the transforms of /tf_static, whoever sends them."""

    def __init__(self, node: Node):
        self._edges: Dict[str, Tuple[str, np.ndarray]] = {}     # child: (parent, T_parent_child)
        node.create_subscription(TFMessage, '/tf_static', self._take, _LATCHED)

    def lookup(self, target: str, source: str) -> Optional[np.ndarray]:
        """Return T_target_source (4, 4); None when the tree does not connect the two (yet)."""
        to_target, to_source = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in to_source if frame in to_target), None)
        if common is None:
            return None
        return se3.inverse(to_target[common]) @ to_source[common]

    def _take(self, message: TFMessage) -> None:
        for transform in message.transforms:
            self._edges[transform.child_frame_id.lstrip('/')] = (
                transform.header.frame_id.lstrip('/'), matrix_of(transform.transform))

    def _ancestors(self, frame: str) -> Dict[str, np.ndarray]:
        """Return {ancestor: T_ancestor_frame} from the frame itself up to its root."""
        frame = frame.lstrip('/')
        T, found = np.eye(4), {}
        while frame not in found:
            found[frame] = T
            if frame not in self._edges:
                break
            frame, T_parent_child = self._edges[frame]
            T = T_parent_child @ T
        return found


class BufferLookup:
    """The same question to tf2_ros, which also knows /tf."""

    def __init__(self, node: Node):
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def lookup(self, target: str, source: str) -> Optional[np.ndarray]:
        """Return T_target_source (4, 4); None when the tree does not connect the two (yet)."""
        try:
            found = self._buffer.lookup_transform(target.lstrip('/'), source.lstrip('/'), Time())
        except tf2_ros.TransformException:
            return None
        return matrix_of(found.transform)


try:
    from rclpy.time import Time
    import tf2_ros
    make_broadcaster, make_lookup = tf2_ros.TransformBroadcaster, BufferLookup
except ImportError:
    make_broadcaster, make_lookup = Broadcaster, StaticLookup
