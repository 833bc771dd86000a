"""How noisy poses and scales of windows are, measured where two windows saw the same frames.

Both windows measured the shared cameras, each with errors of its own; after alignment the two
still differ by those errors, less what the alignment took away. A link has few shared frames, so
what it shows is pooled with the links before it, and with a guess that soon counts little.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Optional, Tuple

import numpy as np

from ..geometry import se3
from ..types import FrameState, Prediction
from .base import common_frames

_MAX_LOG_EXTENT = 0.5
_KEEP = 1.0 - 1.0 / 30.0        # older links count exponentially less: about 30 are remembered
_POOL_LINKS = 2.0               # one link is weighed against so many of the pool
_MIN_SHOWN, _DRIFT_CHI2, _MAX_SHRUNK = 0.2, 3.0, 5.0
_WEIGHT_PRIOR, _WEIGHT_SCALE_PRIOR = 4.0, 2.0
_SIGMA_T, _SIGMA_R, _SIGMA_SCALE = 0.003, 0.0015, 0.05     # guesses before the first link
MIN_SIGMA_T, MIN_SIGMA_R, _MIN_SIGMA_SCALE = 3e-4, 1e-4, 3e-3    # agreement is no certainty


class Disagreement(NamedTuple):
    """How two aligned windows differ on their shared frames; lengths are over depth.

    Sums of squares are of one window's part of the difference; those with 0 degrees of freedom
    say nothing.
    """

    n_shared: int = 0                       # frames whose pose both windows measured
    squares_t: float = 0.0                  # of positions, mean and scale taken off
    freedom_t: int = 0
    squares_r: float = 0.0                  # rad^2, of orientations, the mean taken off
    freedom_r: int = 0
    log_extent: float = 0.0                 # ln of the cameras' extent in previous over current
    extent: float = 0.0                     # their sum of squares about the mean
    trend: float = 0.0                      # rad^2 a frame^2, of turning too fast, an axis


class Noise(NamedTuple):
    """Variances that hold for one link."""

    position: float                         # of a camera in its window, an axis, over depth^2
    rotation: float                         # the same of its orientation, rad^2
    scale: float                            # of the log scale between neighbouring windows
    trend: float                            # of turning too fast, an axis, rad^2 a frame^2


@dataclass(frozen=True, slots=True)
class NoisePool:
    """Sums over the links so far, older ones fading; immutable.

    Squares over their weight are a mean square; `Disagreement` and `Noise` have the units.
    """

    squares_t: float = 0.0
    weight_t: float = 0.0
    squares_r: float = 0.0
    weight_r: float = 0.0
    squares_scale: float = 0.0
    weight_scale: float = 0.0
    squares_spread: float = 0.0
    weight_spread: float = 0.0
    trends: float = 0.0
    weight_trend: float = 0.0
    log_shrunk: float = 0.0                 # sum of all links' log extents: odom by now too small
    variance_shrunk: float = 0.0            # of that, by the noise of positions

    def noise(self, own: Optional[Disagreement] = None) -> Noise:
        """Return the variances of a link that showed ``own``, which is in the pool already."""
        own = own or Disagreement()
        position = _mean(self.squares_t, self.weight_t, own.squares_t, own.freedom_t, _SIGMA_T)
        rotation = _mean(self.squares_r, self.weight_r, own.squares_r, own.freedom_r, _SIGMA_R)
        weight, excess = self._scale_shown(own)
        scale = ((self.squares_scale + _WEIGHT_SCALE_PRIOR * self._scale_guess)
                 / (self.weight_scale + _WEIGHT_SCALE_PRIOR))
        scale = (_POOL_LINKS * scale + excess) / (_POOL_LINKS + weight)
        trend = max(self.trends, 0.0) / max(self.weight_trend, 1.0)
        return Noise(max(position, MIN_SIGMA_T**2), max(rotation, MIN_SIGMA_R**2),
                     max(scale, _MIN_SIGMA_SCALE**2), trend)

    @property
    def _scale_guess(self) -> float:
        """Variance of the scale between windows, as long as no cameras told."""
        spread = self.squares_spread / self.weight_spread if self.weight_spread > 0 else 0.0
        return max(spread, _SIGMA_SCALE**2)

    def _scale_shown(self, own: Disagreement) -> Tuple[float, float]:
        """Return the weight of what a link shows of its scale, and its square times that."""
        if not own.extent > 0:
            return 0.0, 0.0
        by_noise = self._by_noise(own)
        # a link whose cameras hardly moved cannot tell its scale
        weight = (self._scale_guess / (self._scale_guess + by_noise))**2
        return weight, weight * (own.log_extent**2 - by_noise)

    def _by_noise(self, own: Disagreement) -> float:
        position = _mean(self.squares_t, self.weight_t, 0.0, 0, _SIGMA_T)
        return 2.0 * position / own.extent

    @property
    def seen_drift(self) -> float:
        """Variance of the scale that the links together show beyond doubt; 0 for none.

        Where neighbouring windows disagree in the same sense again and again, the scale of odom
        runs away, which no sum of independent errors explains.
        """
        shrunk = float(np.clip(self.log_shrunk, -_MAX_SHRUNK, _MAX_SHRUNK))
        # where odom is too small, its own units make the error look small
        drift = np.expm1(shrunk) if shrunk > 0 else shrunk
        return max(0.0, drift**2 / _DRIFT_CHI2 - self.variance_shrunk)

    def add(self, seen: Disagreement, log_scale_spread: float) -> 'NoisePool':
        """Return the pool with one link more; a spread of 0 is none."""
        weight, excess = self._scale_shown(seen)
        # what shows nothing, such as standing, makes nothing forgotten
        keep_t, keep_r = _KEEP**(seen.freedom_t > 0), _KEEP**(seen.freedom_r > 0)
        keep_scale = _KEEP**weight
        is_shown = weight > _MIN_SHOWN
        by_noise = self._by_noise(seen) if is_shown else 0.0
        return replace(
            self,
            squares_t=keep_t * self.squares_t + seen.squares_t,
            weight_t=keep_t * self.weight_t + seen.freedom_t,
            squares_r=keep_r * self.squares_r + seen.squares_r,
            weight_r=keep_r * self.weight_r + seen.freedom_r,
            squares_scale=keep_scale * self.squares_scale + excess,
            weight_scale=keep_scale * self.weight_scale + weight,
            squares_spread=_KEEP * self.squares_spread + log_scale_spread**2,
            weight_spread=_KEEP * self.weight_spread + (log_scale_spread > 0),
            trends=keep_r * self.trends + seen.trend,
            weight_trend=keep_r * self.weight_trend + (seen.freedom_r > 0),
            log_shrunk=self.log_shrunk + (seen.log_extent if is_shown else 0.0),
            variance_shrunk=self.variance_shrunk + (by_noise if is_shown else 0.0))


def disagreement(previous: Prediction, current: Prediction, depth: float) -> Disagreement:
    """Compare the shared cameras of two windows that are both in odom; ``depth`` > 0 is a unit."""
    i, j = common_frames(previous, current)
    states = np.stack([previous.states[i], current.states[j]])
    is_measured = (states != FrameState.LOST).all(axis=0)
    is_moving = (states == FrameState.TRACKED).all(axis=0)
    can_turn = is_moving | (is_measured & (states == FrameState.ROTATION_ONLY).any(axis=0))
    a, b = previous.T_window_camera[i], current.T_window_camera[j]
    squares_t, freedom_t, log_extent, extent = _positions(
        a[is_moving, :3, 3] / depth, b[is_moving, :3, 3] / depth)
    squares_r, freedom_r, trend = _rotations(a[can_turn, :3, :3], b[can_turn, :3, :3],
                                             previous.frame_ids[i[can_turn]])
    return Disagreement(int(is_measured.sum()), squares_t, freedom_t, squares_r, freedom_r,
                        log_extent, extent, trend)


def _positions(a: np.ndarray, b: np.ndarray):
    """Return squares, degrees of freedom, ln of the ratio of extents, and extent of (C, 3)."""
    freedom = 3 * len(a) - 4                # three for the mean, one for the scale
    if freedom < 1:
        return 0.0, 0, 0.0, 0.0
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    extent_a, extent_b = float((a * a).sum()), float((b * b).sum())
    log_extent = 0.0
    if extent_a > 0 and extent_b > 0:
        log_extent = float(np.clip(0.5 * np.log(extent_a / extent_b), -_MAX_LOG_EXTENT,
                                   _MAX_LOG_EXTENT))
    squares = 0.5 * float(((a - np.exp(log_extent) * b)**2).sum())
    return squares, freedom, log_extent, min(extent_a, extent_b)


def _rotations(a: np.ndarray, b: np.ndarray, ids: np.ndarray):
    """Return squares, degrees of freedom and variance of the trend of (C, 3, 3)."""
    freedom = 3 * len(a) - 3
    if freedom < 1:
        return 0.0, 0, 0.0
    turns = se3.so3_log(a @ np.swapaxes(b, -1, -2))
    turns = turns - turns.mean(axis=0)
    squares = 0.5 * float((turns**2).sum())
    if len(a) < 3:
        return squares, freedom, 0.0
    time = ids - ids.mean()
    slope = time @ turns / (time @ time)
    rest = turns - time[:, None] * slope
    by_noise = float((rest**2).sum()) / (3 * len(a) - 6) / float(time @ time)
    # white noise has such slopes, too: only what is well above them counts
    return squares, freedom, 0.5 * (float(slope @ slope) / 3 - 2 * by_noise)


def _mean(squares: float, weight: float, own_squares: float, own_weight: float,
          guess: float) -> float:
    """Return the mean square of the pool, or of one link weighed against the pool.

    ``guess`` is a deviation that counts like a few values.
    """
    squares, weight = squares + _WEIGHT_PRIOR * guess**2, weight + _WEIGHT_PRIOR
    share = min(1.0, _POOL_LINKS * own_weight / weight) if own_weight else 1.0
    if share == 1.0:
        return squares / weight
    return (share * squares + own_squares) / (share * weight + own_weight)
