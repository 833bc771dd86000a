"""All publishers of results: what is sent, to whom, and how often."""

import time
from typing import Any, List, Mapping, Sequence, Tuple

from nav_msgs.msg import OccupancyGrid, Odometry, Path
import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from ..types import PointCloud
from .compat import tf2
from .messages import (
    cloud_message,
    grid_message,
    odometry_message,
    transform_message,
)
from .node_config import Live
from .odometry import BaseState
from .path_bytes import path_bytes

# a window that starts the stream gives a burst
_ODOMETRY_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
# REP-2003
_MAP_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL)
# one message a tile: a late subscriber gets them all again
_TILES_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE,
                        durability=DurabilityPolicy.TRANSIENT_LOCAL)
_LAST_WORDS = Duration(seconds=0.5)     # sent long before; acknowledged every 3 s only


class Publishers:
    """Writes what comes out of the front, in metres where the scale is known.

    Maps (~/path, ~/cloud, ~/tiles, ~/grid) are made and sent for somebody only. Tiles have a frame
    of their own each; after a closure their poses are sent, on ~/tile_poses, not their points.
    """

    def __init__(self, node: Node, live: Live):
        self._node, self._live = node, live
        self._odometry = node.create_publisher(Odometry, '~/odometry', _ODOMETRY_QOS)
        self._path = node.create_publisher(Path, '~/path', _MAP_QOS)
        self._cloud = node.create_publisher(PointCloud2, '~/cloud', _MAP_QOS)
        self._tiles = node.create_publisher(PointCloud2, '~/tiles', _TILES_QOS)
        self._tile_poses = node.create_publisher(TFMessage, '~/tile_poses', _MAP_QOS)
        self._grid = node.create_publisher(OccupancyGrid, '~/grid', _MAP_QOS)
        config = live.config
        self._transforms = None if config.tf_mode == 'none' else tf2.make_broadcaster(node)
        self._n_listeners = (0, 0, 0, 0)
        self.reset()

    def close(self) -> None:
        """Take the topics back."""
        for publisher in self._all():
            self._node.destroy_publisher(publisher)
        if self._transforms is not None:
            self._transforms.close()

    def _all(self) -> Sequence[Any]:
        return (self._odometry, self._path, self._cloud, self._tiles, self._tile_poses,
                self._grid)

    def reset(self) -> None:
        """Forget the path and the tiles."""
        self._stamps: List[int] = []
        self._poses: List[np.ndarray] = []
        self._path_at = -np.inf

    def wanted(self) -> Tuple[bool, bool, bool, bool]:
        """Return whether somebody wants clouds, tiles, a grid; and whether he is new.

        Who is new on the path gets it.
        """
        counts = tuple(publisher.get_subscription_count()
                       for publisher in (self._path, self._cloud, self._tiles, self._grid))
        is_new = [now > before for now, before in zip(counts, self._n_listeners)]
        self._n_listeners = counts
        if is_new[0]:
            self.write_path()
        return (*(count > 0 for count in counts[1:]), any(is_new[1:]))

    def write_state(self, state: BaseState) -> None:
        """Publish the odometry of one image, and its transform where it is ours."""
        config = self._live.config
        self._odometry.publish(odometry_message(state, config.odom_frame, config.base_frame))
        if config.tf_mode in ('full', 'odom'):
            self._send(state.stamp_ns, config.odom_frame, config.base_frame, state.T_odom_base)

    def write_map_odom(self, stamp_ns: int, T_map_odom: np.ndarray) -> None:
        """Send map -> odom, if it is ours."""
        config = self._live.config
        if config.tf_mode in ('full', 'map_odom'):
            self._send(stamp_ns, config.map_frame, config.odom_frame, T_map_odom)

    def add_path(self, stamps_ns: Sequence[int], T_map_base: Sequence[np.ndarray]) -> None:
        """Append poses to the path; publish it if it is time."""
        self._stamps += map(int, stamps_ns)
        self._poses += list(T_map_base)
        self._thin_path()
        if time.monotonic() - self._path_at >= self._live.config.path_period_s:
            self.write_path()

    def replace_path(self, stamps_ns: Sequence[int], T_map_base: Sequence[np.ndarray]) -> None:
        """Put poses in the place of the path: a closure has moved them."""
        self._stamps, self._poses = [], []
        self.add_path(stamps_ns, T_map_base)

    def write_path(self) -> None:
        """Publish ~/path now, if somebody listens."""
        self._path_at = time.monotonic()
        if not self._path.get_subscription_count():
            return
        poses = np.array(self._poses).reshape(-1, 4, 4)
        self._path.publish(path_bytes(self._stamps, poses, self._live.config.map_frame))

    def write_cloud(self, cloud: PointCloud, stamp_ns: int) -> None:
        """Publish the whole map, thinned, in the map's frame."""
        config = self._live.config
        self._cloud.publish(cloud_message(cloud, config.map_frame, stamp_ns, config.cloud_points))

    def write_tile(self, tile_id: int, revision: int, cloud: PointCloud, stamp_ns: int) -> None:
        """Publish one tile in its own frame, whose name ends with its number and revision."""
        self._tiles.publish(cloud_message(cloud, tile_frame(self._node, tile_id, revision),
                                          stamp_ns, max(1, len(cloud))))

    def write_tile_poses(self, frames: Mapping[Tuple[int, int], np.ndarray],
                         stamp_ns: int) -> None:
        """Publish where all tiles lie, by number and revision."""
        config = self._live.config
        transforms = [transform_message(stamp_ns, config.map_frame,
                                        tile_frame(self._node, *key), T)
                      for key, T in frames.items()]
        self._tile_poses.publish(TFMessage(transforms=transforms))

    def write_grid(self, grid: Mapping[str, Any], stamp_ns: int) -> None:
        """Publish an occupancy grid."""
        self._grid.publish(grid_message(grid, self._live.config.map_frame, stamp_ns))

    def finish(self) -> None:
        """Publish the whole path, and give the middleware time to send everything."""
        self.write_path()
        for publisher in self._all():
            publisher.wait_for_all_acked(_LAST_WORDS)

    def _send(self, stamp_ns: int, parent: str, child: str, T: np.ndarray) -> None:
        if self._transforms is not None:
            self._transforms.sendTransform([transform_message(stamp_ns, parent, child, T)])

    def _thin_path(self) -> None:
        """Leave out every second pose of a path that is too long; the newest stays."""
        while len(self._stamps) > self._live.config.path_poses:
            del self._stamps[-2::-2], self._poses[-2::-2]


def tile_frame(node: Node, tile_id: int, revision: int) -> str:
    """Return the frame of a tile; nodes of several robots have tiles of their own."""
    prefix = node.get_fully_qualified_name().strip('/').replace('/', '_')
    return f'{prefix}_tile_{tile_id}_{revision}'

