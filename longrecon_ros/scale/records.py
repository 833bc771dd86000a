"""What goes into the estimate of scale, and what comes out of it."""

from dataclasses import dataclass
import math
from typing import Literal, Optional

import numpy as np

from ..frozen import freeze

State = Literal['arbitrary', 'estimated', 'metric']


@dataclass(frozen=True, slots=True)
class ScaleEstimate:
    """Metres per odom unit, and how surely that is known."""

    metres_per_unit: float = 1.0
    sigma: float = math.inf
    """Relative, one standard deviation; inf: unknown."""
    state: State = 'arbitrary'
    source: str = 'none'
    n_measurements: int = 0
    """Taken since the start, also those that were rejected."""
    disagreement: float = 0.0
    """ln of what the newest measurements say over the value; far from 0 when a frozen value is
    no longer right, or while a value follows slowly."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement of the scale."""

    stamp_ns: int
    log_scale: float                        # ln of metres per odom unit
    sigma: float                            # of log_scale, expected


@dataclass(frozen=True, slots=True, eq=False)
class WindowEvidence:
    """Aligned frames as a window left them. Lengths are odom units, cameras have OpenCV axes.

    N frames in the order of their stamps (or the last few of the window), M last frames of the
    window with their points in their cameras. Frames that came before may come again; only new
    ones count. Raises ValueError for shapes that do not fit, naming the field.
    """

    stamps_ns: np.ndarray                   # (N,) i64
    T_odom_camera: np.ndarray               # (N, 4, 4) f64
    local_points: np.ndarray                # (M, H, W, 3) f32
    confidence: np.ndarray                  # (M, H, W) f32; 0: undefined
    tail_stamps_ns: np.ndarray              # (M,) i64
    T_base_camera: Optional[np.ndarray] = None      # (4, 4) f64 m; None: not known
    is_measured: Optional[np.ndarray] = None
    """(N,) bool; False where the pose is a guess (a lost frame). None: all are measured."""

    def __post_init__(self):
        n = len(freeze(self, 'stamps_ns', np.int64, None))
        freeze(self, 'T_odom_camera', np.float64, n, 4, 4)
        m = len(freeze(self, 'tail_stamps_ns', np.int64, None))
        points = freeze(self, 'local_points', np.float32, m, None, None, 3)
        freeze(self, 'confidence', np.float32, *points.shape[:3])
        if self.T_base_camera is not None:
            freeze(self, 'T_base_camera', np.float64, 4, 4, finite=True)
        if self.is_measured is not None:
            freeze(self, 'is_measured', np.bool_, n)
