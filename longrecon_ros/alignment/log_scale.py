"""Robust estimates of the logarithm of the scale between two windows."""

from dataclasses import dataclass

import numpy as np

from ..types import Landmarks, Prediction
from .sampling import evenly


@dataclass(frozen=True, slots=True)
class LogScale:
    """One estimate: ln(previous / current), how it was reached, and how sure it is."""

    value: float
    variance: float                         # of value, statistical part only
    spread: float                           # robust standard deviation of the single samples
    n_inliers: int
    n_samples: int


@dataclass(frozen=True, slots=True, eq=False)
class LogRatios:
    """Samples of ln(z_previous / z_current) and their expected variances."""

    values: np.ndarray                      # (S,) f64
    variances: np.ndarray                   # (S,) f64
    depths: np.ndarray                      # (S,) f64 m, z_previous

    def __len__(self) -> int:
        return len(self.values)


def robust_mean(ratios: LogRatios, n_iterations: int = 10) -> LogScale:
    """Return the M-estimate of the samples; there must be at least one.

    Starts at the weighted median; reweights by ``(1 + e^2 / (4 var))^-2`` (the influence of a
    t-like tail), so that a third of the samples may be wrong.
    """
    values, weights = ratios.values, 1.0 / ratios.variances
    value = weighted_median(values, weights)
    for _ in range(n_iterations):
        w = weights * (1.0 + (values - value)**2 / (4.0 * ratios.variances))**-2
        value = float((w * values).sum() / w.sum())
    error = np.abs(values - value)
    return LogScale(value, float(1.0 / w.sum()), 1.4826 * weighted_median(error, weights),
                    int((error < 3.0 * np.sqrt(ratios.variances)).sum()), len(values))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the smallest value at which half of the weight (S,) is reached."""
    order = np.argsort(values, kind='stable')
    cumulative = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(cumulative, cumulative[-1] / 2)]])


def landmark_ratios(previous: Prediction, current: Prediction, i: np.ndarray, j: np.ndarray,
                    floor: float) -> LogRatios:
    """Return one sample a landmark that both windows have, its mean over the shared frames.

    ``i`` and ``j`` are the positions of the shared frames; the depth of a landmark counts in
    frames where both windows see it in front of the camera. ``floor`` is the deviation added to
    those of the landmarks.
    """
    if previous.landmarks is None or current.landmarks is None:
        return LogRatios(*np.zeros((3, 0)))
    _, a, b = np.intersect1d(previous.landmarks.ids, current.landmarks.ids, assume_unique=True,
                             return_indices=True)
    z_previous = _depths(previous.landmarks, a, previous.T_window_camera[i])
    z_current = _depths(current.landmarks, b, current.T_window_camera[j])
    is_seen = (z_previous > 0) & (z_current > 0)
    count = is_seen.sum(axis=0)
    log_ratio = np.zeros(z_previous.shape)
    np.log(np.divide(z_previous, z_current, out=np.ones_like(log_ratio), where=is_seen),
           out=log_ratio)
    variance = (previous.landmarks.sigma_log_depth[a]**2
                + current.landmarks.sigma_log_depth[b]**2 + floor**2)
    used = (count > 0) & np.isfinite(variance)
    count = count[used]
    depth = np.where(is_seen, z_previous, 0.0).sum(axis=0)[used] / count
    return LogRatios(log_ratio.sum(axis=0)[used] / count, variance[used], depth)


def dense_ratios(previous: Prediction, current: Prediction, i: np.ndarray, j: np.ndarray,
                 sigma: float, max_samples: int) -> LogRatios:
    """Return samples at pixels of the shared frames whose depth both windows define.

    ``sigma`` is the deviation expected at confidence 1; it grows as confidence falls. Pixels
    are taken evenly, ``max_samples`` at most.
    """
    both = previous.confidence[i] * current.confidence[j]
    z_previous, z_current = previous.depth[i], current.depth[j]
    used = np.flatnonzero((both > 0) & (z_previous > 0) & (z_current > 0))
    used = used[evenly(len(used), max_samples)]
    z_previous = z_previous.reshape(-1)[used].astype(np.float64)
    values = np.log(z_previous / z_current.reshape(-1)[used])
    is_finite = np.isfinite(values)
    variances = sigma**2 / both.reshape(-1)[used]
    return LogRatios(values[is_finite], variances[is_finite].astype(np.float64),
                     z_previous[is_finite])


def centre_scale(previous: np.ndarray, current: np.ndarray) -> LogScale:
    """Return the log scale from camera centres (C, 3), those of current turned into odom axes.

    Least squares of ``a = s b`` about the means; the variance comes from the residuals. Without
    motion in one of them the variance is infinite.
    """
    a, b = previous - previous.mean(axis=0), current - current.mean(axis=0)
    length, dot = float((b * b).sum()), float((a * b).sum())
    degrees = a.size - 4        # three for the mean, one for the scale
    if dot <= 0 or degrees < 1:
        return LogScale(0.0, np.inf, np.inf, 0, len(a))
    scale = dot / length
    residual = float(((a - scale * b)**2).sum())
    variance = residual / degrees / (scale**2 * length)
    return LogScale(float(np.log(scale)), variance, float(np.sqrt(variance * degrees)), len(a),
                    len(a))


def _depths(landmarks: Landmarks, rows: np.ndarray, T_world_camera: np.ndarray) -> np.ndarray:
    """Return depths (C, L) of landmarks in the cameras."""
    axis, centre = T_world_camera[:, :3, 2], T_world_camera[:, :3, 3]
    return axis @ landmarks.points[rows].T - (axis * centre).sum(axis=1)[:, None]
