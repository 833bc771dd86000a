"""Pixels of sensor_msgs Image and CompressedImage messages, of any ROS, as RGB.

The functions read the fields of a message and nothing else, so that messages of rclpy and of
rosbags both go.
"""

from typing import Any

import cv2
import numpy as np

from ..errors import InputError
from .image_file import decode_rgb

# encoding: (dtype, channels, OpenCV conversion to RGB or None when it is RGB already).
# OpenCV names a Bayer pattern after the second row's second and third pixel, ROS after the first.
_ENCODINGS = {
    'rgb': (3, None),
    'rgba': (4, cv2.COLOR_RGBA2RGB),
    'bgr': (3, cv2.COLOR_BGR2RGB),
    'bgra': (4, cv2.COLOR_BGRA2RGB),
    'mono': (1, cv2.COLOR_GRAY2RGB),
    'bayer_rggb': (1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr': (1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg': (1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg': (1, cv2.COLOR_BayerGB2RGB),
}
_GENERIC = {1: 'mono', 3: 'bgr', 4: 'bgra'}     # 8UC1, 8UC3, 16UC1, ...: OpenCV's order of colours
_YUV_PACKED = {
    'yuv422': cv2.COLOR_YUV2RGB_UYVY, 'uyvy': cv2.COLOR_YUV2RGB_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2, 'yuyv': cv2.COLOR_YUV2RGB_YUY2}
_YUV_PLANAR = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21}


def image_to_rgb(message: Any, name: str) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB pixels of a sensor_msgs Image; grey is replicated.

    Knows mono, rgb(a), bgr(a) and bayer of 8 and 16 bits, 8UCn and 16UCn (taken as grey, BGR,
    BGRA), and 4:2:2 and 4:2:0 YUV; 16 bits are scaled to 8. Padding at the end of rows and either
    byte order are honoured. ``name`` says in errors which image it was.

    Raises
    ------
    InputError
        An unknown encoding, or fewer bytes than height, width and step promise.

    """
    encoding = message.encoding.strip().lower()
    if encoding in _YUV_PACKED:
        return cv2.cvtColor(_rows(message, np.dtype('u1'), 2, name), _YUV_PACKED[encoding])
    if encoding in _YUV_PLANAR:
        rows = _rows(message, np.dtype('u1'), 1, name, message.height * 3 // 2)
        return cv2.cvtColor(rows, _YUV_PLANAR[encoding])
    kind, n_bits = _split(encoding)
    if kind not in _ENCODINGS or n_bits not in (8, 16):
        raise InputError(f'{name}: the encoding "{message.encoding}" is no colour or grey image '
                         'that is known; choose another topic')
    n_channels, conversion = _ENCODINGS[kind]
    order = '>' if message.is_bigendian else '<'
    pixels = _rows(message, np.dtype(f'{order}u{n_bits // 8}'), n_channels, name)
    if n_bits == 16:
        pixels = (pixels >> 8).astype(np.uint8)
    return pixels.copy() if conversion is None else cv2.cvtColor(pixels, conversion)


def compressed_to_rgb(message: Any, name: str) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB pixels of a sensor_msgs CompressedImage (JPEG, PNG, ...).

    Raises ``InputError`` for depth, video packets and damaged data; ``name`` as in `image_to_rgb`.
    """
    if 'compressedDepth' in message.format:
        raise InputError(f'{name}: this is compressed depth, not an image; choose another topic')
    return decode_rgb(bytes(message.data), f'{name} (format "{message.format}")')


def to_rgb(message: Any, name: str) -> np.ndarray:
    """Return the RGB pixels of an Image or a CompressedImage, told apart by their fields."""
    if hasattr(message, 'encoding'):
        return image_to_rgb(message, name)
    return compressed_to_rgb(message, name)


def _split(encoding: str) -> tuple[str, int]:
    """Return the kind and the bits a channel, as of ``bgr8``, ``bayer_rggb16`` or ``16uc1``."""
    bits, mark, channels = encoding.partition('uc')
    if mark and bits.isdecimal() and channels.isdecimal():
        return _GENERIC.get(int(channels), encoding), int(bits)
    kind = encoding.rstrip('0123456789')
    return kind, int(encoding[len(kind):] or 0)


def _rows(message: Any, dtype: np.dtype, n_channels: int, name: str,
          n_rows: int | None = None) -> np.ndarray:
    """Return the pixels as (rows, width[, channels]) without the padding of rows."""
    n_rows = message.height if n_rows is None else n_rows
    row_bytes = message.width * n_channels * dtype.itemsize
    step = message.step or row_bytes
    data = np.frombuffer(message.data, np.uint8)
    n_needed = step * (n_rows - 1) + row_bytes
    if not row_bytes or not n_rows or step < row_bytes or len(data) < n_needed:
        raise InputError(f'{name}: {len(data)} bytes are no {message.width}x{message.height} '
                         f'{message.encoding} image with {message.step} bytes a row')
    if len(data) < step * n_rows:
        data = np.pad(data, (0, step * n_rows - len(data)))
    rows = data[:step * n_rows].reshape(n_rows, step)[:, :row_bytes]
    pixels = np.ascontiguousarray(rows).view(dtype)
    return pixels.reshape(n_rows, message.width, n_channels) if n_channels > 1 else pixels
