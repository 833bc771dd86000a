"""The camera as topics: images and their calibration, with the publisher's quality of service."""

import time
from typing import Any, Callable, List, Optional

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ..errors import InputError
from ..io.bag_topics import is_rectified
from ..io.calibration import Calibration
from ..io.camera_info import calibration_of
from .compat.sequence import GapCounter
from .parameters import NodeConfig

_LOOK_S = 0.1           # between two looks for publishers and for the end of waiting
_INFO_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
_RELIABILITY = {'reliable': ReliabilityPolicy.RELIABLE,
                'best_effort': ReliabilityPolicy.BEST_EFFORT}

OnImage = Callable[[Any, Optional[Calibration]], None]


class Camera:
    """Subscribes to one camera and hands on each image with the calibration.

    The topic ``image`` may be remapped; ``camera_info`` is the one beside it unless remapped, too.
    Images wait for the first camera_info, ``calibration_wait_s`` at most, the oldest in excess of
    the queue dropped; ``n_lost`` counts those and what was lost on the way, by its numbers. A
    camera_info of zeros means that K has to be estimated. One with NaN is an error: images are
    dropped until a good one comes, `fault` says why.
    """

    def __init__(self, node: Node, config: NodeConfig, on_image: OnImage):
        self._node, self._config, self._on_image = node, config, on_image
        image = node.resolve_topic_name('image')
        is_compressed = config.image_transport == 'compressed'
        self.topic = f'{image}/compressed' if is_compressed else image
        self._type = CompressedImage if is_compressed else Image
        self.n_received = self.n_lost = 0
        self.fault = ''
        self._calibration: Optional[Calibration] = None
        self._is_decided = False                # calibrated, or known to go without
        self._waiting: List[Any] = []
        self._first_at: Optional[float] = None
        self._images = None
        self._info_topic = self._find_info_topic(image)
        self._infos = node.create_subscription(CameraInfo, self._info_topic, self._take_info,
                                               _INFO_QOS)
        # not the node's clock: with simulated time it stands still between two messages
        self._timer = node.create_timer(_LOOK_S, self._look,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._look()

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
            self._decide(None, f'no calibration on {self._info_topic}: K will be estimated')
        if self._images is not None and self._is_decided:
            self._timer.cancel()

    def _subscribe(self) -> None:
        reliability = _RELIABILITY.get(self._config.image_qos)
        if reliability is None:
            offers = {publisher.qos_profile.reliability for publisher
                      in self._node.get_publishers_info_by_topic(self.topic)}
            if not offers:
                return
            # best effort takes from every publisher, reliable from reliable ones only
            all_reliable = offers == {ReliabilityPolicy.RELIABLE}
            reliability = _RELIABILITY['reliable' if all_reliable else 'best_effort']
        qos = QoSProfile(depth=self._config.queue_size, reliability=reliability)
        counter = GapCounter(self._take_image, self._lose)
        self._images = self._node.create_subscription(self._type, self.topic, counter.callback,
                                                      qos)
        self._node.get_logger().info(f'images: {self.topic}, {reliability.name.lower()}')

    def _take_info(self, message: CameraInfo) -> None:
        if self._is_decided:
            return
        try:
            calibration = calibration_of(message, is_rectified(self.topic), self._info_topic)
        except InputError as error:
            if str(error) != self.fault:
                self._node.get_logger().error(f'{error}; images are dropped until then')
            self.fault = str(error)
            return
        self.fault = ''
        told = '' if calibration else f'no calibration on {self._info_topic}: K will be estimated'
        self._decide(calibration, told)

    def _decide(self, calibration: Optional[Calibration], warning: str) -> None:
        """Fix the calibration of the stream and let the waiting images go."""
        if warning:
            self._node.get_logger().warning(warning)
        self._calibration, self._is_decided = calibration, True
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._on_image(message, calibration)

    def _take_image(self, message: Any) -> None:
        self.n_received += 1
        if self._is_decided:
            self._on_image(message, self._calibration)
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
