"""Frames as they come -> frames as the backbone takes them: rectified, and of the right size."""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
import math
from typing import get_args, Literal, Optional, Tuple

import cv2
import numpy as np

from .errors import InputError
from .geometry.camera import N_COEFFICIENTS, resize_K
from .resampling import resample
from .types import Frame

Interpolation = Literal['area', 'bicubic', 'lanczos']


@dataclass(frozen=True, slots=True)
class Resolution:
    """The image sizes that a backbone takes, and how images get there.

    Raises ValueError for limits below one patch or an unknown interpolation.
    """

    patch: int = 1
    """Sides are multiples of this, px."""
    max_pixels: Optional[int] = None
    max_side: Optional[int] = None
    """Of the longer side, px. Of two limits the tighter one counts."""
    enlarge: bool = False
    """Images that are smaller than the limits are scaled up to them."""
    interpolation: Interpolation = 'area'
    """'area' is OpenCV's; the others are Pillow's, with antialiasing: see `resampling`."""

    def __post_init__(self):
        patch, max_pixels, max_side = self.patch, self.max_pixels, self.max_side
        if patch < 1 or (max_pixels is not None and max_pixels < patch**2):
            raise ValueError(f'max_pixels, patch: expected at least one patch of pixels, got '
                             f'{max_pixels} and {patch}')
        if max_side is not None and max_side < patch:
            raise ValueError(f'max_side: expected at least one patch of {patch} px, got '
                             f'{max_side}')
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f'interpolation: expected one of '
                             f'{", ".join(get_args(Interpolation))}, got {self.interpolation!r}')

    def size_for(self, size: Tuple[int, int]) -> Tuple[int, int]:
        """Return the (width, height) for an image of ``size``.

        Sides are rounded to whole patches, so the aspect may change by about a patch. Without
        `enlarge`, an image within the limits never grows, but for a side below one patch; a larger
        one shrinks, but for what rounding may add to one side.

        With `enlarge` these are the sizes of the official loaders: of pi3's for `max_pixels` and
        of VGGT's for `max_side`. The latter crops portraits to a square, though, where here the
        longer side is scaled to the limit: every pixel of the image gets a prediction.
        """
        w, h = size
        scale = self._scale(w, h)
        round_side = math.floor if scale == 1.0 and not self.enlarge else round
        columns, rows = (max(1, round_side(side * scale / self.patch)) for side in size)
        while self.max_pixels is not None and columns * rows * self.patch**2 > self.max_pixels:
            # shorten the side whose rounding stretched it most; pi3's form differs in ties only
            is_wide = (columns / rows > (w * scale) / (h * scale) if self.enlarge
                       else columns / w >= rows / h)
            if rows == 1 or (columns > 1 and is_wide):
                columns -= 1
            else:
                rows -= 1
        return columns * self.patch, rows * self.patch

    def _scale(self, w: int, h: int) -> float:
        scales = [] if self.enlarge else [1.0]
        if self.max_pixels is not None:
            scales.append(math.sqrt(self.max_pixels / (w * h)))
        if self.max_side is not None:
            scales.append((self.max_side - self.max_side % self.patch) / max(w, h))
        return min(scales, default=1.0)


class Preprocessor:
    """Prepares the frames of one stream: all must have one size.

    The parameters are those of `Resolution`. Calling it raises InputError for a frame of another
    size than the first, or with a distortion it cannot remove.
    """

    def __init__(self, max_pixels: Optional[int] = None, patch: int = 1, *,
                 max_side: Optional[int] = None, enlarge: bool = False,
                 interpolation: Interpolation = 'area'):
        self._resolution = Resolution(patch, max_pixels, max_side, enlarge, interpolation)
        self._size: Optional[Tuple[int, int]] = None

    @classmethod
    def of(cls, spec) -> 'Preprocessor':
        """Return one that feeds a backbone with this `BackboneSpec`."""
        return cls(spec.max_pixels, spec.patch, max_side=spec.max_side, enlarge=spec.enlarge,
                   interpolation=spec.interpolation)

    def __call__(self, frame: Frame) -> Frame:
        if self._size is None:
            self._size = frame.size
        if frame.size != self._size:
            raise InputError(
                f'frame {frame.index}: the image is {_text(frame.size)} px, but the stream began '
                f'with {_text(self._size)} px; give images of one size, or start a new run')
        ready = fit_frame(rectify(frame), self._resolution)
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


def fit_frame(frame: Frame, resolution: Resolution) -> Frame:
    """Return the frame with its image at the size for it, K rescaled with it.

    A frame of that size is returned as it is; a truth is left alone: see `fit_depth`.
    """
    size = resolution.size_for(frame.size)
    if size == frame.size:
        return frame
    if resolution.interpolation == 'area':
        image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    else:
        image = resample(frame.image, size, resolution.interpolation)
    K = None if frame.K is None else resize_K(frame.K, frame.size, size)
    return dataclasses.replace(frame, image=image, K=K)


def restore_map(values: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Return a map (H, W[, C]) float of the network's pixels at the (width, height) of the image.

    The way back from `fit_frame`, for depth, confidence and points: bilinear, outer corners on
    outer corners. 0 (in all channels) and what is not finite count as undefined: next to such a
    pixel the nearest value is taken, so that nothing is mixed with it.
    """
    values = np.asarray(values)
    if values.ndim not in (2, 3) or values.dtype not in (np.float32, np.float64):
        raise ValueError(f'values: expected (H, W) or (H, W, C) of float32 or float64, got '
                         f'{values.shape} {values.dtype}')
    if values.shape[1::-1] == tuple(size):
        return values
    channels = values.reshape(*values.shape[:2], -1)
    is_undefined = ~np.isfinite(channels).all(axis=2) | ~channels.any(axis=2)
    filled = np.where(is_undefined[..., None], 0, channels)
    smooth, nearest = (cv2.resize(array, size, interpolation=way).reshape(*size[::-1], -1)
                       for array, way in ((filled, cv2.INTER_LINEAR),
                                          (channels, cv2.INTER_NEAREST_EXACT)))
    touched = cv2.resize(is_undefined.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    restored = np.where(touched[..., None] > 0, nearest, smooth)
    return restored.reshape(*size[::-1], *values.shape[2:])


def _check_distortion(frame: Frame) -> None:
    allowed = N_COEFFICIENTS.get(frame.distortion_model)
    where = f'frame {frame.index}: distortion model {frame.distortion_model!r}'
    if allowed is None:
        raise InputError(f'{where} is unknown; use one of {", ".join(N_COEFFICIENTS)}')
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
