"""The scale of a window when its layers disagree, and how far each layer is believed.

A fit over all pixels follows the layer that covers most of the overlap, and takes its error for
the scale of the window; here layers count alike. The way of the camera between the shared frames
tells the scale, too, but its error adds up from link to link, which that of the layers does not.
"""

from dataclasses import dataclass, replace
from typing import Sequence

import numpy as np

from ..geometry.sim3 import Sim3
from ..types import Prediction
from .base import Alignment
from .layer_scales import fill, LogScales
from .log_scale import LogScale, weighted_median

_SIGMA_LAYERS, _SIGMA_CENTRES = 0.002, 0.0005   # systematic part of either
_N_LINKS = 50                                   # over so many an error of the cameras adds up
_INSIDE = 1.5                                   # how much variance inside layers counts


@dataclass(frozen=True, slots=True)
class Gauge:
    """The log scale of a window over that of its alignment, and how its layers vary about it."""

    value: float
    variance: float                         # of the layers about it
    credibility: float                      # see `_credibility`


def estimate_gauge(scales: Sequence[LogScales], pixels: Sequence[np.ndarray],
                   centres: LogScale) -> Gauge:
    """Return the scale of a window by its layers and its cameras.

    ``scales`` and ``pixels`` are what the layers of the shared frames say against the alignment,
    and their sizes; ``centres`` is what their cameras say.
    """
    value = _mean(scales, pixels)
    spread = _layer_variance(scales, pixels, value)
    if np.isfinite(centres.variance):
        variance_centres = _N_LINKS * (centres.variance + _SIGMA_CENTRES**2)
        value += (centres.value - value) * spread / (spread + variance_centres)
    return Gauge(value, _layer_variance(scales, pixels, value), _credibility(scales, pixels))


def scale_of_centres(alignment: Alignment, previous: Prediction, current: Prediction,
                     i: np.ndarray, j: np.ndarray) -> LogScale:
    """Return the log scale by the shared cameras (rows i and j) over that of the alignment.

    Both windows' centres are equally noisy, so it is the ratio of their extents: least squares of
    one on the other would make every window a little smaller.
    """
    T = alignment.T_odom_window
    a = previous.T_window_camera[i, :3, 3]
    b = current.T_window_camera[j, :3, 3] @ T.R.T * T.scale
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    extent_a, extent_b, dot = (float((x * y).sum()) for x, y in ((a, a), (b, b), (a, b)))
    degrees = a.size - 4                        # three for the mean, one for the scale
    if not dot > 0 or degrees < 1:
        return LogScale(0.0, np.inf, np.inf, 0, len(a))
    scale = np.sqrt(extent_a / extent_b)
    variance = float(((a - scale * b)**2).sum()) / degrees / extent_a
    return LogScale(float(np.log(scale)), variance, float(np.sqrt(variance)), len(a), len(a))


def rescaled(alignment: Alignment, current: Prediction, j: np.ndarray,
             log_factor: float) -> Alignment:
    """Return the alignment with another scale; the shared cameras stay together in the mean."""
    T = alignment.T_odom_window
    scale = T.scale * float(np.exp(log_factor))
    t = T.t + (T.scale - scale) * T.R @ current.T_window_camera[j, :3, 3].mean(axis=0)
    return replace(alignment, T_odom_window=Sim3(scale, T.R, t))


def _layer_variance(scales: Sequence[LogScales], pixels: Sequence[np.ndarray],
                    gauge: float) -> float:
    """Return the variance of this window's layers alone, that of the last window's taken off."""
    value, weight, _, inherited = _known(scales, pixels)
    weight = np.sqrt(weight)                    # of layers, not of pixels
    total = _deviation(value, gauge, weight)**2
    before = float(weight @ inherited) / max(float(weight.sum()), 1.0)
    return max(total - before, 0.25 * total) + _SIGMA_LAYERS**2


def _credibility(scales: Sequence[LogScales], pixels: Sequence[np.ndarray]) -> float:
    """Return how much of the layers' deviation from the common scale is theirs, 0 to 1.

    Where log scales vary inside layers as much as between them, there are no layer errors but
    smooth ones; these are other in every window, and must not be handed on.
    """
    value, weight, spread, _ = _known(scales, pixels)
    between = _deviation(value, 0.0, weight)
    inside = float(weight @ spread) / max(float(weight.sum()), 1.0)
    return max(0.0, 1.0 - (_INSIDE * inside / between)**2) if between > 0 else 1.0


def believed(scales: LogScales, log_depths: np.ndarray, pixels: np.ndarray, gauge: Gauge):
    """Return the log scale (n,) to use for every layer of a frame, and its variance (n,).

    A layer was measured against the last window, which may err there itself: so much the more as
    it saw the layer for the first time. This window's own depth, at its gauge, is another
    estimate. Their mean by certainty makes the map better each time a layer is seen again. A layer
    without a link resembles those at its depth (`layer_scales.fill`).
    """
    filled = fill(scales, log_depths, pixels, gauge.value)
    own = gauge.variance
    chained = np.where(scales.is_known, scales.variance, 0.0) + scales.inherited
    chained = chained + scales.doubt * own
    gain = own / (own + chained)
    value = np.where(scales.is_known, gain * filled + (1.0 - gain) * gauge.value, filled)
    return value, np.where(scales.is_known, gain * chained, own)


def _mean(scales: Sequence[LogScales], pixels: Sequence[np.ndarray]) -> float:
    """Return the mean log scale over the layers."""
    value, weight, _, _ = _known(scales, pixels)
    if not len(value):
        return 0.0
    middle = weighted_median(value, weight)
    sigma = np.hypot(_deviation(value, middle, weight), _SIGMA_LAYERS)
    # large layers say little more than small ones, but small ones may be no layers at all
    kept = np.clip(value, middle - 2.5 * sigma, middle + 2.5 * sigma)
    root = np.sqrt(weight)
    return float(root @ kept / root.sum())


def _known(scales: Sequence[LogScales], pixels: Sequence[np.ndarray]):
    """Return value, size, spread and inherited variance (L,) of all layers that have a scale."""
    return tuple(np.concatenate(parts) for parts in zip(*(
        (s.value[s.is_known], p[s.is_known].astype(np.float64), s.spread[s.is_known],
         s.inherited[s.is_known]) for s, p in zip(scales, pixels))))


def _deviation(value: np.ndarray, middle: float, weight: np.ndarray) -> float:
    """Return the standard deviation of layers (L,) about a value, from the mean distance."""
    return 1.2533 * float(weight @ np.abs(value - middle)) / max(float(weight.sum()), 1.0)
