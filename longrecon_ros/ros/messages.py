"""Records to ROS messages and back: pure functions, no node needed.

Frames are written in the axes they are given in; `odometry` brings them to body axes.
"""

from typing import Any, Mapping

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Quaternion, TransformStamped
from nav_msgs.msg import OccupancyGrid, Odometry
import numpy as np
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from ..geometry import se3
from ..types import PointCloud
from .compat import point_cloud2
from .odometry import BaseState

_NS = 1_000_000_000


def stamp_ns(time: Time) -> int:
    """Return a stamp as integer nanoseconds."""
    return time.sec * _NS + time.nanosec


def time_message(stamp: int) -> Time:
    """Return integer nanoseconds as a stamp, exactly."""
    sec, nanosec = divmod(stamp, _NS)
    return Time(sec=sec, nanosec=nanosec)


def header(stamp: int, frame: str) -> Header:
    """Return the header of something in ``frame`` at ``stamp`` nanoseconds."""
    return Header(stamp=time_message(stamp), frame_id=frame)


def transform_message(stamp: int, parent: str, child: str, T: np.ndarray) -> TransformStamped:
    """Return T_parent_child (4, 4) as a message."""
    message = TransformStamped(header=header(stamp, parent), child_frame_id=child)
    translation = message.transform.translation
    translation.x, translation.y, translation.z = T[:3, 3].tolist()
    message.transform.rotation = _quaternion(T)
    return message


def matrix_of(transform) -> np.ndarray:
    """Return a geometry_msgs Transform as a (4, 4) matrix."""
    q, t = transform.rotation, transform.translation
    return se3.from_parts(se3.rotation_from_quaternion_xyzw([q.x, q.y, q.z, q.w]),
                          [t.x, t.y, t.z])


def odometry_message(state: BaseState, odom_frame: str, base_frame: str) -> Odometry:
    """Return the pose of the base in odom and its velocity in base axes."""
    message = Odometry(header=header(state.stamp_ns, odom_frame), child_frame_id=base_frame)
    message.pose.pose = pose_message(state.T_odom_base)
    message.pose.covariance = state.pose_covariance.ravel()
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    linear.x, linear.y, linear.z = state.twist[:3].tolist()
    angular.x, angular.y, angular.z = state.twist[3:].tolist()
    message.twist.covariance = state.twist_covariance.ravel()
    return message


def cloud_message(cloud: PointCloud, frame: str, stamp: int, max_points: int) -> PointCloud2:
    """Return a cloud as x, y, z, rgb of 16 bytes a point; evenly thinned to ``max_points``."""
    points, colors = cloud.points, cloud.colors
    if len(points) > max_points:
        chosen = np.linspace(0, len(points) - 1, max_points).astype(np.intp)
        points, colors = points[chosen], colors[chosen]
    rows = np.empty((len(points), 4), np.float32)
    rows[:, :3] = points
    packed = colors.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    rows[:, 3] = packed.astype(np.uint32).view(np.float32)
    return point_cloud2.create_xyzrgb(header(stamp, frame), rows)


def grid_message(grid: Mapping[str, Any], frame: str, stamp: int) -> OccupancyGrid:
    """Return an occupancy grid: ``cells`` (h, w) int8, -1 unknown, 0 free to 100 occupied."""
    cells = np.ascontiguousarray(grid['cells'], np.int8)
    message = OccupancyGrid(header=header(stamp, frame))
    message.info.map_load_time = message.header.stamp
    message.info.resolution = float(grid['resolution_m'])
    message.info.height, message.info.width = cells.shape
    message.info.origin = pose_message(grid['T_map_origin'])
    # the setter would go through an ndarray one element at a time
    message.data.frombytes(cells.tobytes())
    return message


def pose_message(T: np.ndarray) -> Pose:
    """Return T (4, 4) as a message."""
    pose = Pose(orientation=_quaternion(T))
    pose.position.x, pose.position.y, pose.position.z = T[:3, 3].tolist()
    return pose


def _quaternion(T: np.ndarray) -> Quaternion:
    x, y, z, w = se3.quaternion_xyzw_from_rotation(T[:3, :3]).tolist()
    return Quaternion(x=x, y=y, z=z, w=w)
