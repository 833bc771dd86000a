"""From measurements of the scale to one estimate that can be trusted."""

from collections import deque
import math
from typing import Deque, NamedTuple, Optional

import numpy as np

from .records import Measurement, ScaleEstimate, State
from .settings import ScaleConfig

_MIN_ESTIMATED = 3              # measurements before a value is given at all
_TAIL = 2.0                     # sigmas at which influence begins to fall
_N_ITERATIONS, _CONVERGED = 20, 1e-6
_MIN_INLIER_SHARE = 0.5         # for metric: more slip than that is no measurement
_INLIER_SIGMAS = 3.0
_MIN_CORRELATED = 6
_N_RECENT = 12                  # that must agree on another value before the old one is dropped
_RECENT_INLIER_SHARE = 0.8
_CHANGE_SIGMAS = 4.0
_N_NEWEST = 5                   # must agree with the mean for it to become metric
_LEAVE_METRIC = 1.5             # times metric_sigma
_MAX_STEP_S = 1.0               # a pause allows no larger step than a second


class _Mean(NamedTuple):
    """A robust mean of measurements: value and sigma of it, and the share that agrees."""

    log_scale: float
    sigma: float
    inlier_share: float


class ScaleFilter:
    """Holds the newest measurements; their robust mean is the estimate.

    States: arbitrary until three measurements are there, then estimated, and metric once sigma is
    at most ``metric_sigma``, at least ``min_measurements`` are there, half of them agree, and the
    newest five do.

    freeze: the first metric value stays until the filter is replaced. adapt: it follows the mean.
    From the first metric value on it changes by ``adapt_rate`` a second at most, by the stamps of
    the measurements; what it lags behind counts into its sigma, which may lose it the state
    metric. Before that the value is the mean itself, whatever it was.

    A sudden change (or a wrong start): where the newest twelve agree among themselves and not with
    the older ones, adapt forgets the older ones; freeze does not, because a burst of slip looks
    the same, so there a wrong start has to be outvoted, or fall out of the memory. A wrong start
    that is long enough to become metric (ten measurements that agree) stays in freeze, with a
    `disagreement` to tell, and takes its time at ``adapt_rate`` in adapt.
    """

    def __init__(self, config: ScaleConfig):
        self._config = config
        self._memory: Deque[Measurement] = deque(maxlen=config.memory)
        self._n = 0
        self._log: Optional[float] = None       # the value given, None before the first
        self._recent = 0.0                      # what the newest measurements say
        self._recent = 0.0                      # what the newest measurements say
        self._sigma = math.inf
        self._state: State = 'arbitrary'
        self._was_metric = False
        self._newest_ns: Optional[int] = None

    def add(self, measurement: Measurement) -> None:
        """Take one measurement; its stamp need not be newer than the last one's."""
        self._n += 1
        self._memory.append(measurement)
        if self._config.mode == 'adapt':
            self._forget_old_value()
        elapsed_s = self._advance(measurement.stamp_ns)
        if len(self._memory) < _MIN_ESTIMATED:
            return
        self._recent = robust_mean(list(self._memory)[-_N_RECENT:]).log_scale
        if self._is_frozen:
            return
        mean = self._mean()
        self._log = self._followed(mean.log_scale, elapsed_s)
        self._sigma = math.hypot(mean.sigma, self._log - mean.log_scale)
        self._state = self._next_state(mean)
        self._was_metric |= self._state == 'metric'

    def estimate(self) -> ScaleEstimate:
        """Return what is known by now."""
        if self._log is None:
            return ScaleEstimate(source=self._config.source, n_measurements=self._n)
        return ScaleEstimate(math.exp(self._log), self._sigma, self._state, self._config.source,
                             self._n, self._recent - self._log)

    @property
    def _is_frozen(self) -> bool:
        return self._config.mode == 'freeze' and self._was_metric

    def _mean(self) -> _Mean:
        mean = robust_mean(self._memory)
        return mean._replace(sigma=math.hypot(mean.sigma, self._config.min_sigma))

    def _followed(self, target: float, elapsed_s: float) -> float:
        """Return the next value: the target, or as near to it as the rate allows."""
        if not self._was_metric or self._log is None:
            return target
        step = math.log1p(self._config.adapt_rate) * min(elapsed_s, _MAX_STEP_S)
        return self._log + min(max(target - self._log, -step), step)

    def _next_state(self, mean: _Mean) -> State:
        bound, is_metric = self._config.metric_sigma, self._state == 'metric'
        is_sure = (len(self._memory) >= self._config.min_measurements
                   and self._sigma <= bound * (_LEAVE_METRIC if is_metric else 1.0)
                   and mean.inlier_share >= _MIN_INLIER_SHARE)
        if is_sure and not is_metric:
            newest = robust_mean(list(self._memory)[-_N_NEWEST:]).log_scale
            is_sure = abs(newest - mean.log_scale) <= max(bound, 3 * self._sigma)
        return 'metric' if is_sure else 'estimated'

    def _advance(self, stamp_ns: int) -> float:
        """Return the time (s) since the newest measurement before."""
        if self._newest_ns is None or stamp_ns <= self._newest_ns:
            self._newest_ns = stamp_ns if self._newest_ns is None else self._newest_ns
            return 0.0
        elapsed_ns, self._newest_ns = stamp_ns - self._newest_ns, stamp_ns
        return elapsed_ns * 1e-9

    def _forget_old_value(self) -> None:
        """Drop what is older than a sudden change."""
        if len(self._memory) < _N_RECENT + _MIN_ESTIMATED:
            return
        measurements = list(self._memory)
        old, recent = robust_mean(measurements[:-_N_RECENT]), robust_mean(
            measurements[-_N_RECENT:])
        sigma = math.hypot(old.sigma, recent.sigma, self._config.min_sigma)
        if (abs(recent.log_scale - old.log_scale) > _CHANGE_SIGMAS * sigma
                and recent.inlier_share >= _RECENT_INLIER_SHARE):
            for _ in range(len(measurements) - _N_RECENT):
                self._memory.popleft()


