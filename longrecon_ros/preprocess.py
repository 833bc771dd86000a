"""Frames as they come -> frames as the backbone takes them: rectified, and of the right size."""

import dataclasses
from functools import lru_cache
import math
from typing import Optional, Tuple

import cv2
import numpy as np

from .errors import InputError
from .geometry.camera import resize_K
from .types import Frame

_N_COEFFICIENTS = {'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}


class Preprocessor:
    """Prepares the frames of one stream: all must have one size.

    ``max_pixels`` and ``patch`` are those of the backbone's spec. Calling it raises InputError
    for a frame of another size than the first, or with a distortion it cannot remove.
    """

    def __init__(self, max_pixels: Optional[int] = None, patch: int = 1):
        self._max_pixels, self._patch = max_pixels, patch
        self._size: Optional[Tuple[int, int]] = None

    def __call__(self, frame: Frame) -> Frame:
        if self._size is None:
            self._size = frame.size
        if frame.size != self._size:
            raise InputError(
                f'frame {frame.index}: the image is {_text(frame.size)} px, but the stream began '
                f'with {_text(self._size)} px; give images of one size, or start a new run')
        ready = limit_pixels(rectify(frame), self._max_pixels, self._patch)
        return ready if frame.truth is None else _with_truth(ready, frame)


def rectify(frame: Frame) -> Frame:
    """Return the frame without lens distortion; K stays the same.

    Pixels that the lens did not see are black. A truth is left as it is: see `fit_depth`. The maps
    of the last few cameras are kept. Raises InputError for an unknown model, a wrong number of
    coefficients, or distortion without K.
    """
    if frame.distortion is None:
        return frame
    _check_distortion(frame)
    if not frame.distortion.any() and frame.distortion_model != 'equidistant':
        return dataclasses.replace(frame, distortion=None)
    map_1, map_2 = _maps(frame.K.tobytes(), frame.distortion.tobytes(), frame.distortion_model,
                         frame.size, cv2.CV_16SC2)
    image = cv2.remap(frame.image, map_1, map_2, cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_CONSTANT)
    return dataclasses.replace(frame, image=image, distortion=None)


def fit_depth(depth: np.ndarray, frame: Frame, size: Tuple[int, int]) -> np.ndarray:
    """Return a depth map (H, W) of a frame as it came at the (width, height) of the network.

    The map is registered to the frame's image: lens distortion is removed like the image's, then
    it is resized; both take the nearest value, so that none is invented. 0 where the lens did not
    see.
    """
    if frame.distortion is not None:
        map_x, map_y = _maps(frame.K.tobytes(), frame.distortion.tobytes(),
                             frame.distortion_model, frame.size, cv2.CV_32FC1)
        depth = cv2.resize(depth, frame.size, interpolation=cv2.INTER_NEAREST_EXACT)
        depth = cv2.remap(depth, map_x, map_y, cv2.INTER_NEAREST,
                          borderMode=cv2.BORDER_CONSTANT)
    if depth.shape == (size[1], size[0]):
        return depth
    return cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)


def limit_pixels(frame: Frame, max_pixels: Optional[int], patch: int = 1) -> Frame:
    """Return the frame scaled down to at most ``max_pixels``, K rescaled with it.

    Sides become multiples of ``patch`` px, so the aspect may change by a fraction of a patch.
    Nothing is scaled up, but for a side below one patch.
    """
    if patch < 1 or (max_pixels is not None and max_pixels < patch**2):
        raise ValueError(f'max_pixels, patch: expected at least one patch of pixels, got '
                         f'{max_pixels} and {patch}')
    size = _limited_size(frame.size, max_pixels, patch)
    if size == frame.size:
        return frame
    image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    K = None if frame.K is None else resize_K(frame.K, frame.size, size)
    return dataclasses.replace(frame, image=image, K=K)


def _limited_size(size: Tuple[int, int], max_pixels: Optional[int],
                  patch: int) -> Tuple[int, int]:
    w, h = size
    scale = 1.0 if max_pixels is None else min(1.0, math.sqrt(max_pixels / (w * h)))
    round_side = math.floor if scale == 1.0 else round
    columns, rows = (max(1, round_side(side * scale / patch)) for side in size)
    while max_pixels is not None and columns * rows * patch**2 > max_pixels:
        # shorten the side whose rounding stretched it most
        if rows == 1 or (columns > 1 and columns / w >= rows / h):
            columns -= 1
        else:
            rows -= 1
    return columns * patch, rows * patch


def _check_distortion(frame: Frame) -> None:
    allowed = _N_COEFFICIENTS.get(frame.distortion_model)
    where = f'frame {frame.index}: distortion model {frame.distortion_model!r}'
    if allowed is None:
        raise InputError(f'{where} is unknown; use one of {", ".join(_N_COEFFICIENTS)}')
    if len(frame.distortion) not in allowed:
        raise InputError(f'{where} has {len(frame.distortion)} coefficients; expected '
                         f'{" or ".join(map(str, allowed))}')
    if not np.isfinite(frame.distortion).all():
        raise InputError(f'{where} has coefficients that are not finite; calibrate again')
    if frame.K is None:
        raise InputError(f'{where} comes without intrinsics; give K, or drop the distortion')


def _with_truth(ready: Frame, frame: Frame) -> Frame:
    depth = fit_depth(frame.truth.depth, frame, ready.size)
    return dataclasses.replace(ready, truth=dataclasses.replace(frame.truth, depth=depth))


@lru_cache(maxsize=4)
def _maps(K: bytes, distortion: bytes, model: str, size: Tuple[int, int], kind: int):
    K = np.frombuffer(K).reshape(3, 3)
    distortion = np.frombuffer(distortion)
    make = (cv2.fisheye.initUndistortRectifyMap if model == 'equidistant'
            else cv2.initUndistortRectifyMap)
    return make(K, distortion, np.eye(3), K, size, kind)


def _text(size: Tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'
