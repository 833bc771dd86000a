"""Images for the page: encoded as data, false colours, and their legends."""

import base64
from collections.abc import Callable

import cv2
import numpy as np

from .record import Sample

_UNDEFINED = (44, 48, 56)
_N_LEGEND = 128


def data_uri(rgb: np.ndarray, quality: int = 80) -> str:
    """Return an RGB image (h, w, 3) uint8 as a JPEG in a data URI."""
    bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
    data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return 'data:image/jpeg;base64,' + base64.b64encode(data.tobytes()).decode('ascii')


def depth_range(samples: tuple[Sample, ...]) -> tuple[float, float] | None:
    """Return the 2 % and 98 % quantiles of all defined depths; None without any."""
    depths = [s.depth[_is_defined(s)] for s in samples]
    depths = np.concatenate(depths) if depths else np.zeros(0)
    if not len(depths):
        return None
    low, high = np.quantile(depths, [0.02, 0.98])
    return float(low), float(max(high, 1.001 * low))


def depth_picture(sample: Sample, limits: tuple[float, float]) -> np.ndarray:
    """Return depth in colours, near is red, on a logarithmic scale; undefined pixels are dark."""
    is_defined = _is_defined(sample)
    log_low, log_high = np.log(limits)
    safe = np.where(is_defined, sample.depth, limits[0])
    share = (np.log(safe) - log_low) / (log_high - log_low)
    return _masked(_colored(1 - share, cv2.COLORMAP_TURBO), is_defined)


def confidence_picture(sample: Sample) -> np.ndarray:
    """Return confidence from 0 (dark) to 1 (bright)."""
    return _colored(sample.confidence, cv2.COLORMAP_VIRIDIS)


def error_picture(sample: Sample, scale: float) -> np.ndarray:
    """Return the relative error of scaled depth: 0 green, 10 % yellow, 20 % and more red."""
    is_known = _is_defined(sample) & (sample.true_depth > 0)
    truth = np.where(is_known, sample.true_depth, 1.0)
    error = np.abs(np.where(is_known, scale * sample.depth, 1.0) / truth - 1)
    return _masked(_green_to_red(error / 0.2), is_known)


def depth_legend(limits: tuple[float, float], scale: float, unit: str) -> tuple[str, list[str]]:
    """Return the bar and the labels (left, middle, right) of depth pictures."""
    low, high = (scale * value for value in limits)
    return (_bar(lambda share: _colored(1 - share, cv2.COLORMAP_TURBO)),
            [f'{value:.3g} {unit}' for value in (low, (low * high) ** 0.5, high)])


def confidence_legend() -> tuple[str, list[str]]:
    """Return the bar and the labels of confidence pictures."""
    return _bar(lambda share: _colored(share, cv2.COLORMAP_VIRIDIS)), ['0', '0.5', '1']


def error_legend() -> tuple[str, list[str]]:
    """Return the bar and the labels of error pictures."""
    return _bar(_green_to_red), ['0', '10 %', '20 % and more']


def _is_defined(sample: Sample) -> np.ndarray:
    return (sample.confidence > 0) & np.isfinite(sample.depth) & (sample.depth > 0)


def _colored(share: np.ndarray, colormap: int) -> np.ndarray:
    grey = np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(grey, colormap), cv2.COLOR_BGR2RGB)


def _masked(rgb: np.ndarray, is_shown: np.ndarray) -> np.ndarray:
    rgb[~is_shown] = _UNDEFINED
    return rgb


def _green_to_red(share: np.ndarray) -> np.ndarray:
    hue = np.round(60 * (1 - np.clip(share, 0, 1))).astype(np.uint8)     # OpenCV: 2 degrees each
    hsv = np.stack([hue, np.full_like(hue, 190), np.full_like(hue, 215)], axis=-1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _bar(color: Callable[[np.ndarray], np.ndarray]) -> str:
    ramp = np.repeat(np.linspace(0, 1, _N_LEGEND)[None], 4, axis=0)
    return data_uri(color(ramp), 95)
