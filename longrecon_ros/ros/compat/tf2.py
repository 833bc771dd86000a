"""Sending and looking up transforms: by tf2_ros where it is installed, else by stand-ins."""

from bisect import bisect_left
from collections import deque
from typing import Deque, Dict, List, Optional

from geometry_msgs.msg import TransformStamped
import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from ...geometry import se3
from ..messages import matrix_of, stamp_ns

_RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL)
_KEPT = 1000            # transforms of one edge


class Broadcaster:
    """Sends transforms on /tf."""

    def __init__(self, node: Node):
        self._node = node
        self._publisher = node.create_publisher(TFMessage, '/tf', _RELIABLE)

    def close(self) -> None:
        """Send no more."""
        self._node.destroy_publisher(self._publisher)

    def sendTransform(self, transforms: List[TransformStamped]) -> None:  # noqa: N802, as tf2_ros
        """Send several transforms in one message."""
        self._publisher.publish(TFMessage(transforms=transforms))


class _Edge:
    """What is known of one child frame: its parent, and T_parent_child over time."""

    def __init__(self, parent: str):
        self.parent = parent
        self._stamps: Deque[int] = deque(maxlen=_KEPT)
        self._poses: Deque[np.ndarray] = deque(maxlen=_KEPT)
        self.is_static = False

    def add(self, stamp: int, T: np.ndarray, is_static: bool) -> None:
        if is_static or (self._stamps and stamp < self._stamps[-1]):
            # one that always holds, or a clock that was set back
            self._stamps.clear()
            self._poses.clear()
        self.is_static = is_static
        self._stamps.append(stamp)
        self._poses.append(T)

    def at(self, stamp: Optional[int]) -> Optional[np.ndarray]:
        """Return T_parent_child at a time, ns, or the newest; None outside of what is known."""
        if self.is_static or stamp is None:
            return self._poses[-1]
        if not self._stamps[0] <= stamp <= self._stamps[-1]:
            return None
        after = bisect_left(self._stamps, stamp)
        if self._stamps[after] == stamp:
            return self._poses[after]
        a, b = self._stamps[after - 1], self._stamps[after]
        return se3.interpolate(self._poses[after - 1], self._poses[after],
                               np.array([(stamp - a) / (b - a)]))[0]


class TransformLookup:
    """Knows the transforms of /tf and /tf_static, whoever sends them."""

    def __init__(self, node: Node):
        self._node = node
        self._edges: Dict[str, _Edge] = {}      # by child
        self._subscriptions = [
            node.create_subscription(TFMessage, '/tf', lambda m: self._take(m, False), _RELIABLE),
            node.create_subscription(TFMessage, '/tf_static', lambda m: self._take(m, True),
                                     _LATCHED)]

    def close(self) -> None:
        """Listen no more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def lookup(self, target: str, source: str, stamp: Optional[int] = None
               ) -> Optional[np.ndarray]:
        """Return T_target_source (4, 4) at a time, ns, or the newest.

        None when the tree does not connect the two (yet), or not at that time.
        """
        to_target, to_source = (self._ancestors(frame, stamp) for frame in (target, source))
        common = next((frame for frame in to_source if frame in to_target), None)
        if common is None:
            return None
        return se3.inverse(to_target[common]) @ to_source[common]

    def _take(self, message: TFMessage, is_static: bool) -> None:
        for transform in message.transforms:
            child = transform.child_frame_id.lstrip('/')
            parent = transform.header.frame_id.lstrip('/')
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent:
                edge = self._edges[child] = _Edge(parent)
            edge.add(stamp_ns(transform.header.stamp), matrix_of(transform.transform), is_static)

    def _ancestors(self, frame: str, stamp: Optional[int]) -> Dict[str, np.ndarray]:
        """Return {ancestor: T_ancestor_frame} from the frame itself up to its root."""
        frame = frame.lstrip('/')
        T, found = np.eye(4), {}
        while frame not in found:
            found[frame] = T
            T_parent = self._edges[frame].at(stamp) if frame in self._edges else None
            if T_parent is None:
                break
            frame, T = self._edges[frame].parent, T_parent @ T
        return found


class Tf2Broadcaster:
    """The same by tf2_ros."""

    def __init__(self, node: Node):
        self._node, self._broadcaster = node, tf2_ros.TransformBroadcaster(node)

    def close(self) -> None:
        """Send no more."""
        self._node.destroy_publisher(self._broadcaster.pub_tf)

    def sendTransform(self, transforms: List[TransformStamped]) -> None:  # noqa: N802, as tf2_ros
        """Send several transforms in one message."""
        self._broadcaster.sendTransform(transforms)


class BufferLookup:
    """The same questions to tf2_ros."""

    def __init__(self, node: Node):
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def close(self) -> None:
        """Listen no more."""
        self._listener.unregister()

    def lookup(self, target: str, source: str, stamp: Optional[int] = None
               ) -> Optional[np.ndarray]:
        """Return T_target_source (4, 4) at a time, ns, or the newest; None where it cannot."""
        time = Time() if stamp is None else Time(nanoseconds=stamp)
        try:
            found = self._buffer.lookup_transform(target.lstrip('/'), source.lstrip('/'), time)
        except tf2_ros.TransformException:
            return None
        return matrix_of(found.transform)


try:
    from rclpy.time import Time
    import tf2_ros
    make_broadcaster, make_lookup = Tf2Broadcaster, BufferLookup
except ImportError:
    make_broadcaster, make_lookup = Broadcaster, TransformLookup

