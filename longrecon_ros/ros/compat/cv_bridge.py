"""Pixels of Image messages: by cv_bridge where it is installed and works, else by our decoder."""

from typing import Any, Callable

import numpy as np
from sensor_msgs.msg import Image

from ...errors import InputError
from ...io.image_message import compressed_to_rgb, image_to_rgb

Decoder = Callable[[Any, str], np.ndarray]


def make_decoder() -> Decoder:
    """Return the function from an Image or CompressedImage, and its name for errors, to RGB.

    cv_bridge is compiled for one numpy and fails at its first image with another one, so it is
    tried out on one pixel.
    """
    try:
        from cv_bridge import CvBridge
        bridge = CvBridge()
        probe = Image(height=1, width=1, step=3, encoding='bgr8')
        probe.data.frombytes(bytes(3))
        bridge.imgmsg_to_cv2(probe, 'rgb8')
    except (ImportError, AttributeError, SystemError, RuntimeError):
        return _decode
    return _BridgeDecoder(bridge)


class _BridgeDecoder:
    """cv_bridge for raw images; CompressedImage goes our way, which checks the data."""

    def __init__(self, bridge: Any):
        self._bridge = bridge

    def __call__(self, message: Any, name: str) -> np.ndarray:
        if not isinstance(message, Image):
            return compressed_to_rgb(message, name)
        from cv_bridge import CvBridgeError
        try:
            return np.asarray(self._bridge.imgmsg_to_cv2(message, 'rgb8'))
        except (CvBridgeError, ValueError, TypeError) as error:
            raise InputError(f'{name}: cv_bridge cannot read this {message.encoding} image '
                             f'({" ".join(str(error).split())})') from None


def _decode(message: Any, name: str) -> np.ndarray:
    if isinstance(message, Image):
        return image_to_rgb(message, name)
    return compressed_to_rgb(message, name)
