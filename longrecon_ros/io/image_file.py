"""Image files and encoded image bytes as RGB arrays."""

from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff')


def decode_rgb(data: bytes, name: str) -> np.ndarray:
    """Decode a PNG, JPEG, BMP or TIFF image to (H, W, 3) uint8 RGB; grey is replicated.

    ``name`` says in the error which image it was. Raises ``InputError`` when the bytes are no
    image or are cut short (decoders fill the missing part of a JPEG with grey and say nothing).
    """
    if not data:
        raise InputError(f'{name}: the image is empty (0 bytes)')
    if _is_cut_short(data):
        raise InputError(f'{name}: the image is cut short; copy it again or leave it out')
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f'{name}: not an image that can be decoded; replace it or leave it out')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_rgb(path: Path) -> np.ndarray:
    """Read one image file as (H, W, 3) uint8 RGB; raises ``InputError`` naming the file."""
    try:
        return decode_rgb(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror})') from None


def read_depth_mm(path: Path) -> np.ndarray:
    """Read a 16-bit PNG in millimetres as (H, W) float32 metres; 0 means no measurement."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 2 or image.dtype != np.uint16:
        raise InputError(f'{path}: expected a depth image of one 16-bit channel in millimetres')
    return image.astype(np.float32) / np.float32(1000)


def _is_cut_short(data: bytes) -> bool:
    """Tell if the end marker of a JPEG or PNG is missing from the second half of the bytes."""
    half = len(data) // 2
    if data.startswith(b'\xff\xd8'):
        return data.find(b'\xff\xd9', half) < 0
    if data.startswith(b'\x89PNG'):
        return data.find(b'IEND', half) < 0
    return False
