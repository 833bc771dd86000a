"""The logarithm of the scale of every layer of a window: measured, handed on, combined."""

from dataclasses import dataclass

import numpy as np

_PIXELS_ALIKE = 30          # neighbouring pixels err together: so many count as one
_FLOOR = 1e-3               # deviation that no number of pixels goes below
_STEP = 3e-3                # deviation added from one frame to the next
_MINOR_SHARE = 0.25         # sources below this share of the largest one are leaks at borders
_KERNEL = 0.3               # log depth over which layers without a link resemble each other


@dataclass(frozen=True, slots=True, eq=False)
class LogScales:
    """Estimates for the n layers of one frame; variance inf where nothing is known."""

    value: np.ndarray                       # (n,) f64
    variance: np.ndarray                    # (n,) f64
    pixels: np.ndarray                      # (n,) i64, size of the layers on the grid

    @property
    def is_known(self) -> np.ndarray:
        """(n,) bool."""
        return np.isfinite(self.variance)


def unknown(pixels: np.ndarray) -> LogScales:
    """Return estimates that say nothing."""
    return LogScales(np.zeros(len(pixels)), np.full(len(pixels), np.inf), pixels)


def measure(log_ratio: np.ndarray, weights: np.ndarray, labels: np.ndarray, pixels: np.ndarray,
            min_pixels: int) -> LogScales:
    """Return the weighted medians of log ratios (h, w) over layers (h, w).

    ``weights`` (h, w) >= 0. A layer with fewer than ``min_pixels`` weighted pixels is unknown.
    """
    result = unknown(pixels)
    used = np.flatnonzero((weights > 0).ravel() & np.isfinite(log_ratio).ravel())
    if not len(used):
        return result
    values, w = log_ratio.ravel()[used].astype(np.float64), weights.ravel()[used]
    of = labels.ravel()[used]
    order = np.lexsort((values, of))
    values, w, of = values[order], w[order].astype(np.float64), of[order]
    starts = np.searchsorted(of, np.arange(len(pixels) + 1))
    for k in np.flatnonzero(np.diff(starts) >= min_pixels):
        part = slice(starts[k], starts[k + 1])
        median, spread = _median_and_spread(values[part], w[part])
        n = (starts[k + 1] - starts[k]) / _PIXELS_ALIKE
        result.value[k], result.variance[k] = median, spread**2 / max(n, 1.0) + _FLOOR**2
    return result


def hand_on(before: LogScales, counts: np.ndarray, pixels: np.ndarray) -> LogScales:
    """Return what the layers of the next frame take over: ``counts`` (n_before, n) of pixels."""
    counts = np.where(before.is_known[:, None], counts, 0).astype(np.float64)
    counts[counts < _MINOR_SHARE * counts.max(axis=0, initial=0.0)] = 0.0
    total = counts.sum(axis=0)
    linked = total > 0
    share = counts / np.where(linked, total, 1.0)
    value = before.value @ share
    own = np.where(before.is_known, before.variance, 0.0) @ share
    between = (share * (before.value[:, None] - value)**2).sum(axis=0)
    variance = np.where(linked, own + between + _STEP**2, np.inf)
    return LogScales(value, variance, pixels)


def combine(a: LogScales, b: LogScales) -> LogScales:
    """Return the mean of two estimates of the same layers, weighted by certainty."""
    with np.errstate(divide='ignore'):
        certainty_a, certainty_b = 1.0 / a.variance, 1.0 / b.variance
    total = certainty_a + certainty_b
    known = total > 0
    safe = np.where(known, total, 1.0)
    value = np.where(known, (a.value * certainty_a + b.value * certainty_b) / safe, 0.0)
    return LogScales(value, np.where(known, 1.0 / safe, np.inf), a.pixels)


def fill(scales: LogScales, log_depth: np.ndarray) -> np.ndarray:
    """Return a value (n,) for every layer: one without a link resembles those at its depth.

    ``log_depth`` (n,) are the mean log depths of the layers. Without any known layer it is 0:
    the scale of the window alone.
    """
    known = scales.is_known
    if not known.any():
        return np.zeros(len(known))
    if known.all():
        return scales.value
    distance = np.abs(log_depth[:, None] - log_depth[known])
    weight = scales.pixels[known] * np.exp(-(distance - distance.min(axis=1, keepdims=True))
                                           / _KERNEL)
    alike = weight @ scales.value[known] / weight.sum(axis=1)
    return np.where(known, scales.value, alike)


def _median_and_spread(values: np.ndarray, weights: np.ndarray):
    """Return the weighted median of ascending values, and 1.48 times that of the deviations."""
    cumulative = np.cumsum(weights)
    median = values[np.searchsorted(cumulative, cumulative[-1] / 2)]
    deviation = np.abs(values - median)
    order = np.argsort(deviation)
    cumulative = np.cumsum(weights[order])
    return median, 1.4826 * deviation[order[np.searchsorted(cumulative, cumulative[-1] / 2)]]
