"""The sink that owns all publishers of results."""

import time
from typing import List, Optional

from nav_msgs.msg import Odometry, Path
import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2

from ..types import PointCloud, Update
from .base_motion import BaseMotion
from .compat import tf2
from .messages import cloud_message, odometry_message, path_message, transform_message
from .parameters import NodeConfig

# a window gives a burst
_ODOMETRY_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
# REP-2003
_MAP_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL)
_LAST_WORDS = Duration(seconds=0.5)     # sent long before; acknowledged every 3 s only


class Publishers:
    """Writes updates as ~/odometry, /tf and ~/path, and the map as ~/cloud.

    A window gives as many odometry messages and transforms as it has new images, each with the
    stamp of its image. ~/path and ~/cloud are latched and limited in rate and size.
    """

    def __init__(self, node: Node, config: NodeConfig):
        self._config = config
        self._odometry = node.create_publisher(Odometry, '~/odometry', _ODOMETRY_QOS)
        self._path = node.create_publisher(Path, '~/path', _MAP_QOS)
        self._cloud = node.create_publisher(PointCloud2, '~/cloud', _MAP_QOS)
        self._transforms = tf2.make_broadcaster(node) if config.publish_tf else None
        self.reset()

    def reset(self) -> None:
        """Forget the path."""
        self._stamps: List[int] = []
        self._poses: List[np.ndarray] = []
        self._path_at = -np.inf

    def write(self, update: Update, motion: BaseMotion, cloud: Optional[PointCloud]) -> None:
        """Publish what one window added, and the map if it is given."""
        config, T_map_odom = self._config, motion.map_over_odom(update.T_map_odom)
        for state in motion.take(update):
            self._odometry.publish(odometry_message(state, config.odom_frame, config.base_frame))
            if self._transforms is not None:
                self._transforms.sendTransform([
                    transform_message(state.stamp_ns, config.map_frame, config.odom_frame,
                                      T_map_odom),
                    transform_message(state.stamp_ns, config.odom_frame, config.base_frame,
                                      state.T_odom_base)])
            self._stamps.append(state.stamp_ns)
            self._poses.append(T_map_odom @ state.T_odom_base)
        self._thin_path()
        if time.monotonic() - self._path_at >= config.path_period_s:
            self.write_path()
        if cloud is not None:
            in_map = PointCloud(motion.to_base_axes(cloud.points), cloud.colors)
            self._cloud.publish(cloud_message(in_map, config.map_frame,
                                              int(update.stamps_ns[-1]), config.cloud_points))

    def write_path(self) -> None:
        """Publish ~/path now."""
        self._path_at = time.monotonic()
        self._path.publish(path_message(self._stamps, self._poses, self._config.map_frame))

    def finish(self) -> None:
        """Publish the whole path, and give the middleware time to send everything."""
        self.write_path()
        for publisher in (self._odometry, self._path, self._cloud):
            publisher.wait_for_all_acked(_LAST_WORDS)

    def _thin_path(self) -> None:
        """Leave out every second pose of a path that is too long; the newest stays."""
        while len(self._stamps) > self._config.path_poses:
            del self._stamps[-2::-2], self._poses[-2::-2]
