"""Closed, smooth paths on the ground, parameterised by arc length."""

from typing import Sequence, Tuple

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

_N_SAMPLES = 4096


class ClosedPath:
    """A periodic curve through points on the ground.

    ``length_m`` is its length; positions repeat exactly after one lap.
    """

    def __init__(self, points: np.ndarray):
        points = np.asarray(points, np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 4:
            raise ValueError(f'points: expected (n >= 4, 2), got {points.shape}')
        knots = np.linspace(0.0, 1.0, len(points) + 1)
        self._curve = CubicSpline(knots, np.vstack([points, points[:1]]), bc_type='periodic')
        self._tangent = self._curve.derivative()
        self._u = np.linspace(0.0, 1.0, _N_SAMPLES + 1)
        steps = np.linalg.norm(np.diff(self._curve(self._u), axis=0), axis=1)
        self._s = np.concatenate([[0.0], np.cumsum(steps)])
        self.length_m = float(self._s[-1])

    @classmethod
    def rounded(cls, corners: Sequence[Tuple[float, float]], softness_m: float) -> 'ClosedPath':
        """Return a polygon whose corners are smoothed over ``softness_m`` to each side.

        The path starts in the middle of the first edge.
        """
        corners = np.asarray(corners, np.float64)
        ring = np.vstack([(corners[0] + corners[1]) / 2, corners[1:], corners[:1]])
        lengths = np.linalg.norm(np.roll(ring, -1, axis=0) - ring, axis=1)
        at = np.concatenate([[0.0], np.cumsum(lengths)])
        s = np.linspace(0.0, at[-1], _N_SAMPLES, endpoint=False)
        closed = np.vstack([ring, ring[:1]])
        points = np.stack([np.interp(s, at, closed[:, axis]) for axis in (0, 1)], 1)
        sigma = softness_m / 2 / at[-1] * _N_SAMPLES
        return cls(gaussian_filter1d(points, sigma, axis=0, mode='wrap')[::8])

    @classmethod
    def figure_eight(cls, half_length_m: float, half_width_m: float) -> 'ClosedPath':
        """Return a lemniscate of Gerono along x; it starts at its crossing."""
        angle = np.linspace(0.0, 2 * np.pi, 512, endpoint=False)
        return cls(np.stack([half_length_m * np.sin(angle), half_width_m * np.sin(2 * angle)], 1))

    def at(self, s_m: float) -> Tuple[float, float, float]:
        """Return x, y [m] and the direction of travel [rad] at arc length ``s_m``."""
        u = np.interp(s_m % self.length_m, self._s, self._u)
        x, y = self._curve(u)
        dx, dy = self._tangent(u)
        return float(x), float(y), float(np.arctan2(dy, dx))
