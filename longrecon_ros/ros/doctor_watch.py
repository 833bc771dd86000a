"""Gathers for the doctor what rclpy knows of a camera's topics."""

from importlib import import_module
import time
from typing import Any, Callable, List, Optional, Tuple

from rclpy.node import Node

from .doctor import Doctor
from .endpoints import offers_of, Request
from .findings import Facts, Finding, InfoState, Size
from .messages import stamp_ns

_IMAGE_KINDS = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')


class Watch:
    """One camera of a node under a doctor's eyes.

    ``kind`` is the type of the image topic; ``is_mounted(frame)`` says whether TF knows the way
    from the base to a camera frame (empty before the first image), or None where that is not asked
    for. `take_image` and `take_info` are called from the subscriptions, `examine` from a timer.
    """

    def __init__(self, node: Node, doctor: Doctor, topic: str, info_topic: str, *,
                 kind: str = _IMAGE_KINDS[0], base_frame: str = 'base_link',
                 is_mounted: Callable[[str], Optional[bool]] = lambda frame: None):
        self._node, self._doctor = node, doctor
        self._topic, self._info_topic, self._kind = topic, info_topic, kind
        self._base_frame, self._is_mounted = base_frame, is_mounted
        self._camera_frame = ''
        self._info: Tuple[InfoState, str, Optional[Size]] = ('missing', '', None)
        self._n_incompatible = 0

    def event_callbacks(self) -> Any:
        """Return the SubscriptionEventCallbacks for the subscription to the images."""
        try:
            events = import_module('rclpy.event_handler')
        except ImportError:                                 # Humble
            events = import_module('rclpy.qos_event')
        return events.SubscriptionEventCallbacks(incompatible_qos=self._take_incompatible)

    def take_image(self, message: Any, n_lost: int = 0) -> None:
        """Take note of an image message, ``n_lost`` before it missing by their numbers."""
        size = (message.width, message.height) if hasattr(message, 'width') else None
        self._camera_frame = message.header.frame_id
        self._doctor.take_image(
            stamp_ns(message.header.stamp), self._node.get_clock().now().nanoseconds,
            time.monotonic(), n_lost=n_lost, n_bytes=len(message.data), size=size)

    def take_info(self, state: InfoState, text: str = '', size: Optional[Size] = None) -> None:
        """Take note of what the camera_info is like; ``text`` says what a bad one lacks."""
        self._info = (state, text, size)

    def examine(self, request: Request) -> List[Finding]:
        """Return what is wrong now; ``request`` is what the subscription asks for."""
        return self._doctor.examine(self.facts(request))

    def facts(self, request: Request) -> Facts:
        """Return what is known now of the topics."""
        node = self._node
        offers = offers_of(node, self._topic)
        state, text, size = self._info
        return Facts(
            steady_s=time.monotonic(), now_ns=node.get_clock().now().nanoseconds, offers=offers,
            request=request, kind=self._kind,
            is_sim_time=bool(node.get_parameter('use_sim_time').value),
            n_incompatible=self._n_incompatible,
            n_info_publishers=node.count_publishers(self._info_topic),
            info_state=state, info_text=text, info_size=size,
            camera_frame=self._camera_frame, base_frame=self._base_frame,
            is_mounted=self._is_mounted(self._camera_frame),
            image_topics=() if offers else self._image_topics())

    def _image_topics(self) -> Tuple[str, ...]:
        return tuple(sorted(name for name, kinds in self._node.get_topic_names_and_types()
                            if name != self._topic and set(kinds) & set(_IMAGE_KINDS)
                            and self._node.count_publishers(name)))

    def _take_incompatible(self, event: Any) -> None:
        self._n_incompatible = event.total_count
