"""Pixels of sensor_msgs Image and CompressedImage messages, of any ROS, as RGB or as depth.

The functions read the fields of a message and nothing else, so that messages of rclpy and of
rosbags both go. Encodings are those of sensor_msgs/image_encodings.hpp.
"""

from typing import Any

import cv2
import numpy as np

from ..errors import InputError

# encoding: (channels, OpenCV conversion to RGB or None when it is RGB already).
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
# RGB of (Y, U, V, 1) in video range, ITU-R BT.601: what OpenCV uses for the other YUV encodings
_RGB_OF_YUV = np.array([[1.164, 0.0, 1.596, -222.912],
                        [1.164, -0.391, -0.813, 135.488],
                        [1.164, 2.018, 0.0, -276.928]], np.float32)
_BITS = (8, 10, 12, 14, 16)
_DEPTH_UNIT_M = {'16uc1': ('u2', 1e-3), 'mono16': ('u2', 1e-3), '32fc1': ('f4', 1.0)}
# not IMREAD_UNCHANGED: alpha goes, 16 bits stay; a rotation in the EXIF data would contradict the
# calibration
_DECODE = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_VIDEO = {'h264', 'h265', 'hevc', 'av1', 'vp8', 'vp9', 'x264', 'libx264', 'mpeg4'}


