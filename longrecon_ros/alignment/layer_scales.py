"""The logarithm of the scale of every layer of a frame: measured, combined, completed."""

from dataclasses import dataclass

import numpy as np

_PIXELS_ALIKE = 30          # neighbouring pixels err together: so many count as one
_FLOOR = 5e-4               # deviation that no number of pixels goes below
_LEAST_PIXELS, _LEAST_SHARE = 5, 1 / 2000
_USUAL_GROWTH = 0.08        # share of a layer that is new in a frame while the camera moves on
_KERNEL = 0.3               # log depth over which layers without a link resemble each other
_EXPECTED = 0.3             # how much the expected value counts beside them, in usual layers


@dataclass(frozen=True, slots=True, eq=False)
class LogScales:
    """Log scales against the last window, of the n layers of a frame; variance inf: not known."""

    value: np.ndarray                       # (n,) f64
    variance: np.ndarray                    # (n,) f64, of the value
    spread: np.ndarray                      # (n,) f64, robust deviation of the pixels
    inherited: np.ndarray                   # (n,) f64, variance of the last window's log scale
    doubt: np.ndarray                       # (n,) f64, 0 to 1, of being the same layer still

    @classmethod
    def unknown(cls, n: int) -> 'LogScales':
        """Return estimates that say nothing."""
        return cls(np.zeros(n), np.full(n, np.inf), np.zeros(n), np.zeros(n), np.zeros(n))

    @property
    def is_known(self) -> np.ndarray:
        """(n,) bool."""
        return np.isfinite(self.variance)


def handed_on(before: LogScales, origin: np.ndarray, unseen: np.ndarray,
              step: float) -> LogScales:
    """Return the estimates of layers that go on from those of the frame before.

    ``origin`` (n,) is their number there, -1 of a new one; ``step`` is the deviation that a frame
    adds; ``unseen`` (n,) is the share that the frame before has not seen: a layer that grows fast
    may be another thing that has come into view.
    """
    known = origin >= 0
    variance = np.where(known, before.variance[origin] + step**2, np.inf)
    doubt = np.clip((unseen - _USUAL_GROWTH) / (1.0 - _USUAL_GROWTH), 0.0, 1.0)
    value, spread, inherited, doubt_before = (
        np.where(known, of_layers[origin], 0.0)
        for of_layers in (before.value, before.spread, before.inherited, before.doubt))
    doubt = 1.0 - (1.0 - doubt_before) * (1.0 - doubt)
    return LogScales(value, variance, spread, inherited, doubt)


def measure(log_scale: np.ndarray, weights: np.ndarray, inherited: np.ndarray,
            labels: np.ndarray, n: int) -> LogScales:
    """Return the weighted medians of a map (h, w) over the n layers of labels (h, w).

    ``weights`` (h, w) >= 0; ``inherited`` (h, w) is the variance of what the map compares with. A
    layer with hardly any weighted pixel is unknown.
    """
    result = LogScales.unknown(n)
    used = np.flatnonzero((weights > 0).ravel() & np.isfinite(log_scale).ravel())
    if not len(used):
        return result
    values, w = log_scale.ravel()[used].astype(np.float64), weights.ravel()[used]
    of = labels.ravel()[used]
    total = np.bincount(of, minlength=n)
    mean = np.bincount(of, inherited.ravel()[used], minlength=n) / np.maximum(total, 1)
    order = np.lexsort((values, of))
    values, w, of = values[order], w[order].astype(np.float64), of[order]
    starts = np.searchsorted(of, np.arange(n + 1))
    least = max(_LEAST_PIXELS, labels.size * _LEAST_SHARE)
    for k in np.flatnonzero(total >= least):
        part = slice(starts[k], starts[k + 1])
        result.value[k], spread = _median_and_spread(values[part], w[part])
        n_alone = max(total[k] / _PIXELS_ALIKE, 1.0)
        result.variance[k], result.spread[k] = spread**2 / n_alone + _FLOOR**2, spread
        result.inherited[k] = mean[k]
    return result


def combine(a: LogScales, b: LogScales) -> LogScales:
    """Return the mean of two estimates of the same layers, weighted by certainty."""
    with np.errstate(divide='ignore'):
        certainty_a, certainty_b = 1.0 / a.variance, 1.0 / b.variance
    total = certainty_a + certainty_b
    known = total > 0
    safe = np.where(known, total, 1.0)
    value = np.where(known, (a.value * certainty_a + b.value * certainty_b) / safe, 0.0)
    inherited = (a.inherited * certainty_a + b.inherited * certainty_b) / safe
    return LogScales(value, np.where(known, 1.0 / safe, np.inf), np.maximum(a.spread, b.spread),
                     np.where(known, inherited, 0.0), np.minimum(a.doubt, b.doubt))


def fill(scales: LogScales, log_depth: np.ndarray, pixels: np.ndarray,
         expected: float) -> np.ndarray:
    """Return a value (n,) for every layer: one without a link resembles those at its depth.

    ``log_depth`` (n,) are the mean log depths of the layers, ``pixels`` (n,) their sizes;
    ``expected`` is the value far from every known layer.
    """
    known = scales.is_known
    distance = (log_depth[:, None] - log_depth[known]) / _KERNEL
    weight = np.sqrt(pixels[known]) * np.exp(-distance**2 / 2)
    weight_expected = _EXPECTED * np.sqrt(pixels.mean())
    alike = ((weight @ scales.value[known] + weight_expected * expected)
             / (weight.sum(axis=1) + weight_expected))
    return np.where(known, scales.value, alike)


def _median_and_spread(values: np.ndarray, weights: np.ndarray):
    """Return the weighted median of ascending values, and 1.48 times that of the deviations."""
    cumulative = np.cumsum(weights)
    median = values[np.searchsorted(cumulative, cumulative[-1] / 2)]
    deviation = np.abs(values - median)
    order = np.argsort(deviation)
    cumulative = np.cumsum(weights[order])
    return median, 1.4826 * deviation[order[np.searchsorted(cumulative, cumulative[-1] / 2)]]
