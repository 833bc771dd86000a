"""Small bags for tests, written with `rosbags`: one camera, calibration, odometry, static tf."""

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer as Writer2
from rosbags.typesys import get_typestore, Stores

STORE1 = get_typestore(Stores.ROS1_NOETIC)
STORE2 = get_typestore(Stores.ROS2_HUMBLE)


class Messages:
    """Makes messages of ROS 1 or ROS 2 with the types of one store."""

    def __init__(self, store):
        self.store = store
        self.is_ros1 = store is STORE1

    def make(self, name: str, **fields):
        return self.store.types[name](**fields)

    def header(self, stamp_ns: int, frame_id: str = 'camera_optical'):
        stamp = self.make('builtin_interfaces/msg/Time', sec=stamp_ns // 10**9,
                          nanosec=stamp_ns % 10**9)
        sequence = {'seq': 0} if self.is_ros1 else {}
        return self.make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id, **sequence)

    def image(self, pixels: np.ndarray, stamp_ns: int, encoding: str = 'bgr8'):
        data = np.ascontiguousarray(pixels)
        return self.make('sensor_msgs/msg/Image', header=self.header(stamp_ns),
                         height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                         is_bigendian=0, step=data.strides[0],
                         data=data.reshape(-1).view(np.uint8))

    def compressed(self, pixels: np.ndarray, stamp_ns: int, suffix: str = '.png'):
        return self.make('sensor_msgs/msg/CompressedImage', header=self.header(stamp_ns),
                         format=suffix[1:], data=cv2.imencode(suffix, pixels)[1].reshape(-1))

    def camera_info(self, K: np.ndarray, size: tuple, stamp_ns: int, D=(), model='plumb_bob'):
        roi = self.make('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0,
                        width=0, do_rectify=False)
        fields = {'k': np.ravel(K).astype(float), 'd': np.array(D, float),
                  'r': np.eye(3).ravel(), 'p': np.eye(3, 4).ravel()}
        if self.is_ros1:
            fields = {name.upper(): value for name, value in fields.items()}
        return self.make('sensor_msgs/msg/CameraInfo', header=self.header(stamp_ns),
                         width=size[0], height=size[1], distortion_model=model, binning_x=0,
                         binning_y=0, roi=roi, **fields)

    def odometry(self, position, quaternion_xyzw, stamp_ns: int, child: str = 'base_link'):
        zero = self.make('geometry_msgs/msg/Vector3', x=0., y=0., z=0.)
        twist = self.make('geometry_msgs/msg/TwistWithCovariance', covariance=np.zeros(36),
                          twist=self.make('geometry_msgs/msg/Twist', linear=zero, angular=zero))
        pose = self.make('geometry_msgs/msg/PoseWithCovariance', covariance=np.zeros(36),
                         pose=self.pose(position, quaternion_xyzw))
        return self.make('nav_msgs/msg/Odometry', header=self.header(stamp_ns, 'odom'),
                         child_frame_id=child, pose=pose, twist=twist)

    def pose(self, position, quaternion_xyzw):
        return self.make('geometry_msgs/msg/Pose',
                         position=self._xyz('Point', position),
                         orientation=self._quaternion(quaternion_xyzw))

    def static_tf(self, parent: str, child: str, position, quaternion_xyzw):
        transform = self.make('geometry_msgs/msg/Transform',
                              translation=self._xyz('Vector3', position),
                              rotation=self._quaternion(quaternion_xyzw))
        stamped = self.make('geometry_msgs/msg/TransformStamped', child_frame_id=child,
                            header=self.header(0, parent), transform=transform)
        return self.make('tf2_msgs/msg/TFMessage', transforms=[stamped])

    def _xyz(self, kind: str, xyz):
        return self.make(f'geometry_msgs/msg/{kind}', x=float(xyz[0]), y=float(xyz[1]),
                         z=float(xyz[2]))

    def _quaternion(self, q):
        return self.make('geometry_msgs/msg/Quaternion', x=float(q[0]), y=float(q[1]),
                         z=float(q[2]), w=float(q[3]))


def write_bag(path: Path, entries, storage: str = 'mcap') -> Path:
    """Write (topic, message, time ns) entries as ``mcap``, ``sqlite3`` or ``ros1``."""
    if storage == 'ros1':
        writer, store = Writer1(path), STORE1
        serialize = store.serialize_ros1
    else:
        writer, store = Writer2(path, version=9, storage_plugin=StoragePlugin[storage.upper()]), \
            STORE2
        serialize = store.serialize_cdr
    with writer:
        connections = {}
        for topic, message, stamp_ns in entries:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], stamp_ns, serialize(message, kind))
    return path