def robust_mean(measurements) -> _Mean:
    """Return the M-estimate of measurements in the order of time; there must be at least one.

    Starts in the middle of the shortest half (least median of squares, Rousseeuw 1984), because
    slip errs to one side only, and reweights by ``(1 + e^2 / (4 k^2))^-2``, the influence of a
    t-like tail, e in sigmas. k is 1, or how much more that half spreads than it claims. The
    variance is the larger one of what they claim and of what they show (the sandwich of Huber
    1967), times what neighbours in time that are alike take away from their number (first-order
    autoregression).
    """
    values = np.array([m.log_scale for m in measurements])
    sigmas = np.array([m.sigma for m in measurements])
    value, width = _shortest_half(values, sigmas**-2)
    # of a normal distribution, half lies within 0.67 sigmas; few samples look narrower
    spread = max(1.0, 1.4826 * (1 + 5 / max(1, len(values) - 1))
                 * width / 2 / float(np.median(sigmas)))
    for _ in range(_N_ITERATIONS):
        error = (values - value) / (sigmas * spread)
        weights = (1.0 + (error / _TAIL)**2)**-2 / sigmas**2
        last, value = value, float(weights @ values / weights.sum())
        if abs(value - last) < _CONVERGED:
            break
    error = (values - value) / (sigmas * spread)
    variance = _variance(values - value, sigmas, weights, _alike(error))
    return _Mean(value, math.sqrt(variance), float((np.abs(error) < _INLIER_SIGMAS).mean()))


def _variance(residual: np.ndarray, sigmas: np.ndarray, weights: np.ndarray,
              alike: float) -> float:
    """Return the variance of the weighted mean.

    The largest of three: what they claim, outliers not counted; the sandwich; and what they claim
    times how much more they spread. The two that are seen count ``alike`` times. Few measurements
    may agree by chance.
    """
    n, total = len(residual), float(weights.sum())
    shown = float(weights**2 @ residual**2) / total**2
    excess = 1.4826 * float(np.median(np.abs(residual) / sigmas))
    few = (n + 2) / max(1, n - 2)
    return few * max(1 / total, alike * shown, alike * excess**2 / float((sigmas**-2).sum()))


def _alike(error: np.ndarray) -> float:
    """Return by how much errors (n,) that go on from one to the next increase the variance."""
    n = len(error)
    inlier = np.where(np.abs(error) < _INLIER_SIGMAS, error, 0.0)
    square = float(inlier @ inlier)
    if n < _MIN_CORRELATED or square <= 0:
        return 1.0
    correlation = float(inlier[1:] @ inlier[:-1]) / square
    # what a short series shows is too low, on average by so much (Kendall 1954)
    correlation = min(max(correlation + (1 + 3 * correlation) / n, 0.0), 0.9)
    return (1 + correlation) / (1 - correlation)


def _shortest_half(values: np.ndarray, weights: np.ndarray) -> tuple:
    """Return the middle and the length of the shortest interval with half of the weight."""
    order = np.argsort(values, kind='stable')
    ordered = values[order]
    cumulative = np.concatenate([[0.0], np.cumsum(weights[order])])
    half = cumulative[-1] / 2
    # the first value whose interval from value i holds half
    end = np.searchsorted(cumulative, cumulative[:-1] + half * (1 - 1e-9)) - 1
    start = np.flatnonzero(end < len(values))
    length = ordered[end[start]] - ordered[start]
    best = np.argmin(length)
    return float(ordered[start[best]] + length[best] / 2), float(length[best])
