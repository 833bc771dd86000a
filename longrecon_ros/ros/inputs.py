"""What the node listens to while it is active."""

from collections import deque
import time
from typing import Any, Deque, List, Optional, Tuple

from nav_msgs.msg import Odometry
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from ..errors import InputError
from ..geometry import se3
from ..io.calibration import Calibration
from ..io.image_message import depth_to_metres
from .camera import Camera
from .engine import Engine
from .extrinsic import Extrinsic
from .front import ImageJob
from .messages import stamp_ns

_SENSOR_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
_DEPTH_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
_REPORT_S = 5.0
_LOOK_S = 0.1           # between two looks for the camera's place


class Inputs:
    """Subscriptions of a `SlamNode`: the camera, its mounting, and what tells the scale."""

    def __init__(self, node: Any, engine: Engine):
        self._node, self._engine = node, engine
        config = node.live.config
        self.is_paused = False
        self.extrinsic = Extrinsic(node, config)
        self._T_base_camera: Optional[np.ndarray] = None
        self.camera = Camera(node, config, self._take_image, self.extrinsic.is_mounted)
        # images that wait for the camera's place, with what was known when they came
        self._held: Deque[Tuple[Any, Optional[Calibration], int, float]] = deque()
        self._timer = node.create_timer(_LOOK_S, self._look,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._others: List[Any] = []
        if engine.scale_source == 'wheel':
            self._others.append(node.create_subscription(
                Odometry, 'wheel_odometry', self._take_wheel, _SENSOR_QOS))
        elif engine.scale_source == 'depth':
            self._others.append(node.create_subscription(
                Image, 'depth', self._take_depth, _DEPTH_QOS))

    def close(self) -> None:
        """Listen no more."""
        self._node.destroy_timer(self._timer)
        self.camera.close()
        self.extrinsic.close()
        for subscription in self._others:
            self._node.destroy_subscription(subscription)

    def _take_image(self, message: Any, calibration: Optional[Calibration]) -> None:
        self._node.status.received()
        if self.is_paused:
            return
        now = self._node.get_clock().now().nanoseconds, time.monotonic()
        self._held.append((message, calibration, *now))
        if not self._look():
            # the oldest goes, as long as nobody knows where the camera sits
            while len(self._held) > self._node.live.config.queue_size:
                self._held.popleft()
                self.camera.n_lost += 1

    def _look(self) -> bool:
        """Let the held images go if the camera's place is known; say whether it is."""
        if not self._held:
            return True
        if self._T_base_camera is None:
            self._T_base_camera = self.extrinsic.find(self._held[-1][0].header.frame_id)
        if self._T_base_camera is None:
            return False
        while self._held:
            message, calibration, now_ns, arrived_s = self._held.popleft()
            self._engine.front.offer(ImageJob(
                message, stamp_ns(message.header.stamp), calibration, self._T_base_camera,
                self.camera.topic, now_ns, arrived_s))
        return True

    def _take_wheel(self, message: Odometry) -> None:
        pose = message.pose.pose
        q, p = pose.orientation, pose.position
        try:
            R = se3.rotation_from_quaternion_xyzw([q.x, q.y, q.z, q.w])
        except ValueError as error:
            self._node.get_logger().warning(f'wheel_odometry: {error}; it is left out',
                                            throttle_duration_sec=_REPORT_S)
            return
        front = self._engine.front
        front.post(front.wheel, stamp_ns(message.header.stamp),
                   se3.from_parts(R, [p.x, p.y, p.z]))

    def _take_depth(self, message: Image) -> None:
        try:
            depth_m = depth_to_metres(message, 'depth')
        except InputError as error:
            self._node.get_logger().warning(str(error), throttle_duration_sec=_REPORT_S)
            return
        front = self._engine.front
        front.post(front.depth, stamp_ns(message.header.stamp), depth_m)
