"""ROS 2 messages of a synthetic recording, made with the types of `rosbags`: no ROS needed."""

from typing import Any, Sequence

import cv2
import numpy as np

from ..geometry import se3
from .camera import SyntheticCamera

_FORMATS = {'jpeg': ('.jpg', 'jpeg'), 'png': ('.png', 'png')}
_JPEG_QUALITY = 95


class MessageMaker:
    """Makes messages with the types of one `rosbags` type store."""

    def __init__(self, types):
        self._types = types

    def image(self, image: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
        """Return a raw rgb8 ``Image``."""
        height, width = image.shape[:2]
        return self._make('sensor_msgs/msg/Image', header=self._header(stamp_ns, frame_id),
                          height=height, width=width, encoding='rgb8', is_bigendian=0,
                          step=3 * width, data=np.ascontiguousarray(image).reshape(-1))

    def compressed(self, image: np.ndarray, stamp_ns: int, frame_id: str, kind: str) -> Any:
        """Return a ``CompressedImage``; ``kind`` is ``jpeg`` or ``png``."""
        suffix, name = _FORMATS[kind]
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if kind == 'jpeg' else []
        data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
        return self._make('sensor_msgs/msg/CompressedImage',
                          header=self._header(stamp_ns, frame_id),
                          format=f'rgb8; {name} compressed bgr8', data=data.reshape(-1))

    def camera_info(self, camera: SyntheticCamera, stamp_ns: int, frame_id: str) -> Any:
        """Return the ``CameraInfo`` of an unrectified image."""
        distortion = np.zeros(5)
        if camera.distortion is not None:
            distortion[:len(camera.distortion)] = camera.distortion
        roi = self._make('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0,
                         width=0, do_rectify=False)
        P = np.hstack([camera.K, np.zeros((3, 1))])
        return self._make('sensor_msgs/msg/CameraInfo', header=self._header(stamp_ns, frame_id),
                          height=camera.height, width=camera.width, distortion_model='plumb_bob',
                          d=distortion, k=camera.K.ravel(), r=np.eye(3).ravel(), p=P.ravel(),
                          binning_x=0, binning_y=0, roi=roi)

    def odometry(self, T_map_base: np.ndarray, velocity: np.ndarray, stamp_ns: int,
                 frame_id: str, child_frame_id: str) -> Any:
        """Return an ``Odometry`` without error; ``velocity`` is that of `Film.velocity`."""
        pose = self._make('geometry_msgs/msg/Pose', position=self._xyz('Point', T_map_base[:3, 3]),
                          orientation=self._quaternion(T_map_base))
        twist = self._make('geometry_msgs/msg/Twist', linear=self._xyz('Vector3', velocity[:3]),
                           angular=self._xyz('Vector3', velocity[3:]))
        return self._make(
            'nav_msgs/msg/Odometry', header=self._header(stamp_ns, frame_id),
            child_frame_id=child_frame_id,
            pose=self._make('geometry_msgs/msg/PoseWithCovariance', pose=pose,
                            covariance=np.zeros(36)),
            twist=self._make('geometry_msgs/msg/TwistWithCovariance', twist=twist,
                             covariance=np.zeros(36)))

    def transform(self, T_parent_child: np.ndarray, stamp_ns: int, parent: str,
                  child: str) -> Any:
        """Return a ``TFMessage`` with one transform."""
        transform = self._make('geometry_msgs/msg/Transform',
                               translation=self._xyz('Vector3', T_parent_child[:3, 3]),
                               rotation=self._quaternion(T_parent_child))
        stamped = self._make('geometry_msgs/msg/TransformStamped', child_frame_id=child,
                             header=self._header(stamp_ns, parent), transform=transform)
        return self._make('tf2_msgs/msg/TFMessage', transforms=[stamped])

    def _make(self, name: str, **fields) -> Any:
        return self._types[name](**fields)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        sec, nanosec = divmod(stamp_ns, 10**9)
        stamp = self._make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)
        return self._make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)

    def _xyz(self, kind: str, xyz: Sequence[float]) -> Any:
        x, y, z = (float(value) for value in xyz)
        return self._make(f'geometry_msgs/msg/{kind}', x=x, y=y, z=z)

    def _quaternion(self, T: np.ndarray) -> Any:
        x, y, z, w = se3.quaternion_xyzw_from_rotation(T[:3, :3]).tolist()
        return self._make('geometry_msgs/msg/Quaternion', x=x, y=y, z=z, w=w)
