"""Where the camera sits on the robot."""

from typing import Optional

import numpy as np
from rclpy.node import Node

from .base_motion import T_BODY_OPTICAL
from .compat import tf2
from .parameters import NodeConfig


class Extrinsic:
    """Finds T_base_camera, the camera with optical axes (REP-103), in the tree of transforms.

    With ``auto`` and no such transform, or with ``none``, or when the images claim to be taken in
    the base frame itself, the camera is taken to be at the base, looking forward.
    """

    def __init__(self, node: Node, config: NodeConfig):
        self._node, self._config = node, config
        self._transforms = None if config.use_extrinsic == 'none' else tf2.make_lookup(node)

    def find(self, camera_frame: str) -> Optional[np.ndarray]:
        """Return T_base_camera (4, 4); None when it is required and not known yet."""
        base = self._config.base_frame
        if self._transforms is None or camera_frame == base:
            return T_BODY_OPTICAL
        T = self._transforms.lookup(base, camera_frame) if camera_frame else None
        if T is not None:
            return T
        missing = f'no transform from {base} to the camera frame "{camera_frame}" on /tf_static'
        if self._config.use_extrinsic == 'require':
            self._node.get_logger().warning(f'{missing}: images are dropped until it is there',
                                            throttle_duration_sec=10.0)
            return None
        self._node.get_logger().warning(f'{missing}: the camera is taken to be at {base}, looking '
                                        'forward; publish one, or set node.use_extrinsic to none')
        return T_BODY_OPTICAL
