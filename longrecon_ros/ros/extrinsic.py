"""Where the camera sits on the robot."""

import time
from typing import Optional

import numpy as np
from rclpy.node import Node

from .compat import tf2
from .node_config import NodeConfig
from .odometry import T_BODY_OPTICAL


class Extrinsic:
    """Finds T_base_camera, the camera with optical axes (REP-103), in the tree of transforms.

    With ``require`` it is waited for; with ``auto`` for ``extrinsic_wait_s``, then the camera is
    taken to be at the base, looking forward, and that is told; with ``none`` so from the start.
    Images that claim to be taken in the base frame itself are taken to look forward, too.
    """

    def __init__(self, node: Node, config: NodeConfig):
        self._node, self._config = node, config
        self._transforms = None if config.use_extrinsic == 'none' else tf2.make_lookup(node)
        self._asked_at: Optional[float] = None

    def close(self) -> None:
        """Listen no more."""
        if self._transforms is not None:
            self._transforms.close()

    def find(self, camera_frame: str) -> Optional[np.ndarray]:
        """Return T_base_camera (4, 4); None as long as it is waited for."""
        base, config = self._config.base_frame, self._config
        if self._transforms is None or camera_frame == base:
            return T_BODY_OPTICAL
        T = self._transforms.lookup(base, camera_frame) if camera_frame else None
        if T is not None:
            return T
        self._asked_at = self._asked_at or time.monotonic()
        waited_s = time.monotonic() - self._asked_at
        missing = f'no transform from {base} to the camera frame "{camera_frame}"'
        if config.use_extrinsic == 'require' or waited_s < config.extrinsic_wait_s:
            self._node.get_logger().warning(f'{missing}: images wait until it is there',
                                            throttle_duration_sec=10.0)
            return None
        self._node.get_logger().warning(f'{missing}: the camera is taken to be at {base}, looking '
                                        'forward; publish one, or set node.use_extrinsic to none')
        return T_BODY_OPTICAL

    def is_mounted(self, camera_frame: str) -> Optional[bool]:
        """Say whether the transform is known; None where nobody asks for it."""
        if self._transforms is None or camera_frame == self._config.base_frame:
            return None
        return bool(camera_frame) and \
            self._transforms.lookup(self._config.base_frame, camera_frame) is not None
