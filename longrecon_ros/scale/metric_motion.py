"""Metric poses without jumps, from poses in odom units and a scale that changes."""

import math
from typing import Optional

import numpy as np

from ..geometry.sim3 import Sim3


class MetricMotion:
    """Integrates the way of a camera, each increment times the scale of its time.

    odom stays continuous (REP-105) when the estimate of the scale changes: what was gone keeps
    the length it had then. Position is ``scale * position + offset``, and a change of scale
    changes the offset such that the last position stays. So nothing adds up while the scale is
    constant, and with a scale of exactly 1 from the start poses are the same to the bit.
    Orientation is as it is.
    """

    def __init__(self):
        self._scale: Optional[float] = None
        self._offset_m = np.zeros(3)
        self._last = np.zeros(3)            # position, odom units

    @property
    def T_metric_odom(self) -> Sim3:
        """What takes points in odom units to metric odom, as of the last pose."""
        return Sim3(1.0 if self._scale is None else self._scale, np.eye(3), self._offset_m)

    def add(self, T_odom_camera: np.ndarray, metres_per_unit: float) -> np.ndarray:
        """Return the metric pose (4, 4) f64 of the next pose (4, 4) in odom units.

        ``metres_per_unit`` is the scale from the last pose to this one; the first pose is scaled
        about odom's origin. Raises ValueError for a pose that is not finite or a scale that is
        not a finite number above 0; then nothing has changed.
        """
        T = np.array(T_odom_camera, np.float64)
        if T.shape != (4, 4) or not np.isfinite(T).all():
            raise ValueError(f'T_odom_camera: expected a finite (4, 4) pose, got shape {T.shape}')
        if not (math.isfinite(metres_per_unit) and metres_per_unit > 0):
            raise ValueError(f'metres_per_unit: expected a finite number above 0, '
                             f'got {metres_per_unit}')
        if self._scale is not None and metres_per_unit != self._scale:
            self._offset_m = self._offset_m + (self._scale - metres_per_unit) * self._last
        self._scale, self._last = float(metres_per_unit), T[:3, 3].copy()
        return self.pose(T)

    def pose(self, T_odom_camera: np.ndarray) -> np.ndarray:
        """Return the metric pose (4, 4) of another one near the last, which does not count."""
        T = np.array(T_odom_camera, np.float64)
        T[:3, 3] *= 1.0 if self._scale is None else self._scale
        if self._offset_m.any():
            T[:3, 3] += self._offset_m
        return T

    def map_over_odom(self, T_map_odom: np.ndarray) -> np.ndarray:
        """Return the metric T_map_odom (4, 4) of one in odom units.

        The map is taken to be ``metres_per_unit`` times its units about its origin; a change of
        scale makes map jump, not odom.
        """
        T = np.array(T_map_odom, np.float64)
        scale = 1.0 if self._scale is None else self._scale
        T[:3, 3] = scale * T[:3, 3] - T[:3, :3] @ self._offset_m
        return T
