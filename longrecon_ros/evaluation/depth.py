"""Errors of depth maps, gathered frame by frame without keeping the maps."""

from dataclasses import dataclass

import numpy as np

CONFIDENT = 0.5
"""A pixel whose confidence is above this counts as predicted."""

# Every measure is a function of the ratio of predicted to true depth, and a common scale only
# shifts its logarithm. So a fine histogram of log ratios is enough, and the scale may come last.
_BIN = 2e-4
_LIMIT = 10.0       # e^10: scales up to 22,000 either way
_N_BINS = int(2 * _LIMIT / _BIN)


@dataclass(frozen=True, slots=True)
class DepthScore:
    """Errors over all confident pixels that have a truth; shares are in [0, 1]."""

    absrel: float
    """Mean of |predicted - true| / true."""
    median: float
    """Median of the same."""
    within_10_percent: float
    within_factor_1_25: float
    """Share of pixels with max(predicted / true, true / predicted) < 1.25 (delta 1)."""


class DepthScores:
    """Gathers predicted and true depth maps of a run, one frame at a time."""

    def __init__(self):
        self._run = np.zeros(_N_BINS, np.int64)
        self._per_frame = np.zeros(_N_BINS, np.int64)
        self.n_frames = 0
        self.n_true = 0
        self.n_confident = 0

    def add(self, depth: np.ndarray, confidence: np.ndarray, true_depth: np.ndarray) -> None:
        """Count one frame: three maps (H, W); ``true_depth`` is in m, 0 or NaN where unmeasured.

        Raises ``ValueError`` when the shapes differ.
        """
        if not depth.shape == confidence.shape == true_depth.shape:
            raise ValueError('depth, confidence, true_depth: expected one shape (H, W), got '
                             f'{depth.shape}, {confidence.shape} and {true_depth.shape}')
        is_true = np.isfinite(true_depth) & (true_depth > 0)
        is_used = is_true & (confidence > CONFIDENT) & (depth > 0) & np.isfinite(depth)
        self.n_frames += 1
        self.n_true += int(np.count_nonzero(is_true))
        self.n_confident += int(np.count_nonzero(is_used))
        if is_used.any():
            log_ratio = np.log(depth[is_used].astype(np.float64) / true_depth[is_used])
            self._run += _histogram(log_ratio)
            self._per_frame += _histogram(log_ratio - np.median(log_ratio))

    @property
    def coverage(self) -> float:
        """Share of the pixels with a truth that are confident; NaN without any."""
        return self.n_confident / self.n_true if self.n_true else float('nan')

    @property
    def median_scale(self) -> float:
        """Scale that makes the median predicted depth of the run right."""
        return float(np.exp(-_quantile(self._run, _centres(), 0.5)))

    def with_scale(self, scale: float) -> DepthScore | None:
        """Return the score with all predictions multiplied by one scale; None without pixels."""
        return _score(self._run, np.log(scale)) if self.n_confident else None

    def per_frame_scale(self) -> DepthScore | None:
        """Return the score with each frame scaled by its own median, as depth papers do."""
        return _score(self._per_frame, 0.0) if self.n_confident else None


def _histogram(log_ratio: np.ndarray) -> np.ndarray:
    bins = np.clip(((log_ratio + _LIMIT) / _BIN).astype(np.int64), 0, _N_BINS - 1)
    return np.bincount(bins, minlength=_N_BINS)


def _centres() -> np.ndarray:
    return (np.arange(_N_BINS) + 0.5) * _BIN - _LIMIT


def _score(counts: np.ndarray, log_scale: float) -> DepthScore:
    log_ratio = _centres() + log_scale
    error = np.abs(np.expm1(log_ratio))
    n = counts.sum()
    return DepthScore(absrel=float(counts @ error / n), median=_quantile(counts, error, 0.5),
                      within_10_percent=float(counts[error < 0.1].sum() / n),
                      within_factor_1_25=float(counts[np.abs(log_ratio) < np.log(1.25)].sum() / n))


def _quantile(counts: np.ndarray, values: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    below = np.cumsum(counts[order])
    return float(values[order[np.searchsorted(below, share * below[-1])]])