class BitDepth:
    """How many bits of the 16 the pixels of one stream use: 8, 10, 12, 14 or 16.

    Sensors of 10 to 14 bits send their values unshifted in 16, which no encoding tells; taking the
    upper byte would leave black. The number is the least that holds all values so far. It only
    grows, so the brightness of a stream changes a few times at most, in its first bright images.
    """

    def __init__(self):
        self.n_bits = 8

    def to_8_bits(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint16 pixels as uint8: the upper 8 of the bits in use."""
        peak = int(pixels.max())
        self.n_bits = max(self.n_bits, next(n for n in _BITS if peak < 1 << n))
        return (pixels >> (self.n_bits - 8)).astype(np.uint8)


class RgbDecoder:
    """`to_rgb` for one stream: its 16-bit images are all scaled alike, see `BitDepth`."""

    def __init__(self):
        self._depth = BitDepth()

    def __call__(self, message: Any, name: str) -> np.ndarray:
        return to_rgb(message, name, self._depth)


def image_name(message: Any, topic: str) -> str:
    """Return what to call an image in errors: its topic and its stamp, to the nanosecond."""
    stamp = message.header.stamp
    return f'{topic}, image of {stamp.sec}.{stamp.nanosec:09d} s'


def image_to_rgb(message: Any, name: str, depth: BitDepth | None = None) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB pixels of a sensor_msgs Image; grey is replicated.

    Knows mono, rgb(a), bgr(a) and bayer of 8 and 16 bits, 8UCn and 16UCn (taken as grey, BGR,
    BGRA), and 4:2:2 and 4:2:0 and 4:4:4 YUV. 16 bits are scaled to 8 by ``depth``, which is that
    of the stream; without one by this image alone. Padding at the end of rows and either byte
    order are honoured. ``name`` says in errors which image it was, see `image_name`.

    Raises
    ------
    InputError
        An unknown encoding, a depth image, or fewer bytes than height, width and step promise.

    """
    encoding = message.encoding.strip().lower()
    _refuse_depth(message, encoding, name)
    if encoding in _YUV_PACKED:
        _check_even(message, name, message.width)
        return cv2.cvtColor(_rows(message, np.dtype('u1'), 2, name), _YUV_PACKED[encoding])
    if encoding in _YUV_PLANAR:
        _check_even(message, name, message.width, message.height)
        rows = _rows(message, np.dtype('u1'), 1, name, message.height * 3 // 2)
        return cv2.cvtColor(rows, _YUV_PLANAR[encoding])
    if encoding == 'nv24':
        return _nv24_to_rgb(message, name)
    kind, n_bits = _split(encoding)
    if kind not in _ENCODINGS or n_bits not in (8, 16):
        raise InputError(f'{name}: the encoding "{message.encoding}" is no colour or grey image '
                         'that is known; choose another topic, or have the driver send rgb8')
    n_channels, conversion = _ENCODINGS[kind]
    pixels = _rows(message, _ordered(message, f'u{n_bits // 8}'), n_channels, name)
    if n_bits == 16:
        pixels = (depth or BitDepth()).to_8_bits(pixels)
    return pixels.copy() if conversion is None else cv2.cvtColor(pixels, conversion)


def compressed_to_rgb(message: Any, name: str, depth: BitDepth | None = None) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB pixels of a sensor_msgs CompressedImage (JPEG, PNG, ...).

    ``format`` is read as sensor_msgs defines it, ``rgb8; jpeg compressed bgr8``: a Bayer mosaic
    that was compressed as grey gets its colours, and pixels "compressed rgb8" are swapped back.
    Transparency is dropped; a rotation in EXIF data is not applied, since it would contradict the
    calibration. ``name`` and ``depth`` as in `image_to_rgb`.

    Raises ``InputError`` for depth, video packets, and data that is damaged or cut short (decoders
    fill the missing part of a JPEG with grey and say nothing).
    """
    source, _, target = message.format.lower().partition('compressed')
    if target.startswith('depth'):
        raise InputError(f'{name}: this is compressed depth, not an image; choose another topic')
    pixels = _decode(bytes(message.data), message.format, name)
    if pixels.dtype == np.uint16:
        pixels = (depth or BitDepth()).to_8_bits(pixels)
    if pixels.ndim == 3:
        is_swapped = target.strip().startswith('rgb')
        return pixels if is_swapped else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    kind = source.partition(';')[0].strip().rstrip('0123456789')
    kind = kind if kind.startswith('bayer') and kind in _ENCODINGS else 'mono'
    return cv2.cvtColor(pixels, _ENCODINGS[kind][1])


def to_rgb(message: Any, name: str, depth: BitDepth | None = None) -> np.ndarray:
    """Return the RGB pixels of an Image or a CompressedImage, told apart by their fields."""
    if hasattr(message, 'encoding'):
        return image_to_rgb(message, name, depth)
    return compressed_to_rgb(message, name, depth)


def depth_to_metres(message: Any, name: str) -> np.ndarray:
    """Return a depth Image as (H, W) float32 metres; 0 where there is no measurement.

    16UC1 (and mono16) holds millimetres and 0 for no measurement, 32FC1 holds metres and NaN or
    infinity (REP 118). Raises ``InputError`` for other encodings and for too few bytes.
    """
    encoding = message.encoding.strip().lower()
    if encoding not in _DEPTH_UNIT_M:
        raise InputError(f'{name}: the encoding "{message.encoding}" is no depth image; '
                         'choose a topic with 16UC1 [mm] or 32FC1 [m]')
    kind, unit_m = _DEPTH_UNIT_M[encoding]
    depth = _rows(message, _ordered(message, kind), 1, name).astype(np.float32)
    is_measured = np.isfinite(depth) & (depth > 0)
    return np.where(is_measured, depth, np.float32(0)) * np.float32(unit_m)


def _refuse_depth(message: Any, encoding: str, name: str) -> None:
    # 16UC1 is what grey cameras of 16 bits send, too; then the topic tells
    if encoding in ('32fc1', '64fc1') or (encoding == '16uc1' and 'depth' in name.lower()):
        raise InputError(f'{name}: the encoding "{message.encoding}" is a depth image; choose the '
                         'topic of the colour or grey camera')


def _decode(data: bytes, form: str, name: str) -> np.ndarray:
    """Return encoded pixels as OpenCV has them: (H, W) or (H, W, 3), BGR, uint8 or uint16."""
    name = f'{name} (format "{form}")'
    if not data:
        raise InputError(f'{name}: the image is empty (0 bytes); restart the camera')
    if form.partition(';')[0].strip().lower() in _VIDEO:
        raise InputError(f'{name}: packets of video are no images; republish the topic as raw or '
                         'as compressed')
    if _is_cut_short(data):
        raise InputError(f'{name}: the image is cut short after {len(data)} bytes; look at the '
                         'link to the camera')
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _DECODE)
    except cv2.error:           # an absurd size
        pixels = None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f'{name}: {len(data)} bytes are no image that can be decoded; known are '
                         'jpeg and png of 8 and 16 bits')
    return pixels


def _is_cut_short(data: bytes) -> bool:
    """Tell if the end marker of a JPEG or PNG is missing."""
    if data.startswith(b'\xff\xd8'):
        return data.rfind(b'\xff\xd9') < _scan_start(data)
    if data.startswith(b'\x89PNG'):
        return b'IEND' not in data[-64:]
    return False


def _scan_start(data: bytes) -> int:
    """Return where the pixels of a JPEG begin; a thumbnail, which has an end marker, is before."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xff:
        if data[place + 1] == 0xda:
            return place
        is_fill = data[place + 1] == 0xff
        place += 1 if is_fill else 2 + int.from_bytes(data[place + 2:place + 4], 'big')
    return min(place, len(data))


def _nv24_to_rgb(message: Any, name: str) -> np.ndarray:
    """Return 4:4:4: a plane of Y, then one of U and V in turn, whose rows are twice as long."""
    h, w = message.height, message.width
    rows = _rows(message, np.dtype('u1'), 1, name, 3 * h, max(message.step, w))
    yuv = np.empty((h, w, 3), np.uint8)
    yuv[..., 0] = rows[:h, :w]
    yuv[..., 1:] = rows[h:].reshape(h, -1)[:, :2 * w].reshape(h, w, 2)
    return cv2.transform(yuv, _RGB_OF_YUV)


def _check_even(message: Any, name: str, *sides: int) -> None:
    if any(side % 2 for side in sides):
        raise InputError(f'{name}: {message.encoding} needs even sides, got {message.width}x'
                         f'{message.height}; have the driver crop a row or column')


def _split(encoding: str) -> tuple[str, int]:
    """Return the kind and the bits a channel, as of ``bgr8``, ``bayer_rggb16`` or ``16uc1``."""
    bits, mark, channels = encoding.partition('uc')
    if mark and bits.isdecimal() and channels.isdecimal():
        return _GENERIC.get(int(channels), encoding), int(bits)
    kind = encoding.rstrip('0123456789')
    return kind, int(encoding[len(kind):] or 0)


def _ordered(message: Any, kind: str) -> np.dtype:
    return np.dtype(('>' if message.is_bigendian else '<') + kind)


def _rows(message: Any, dtype: np.dtype, n_channels: int, name: str,
          n_rows: int | None = None, row_bytes: int | None = None) -> np.ndarray:
    """Return the pixels as (rows, width[, channels]), in the machine's byte order.

    ``row_bytes`` is what a row takes without its padding, if not the width.
    """
    n_rows = message.height if n_rows is None else n_rows
    row_bytes = row_bytes or message.width * n_channels * dtype.itemsize
    step = message.step or row_bytes
    data = np.frombuffer(message.data, np.uint8)
    n_needed = step * (n_rows - 1) + row_bytes
    if not message.width or not n_rows or step < row_bytes or len(data) < n_needed:
        raise InputError(f'{name}: {len(data)} bytes are no {message.width}x{message.height} '
                         f'{message.encoding} image with {message.step} bytes a row')
    if len(data) < step * n_rows:
        data = np.pad(data, (0, step * n_rows - len(data)))
    rows = data[:step * n_rows].reshape(n_rows, step)[:, :row_bytes]
    pixels = np.ascontiguousarray(rows).view(dtype)
    pixels = pixels.astype(dtype.newbyteorder('='), copy=False)
    return pixels.reshape(n_rows, -1, n_channels) if n_channels > 1 else pixels
