"""The scale of a window when its layers disagree: from all layers, and from the camera's way.

A fit over all pixels follows the layer that covers most of the overlap, and takes its error for
the scale of the window. Layers count alike here; and where the shared cameras move, their
distances tell the scale, too, which layer errors do not touch.
"""

from dataclasses import replace
from typing import Sequence

import numpy as np

from ..geometry.sim3 import Sim3
from ..types import Prediction
from .base import Alignment
from .layer_scales import LogScales
from .log_scale import weighted_median

_SIGMA_LAYERS, _SIGMA_CENTRES = 0.002, 0.001    # systematic part of either
_INSIDE = 1.0                                   # how much variance inside layers counts
_SIGNIFICANT = 2.0                              # deviations between the two


def log_correction(alignment: Alignment, previous: Prediction, current: Prediction, i: np.ndarray,
                   j: np.ndarray, scales: Sequence[LogScales],
                   pixels: Sequence[np.ndarray]) -> float:
    """Return by how much the log scale of an alignment is too small.

    ``i`` and ``j`` are the rows of the shared frames; ``scales`` and ``pixels`` are what the
    layers of these frames say against the alignment, and their sizes.
    """
    value, variance = _from_layers(scales, pixels)
    T = alignment.T_odom_window
    from_centres, variance_centres = _from_centres(previous.T_window_camera[i, :3, 3],
                                                   current.T_window_camera[j, :3, 3] @ T.R.T)
    if not np.isfinite(variance_centres):
        return value
    from_centres -= np.log(T.scale)
    # what chance does not explain is an error that the layers have in common
    variance = max(variance, (from_centres - value)**2 - _SIGNIFICANT**2 * variance_centres)
    return float((value / variance + from_centres / variance_centres)
                 / (1.0 / variance + 1.0 / variance_centres))


def credibility(scales: Sequence[LogScales], pixels: Sequence[np.ndarray]) -> float:
    """Return how much of the layers' deviation from the common scale is theirs, 0 to 1.

    Where log scales vary inside layers as much as between them, there are no layer errors but
    smooth ones; these are other in every window, and must not be handed on.
    """
    value, weight, spread = _known(scales, pixels)
    between = _deviation(value, 0.0, weight)
    inside = float(weight @ spread) / max(float(weight.sum()), 1.0)
    return max(0.0, 1.0 - (_INSIDE * inside / between)**2) if between > 0 else 1.0


def rescaled(alignment: Alignment, previous: Prediction, current: Prediction, i: np.ndarray,
             j: np.ndarray, log_factor: float) -> Alignment:
    """Return the alignment with another scale; the shared cameras stay together in the mean."""
    T = alignment.T_odom_window
    scale = T.scale * float(np.exp(log_factor))
    t = T.t + (T.scale - scale) * T.R @ current.T_window_camera[j, :3, 3].mean(axis=0)
    return replace(alignment, T_odom_window=Sim3(scale, T.R, t))


def _from_centres(centres: np.ndarray, turned: np.ndarray):
    """Return the log scale from camera centres (C, 3) in odom and in the window, and variance.

    Both are equally noisy, so it is the ratio of their extents: least squares of one on the other
    would make every window a little smaller.
    """
    a, b = centres - centres.mean(axis=0), turned - turned.mean(axis=0)
    extent_a, extent_b, dot = (float((x * y).sum()) for x, y in ((a, a), (b, b), (a, b)))
    degrees = a.size - 4                        # three for the mean, one for the scale
    if not dot > 0 or degrees < 1:
        return 0.0, np.inf
    scale = np.sqrt(extent_a / extent_b)
    residual = float(((a - scale * b)**2).sum())
    return float(np.log(scale)), residual / degrees / extent_a + _SIGMA_CENTRES**2


def _from_layers(scales: Sequence[LogScales], pixels: Sequence[np.ndarray]):
    """Return the mean log scale over the layers and its variance."""
    value, weight, _ = _known(scales, pixels)
    if not len(value):
        return 0.0, _SIGMA_LAYERS**2
    middle = weighted_median(value, weight)
    sigma = np.hypot(_deviation(value, middle, weight), _SIGMA_LAYERS)
    # large layers say little more than small ones, but small ones may be no layers at all
    kept = np.clip(value, middle - 2.5 * sigma, middle + 2.5 * sigma)
    root = np.sqrt(weight)
    # not over their number: near and far layers of a network err alike in part
    return float(root @ kept / root.sum()), float(sigma**2)


def _known(scales: Sequence[LogScales], pixels: Sequence[np.ndarray]):
    """Return values, sizes and spreads (L,) of all layers that have a scale."""
    return tuple(np.concatenate(parts) for parts in zip(*(
        (s.value[s.is_known], p[s.is_known].astype(np.float64), s.spread[s.is_known])
        for s, p in zip(scales, pixels))))


def _deviation(value: np.ndarray, middle: float, weight: np.ndarray) -> float:
    """Return the standard deviation of layers (L,) about a value, from the mean distance."""
    return 1.2533 * float(weight @ np.abs(value - middle)) / max(float(weight.sum()), 1.0)
