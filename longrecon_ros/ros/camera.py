"""The camera as topics: images and their calibration, with the publisher's quality of service."""

import time
from typing import Any, Callable, List, Optional

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ..errors import InputError
from ..io.bag_topics import is_rectified
from ..io.calibration import Calibration
from ..io.camera_info import calibration_of
from .compat.sequence import GapCounter
from .doctor import Doctor
from .doctor_watch import Watch
from .endpoints import choose_qos, offers_of, Request
from .findings import Finding
from .node_config import NodeConfig

_LOOK_S = 0.1           # between two looks for publishers and for the end of waiting
_INFO_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
_RELIABILITY = {'reliable': ReliabilityPolicy.RELIABLE,
                'best_effort': ReliabilityPolicy.BEST_EFFORT}

OnImage = Callable[[Any, Optional[Calibration]], None]


class Camera:
    """Subscribes to one camera and hands on each image with the calibration of its time.

    The topic ``image`` may be remapped; ``camera_info`` is the one beside it unless remapped, too.
    Images wait for the first camera_info, ``calibration_wait_s`` at most, the oldest in excess of
    the queue dropped; ``n_lost`` counts those and what was lost on the way, by its numbers. A
    camera_info of zeros means that K has to be estimated. One with NaN is an error: images are
    dropped until a good one comes, `fault` says why. A calibration that changes later goes along
    with the images from then on.
    """

    def __init__(self, node: Node, config: NodeConfig, on_image: OnImage,
                 is_mounted: Callable[[str], Optional[bool]]):
        self._node, self._config, self._on_image = node, config, on_image
        image = node.resolve_topic_name('image')
        is_compressed = config.image_transport == 'compressed'
        self.topic = f'{image}/compressed' if is_compressed else image
        self._type = CompressedImage if is_compressed else Image
        self.n_received = self.n_lost = self._n_missing = 0
        self.fault = ''
        self.calibration: Optional[Calibration] = None
        self._request = Request()
        self._is_decided = False                # calibrated, or known to go without
        self._waiting: List[Any] = []
        self._first_at: Optional[float] = None
        self._images: Any = None
        self._last_info: Any = None
        self.info_topic = self._find_info_topic(image)
        kind = f'sensor_msgs/msg/{self._type.__name__}'
        self._watch = Watch(node, Doctor(self.topic, self.info_topic), self.topic,
                            self.info_topic, kind=kind, base_frame=config.base_frame,
                            is_mounted=is_mounted)
        self._infos = node.create_subscription(CameraInfo, self.info_topic, self._take_info,
                                               _INFO_QOS)
        # not the node's clock: with simulated time it stands still between two messages
        self._timer = node.create_timer(_LOOK_S, self._look,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._look()

    def examine(self) -> List[Finding]:
        """Return what is wrong with the camera's topics now."""
        return self._watch.examine(self._request)

    def close(self) -> None:
        """Listen no more."""
        self._node.destroy_timer(self._timer)
        for subscription in filter(None, (self._images, self._infos)):
            self._node.destroy_subscription(subscription)

    def _find_info_topic(self, image: str) -> str:
        resolved = self._node.resolve_topic_name('camera_info')
        is_remapped = resolved != self._node.resolve_topic_name('camera_info', only_expand=True)
        return resolved if is_remapped else image.rpartition('/')[0] + '/camera_info'

    def _look(self) -> None:
        """Subscribe once there is a publisher to match, and stop waiting for a calibration."""
        if self._images is None:
            self._subscribe()
        if not self._is_decided and self._first_at is not None and not self.fault and \
                time.monotonic() - self._first_at >= self._config.calibration_wait_s:
            self._decide(None, f'no calibration on {self.info_topic}: K will be estimated')
        if self._images is not None and self._is_decided:
            self._timer.cancel()

    def _subscribe(self) -> None:
        reliability = _RELIABILITY.get(self._config.image_qos)
        durability, why = DurabilityPolicy.VOLATILE, 'as node.image_qos says'
        if reliability is None:
            offers = offers_of(self._node, self.topic)
            if not offers:
                return
            reliability, durability, why = choose_qos(offers)
        else:
            why = f'{reliability.name.lower()}, {why}'
        self._request = Request(reliability, durability)
        qos = QoSProfile(depth=self._config.queue_size, reliability=reliability,
                         durability=durability)
        counter = GapCounter(self._take_image, self._lose)
        self._images = self._node.create_subscription(
            self._type, self.topic, counter.callback, qos,
            event_callbacks=self._watch.event_callbacks())
        self._node.get_logger().info(f'images: {self.topic}, {why}')

    def _take_info(self, message: CameraInfo) -> None:
        if self._is_same_info(message):
            return
        try:
            calibration = calibration_of(message, is_rectified(self.topic), self.info_topic)
        except InputError as error:
            self._complain(str(error))
            self._watch.take_info('bad', str(error))
            return
        self.fault, self._last_info = '', message
        self._watch.take_info('good' if calibration else 'uncalibrated', '',
                              calibration.size if calibration else None)
        if self._is_decided:
            self.calibration = calibration
            return
        told = '' if calibration else f'no calibration on {self.info_topic}: K will be estimated'
        self._decide(calibration, told)

    def _complain(self, text: str) -> None:
        if text != self.fault:
            end = '' if self._is_decided else '; images are dropped until then'
            self._node.get_logger().error(text + end)
        self.fault = text

    def _is_same_info(self, message: CameraInfo) -> bool:
        """Say whether a camera_info is the last one again, apart from its stamp."""
        last = self._last_info
        return last is not None and not self.fault and all(
            np.array_equal(getattr(last, name), getattr(message, name))
            for name in ('k', 'd', 'p')) and all(
            getattr(last, name) == getattr(message, name)
            for name in ('width', 'height', 'distortion_model', 'binning_x', 'binning_y', 'roi'))

    def _decide(self, calibration: Optional[Calibration], warning: str) -> None:
        """Begin with a calibration and let the waiting images go."""
        if warning:
            self._node.get_logger().warning(warning)
        self.calibration, self._is_decided = calibration, True
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._on_image(message, calibration)

    def _take_image(self, message: Any) -> None:
        self.n_received += 1
        self._watch.take_image(message, self._n_missing)
        self._n_missing = 0
        if self._is_decided:
            self._on_image(message, self.calibration)
            return
        self._first_at = self._first_at or time.monotonic()
        self._waiting.append(message)
        if self.fault or len(self._waiting) > self._config.queue_size:
            del self._waiting[0]
            self.n_lost += 1

    def _lose(self, n: int) -> None:
        # several publishers number their messages each for itself
        if self._node.count_publishers(self.topic) == 1:
            self.n_lost += n
            self._n_missing = n
