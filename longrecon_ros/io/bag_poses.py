"""The true camera poses in a bag: a topic of poses, and static transforms to the camera."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..geometry import se3
from ..types import Trajectory

_TF_TYPES = ('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')

StaticTransforms = Mapping[tuple[str, str], np.ndarray]
"""(parent, child) to T_parent_child (4, 4)."""


def stamp_ns(message: Any) -> int:
    """Return the header stamp of a message, of ROS 1 or 2, in ns."""
    stamp = message.header.stamp
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def read_static_transforms(reader) -> StaticTransforms:
    """Return the transforms of ``/tf_static`` of an open `rosbags` reader, by frame names."""
    connections = [c for c in reader.connections
                   if c.topic.endswith('/tf_static') and c.msgtype in _TF_TYPES]
    transforms = {}
    for connection, _, raw in reader.messages(connections) if connections else ():
        for transform in reader.deserialize(raw, connection.msgtype).transforms:
            key = (_frame(transform.header.frame_id), _frame(transform.child_frame_id))
            transforms[key] = _matrix(transform.transform.translation,
                                      transform.transform.rotation)
    return transforms


def lookup(transforms: StaticTransforms, target: str, source: str) -> np.ndarray | None:
    """Return T_target_source (4, 4) along the tree of static transforms; None if not connected."""
    target, source = _frame(target), _frame(source)
    reached, front = {target: np.eye(4)}, [target]
    while front and source not in reached:
        frame = front.pop()
        for (parent, child), T_parent_child in transforms.items():
            if parent == frame and child not in reached:
                reached[child] = reached[frame] @ T_parent_child
                front.append(child)
            elif child == frame and parent not in reached:
                reached[parent] = reached[frame] @ se3.inverse(T_parent_child)
                front.append(parent)
    return reached.get(source)


def read_groundtruth(reader, topic: str, camera_frame: str) -> tuple[Trajectory, str | None]:
    """Read a topic of poses as the poses of the camera; return them and a warning, if any.

    An Odometry or TransformStamped says whose pose it is (``child_frame_id``): the static
    transform from there to ``camera_frame`` is appended, so that the pose of ``base_link`` becomes
    that of the camera's optical frame. Poses without a child frame, and those that no static
    transform connects to the camera, are taken as the camera's own; the latter with a warning.
    """
    connections = [c for c in reader.connections if c.topic == topic]
    stamps, poses, child = [], [], ''
    for connection, _, raw in reader.messages(connections):
        message = reader.deserialize(raw, connection.msgtype)
        stamps.append(stamp_ns(message))
        poses.append(_pose(message))
        child = _frame(getattr(message, 'child_frame_id', ''))
    unique, first = np.unique(np.array(stamps, np.int64), return_index=True)
    T_world_child = np.array(poses)[first]
    if not child or child == _frame(camera_frame):
        return Trajectory(unique, T_world_child), None
    T_child_camera = lookup(read_static_transforms(reader), child, camera_frame)
    if T_child_camera is None:
        warning = (f'There is no static transform from {child} to "{camera_frame}" in the bag; '
                   f'the ground truth on {topic} is taken as the pose of the camera itself.')
        return Trajectory(unique, T_world_child), warning
    return Trajectory(unique, T_world_child @ T_child_camera), None


def _pose(message: Any) -> np.ndarray:
    if hasattr(message, 'transform'):
        return _matrix(message.transform.translation, message.transform.rotation)
    pose = message.pose.pose if hasattr(message.pose, 'pose') else message.pose
    return _matrix(pose.position, pose.orientation)


def _matrix(position: Any, rotation: Any) -> np.ndarray:
    R = se3.rotation_from_quaternion_xyzw([rotation.x, rotation.y, rotation.z, rotation.w])
    return se3.from_parts(R, [position.x, position.y, position.z])


def _frame(name: str) -> str:
    return name.lstrip('/')
