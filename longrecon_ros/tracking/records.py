"""What goes into the tracker, and what comes out."""

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..frozen import freeze
from ..geometry.camera import N_COEFFICIENTS
from ..types import FrameState


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """Calibration of the images as they come, as `types.Frame` has it.

    Raises ValueError for an unknown model, a wrong number of coefficients, values that are not
    finite, or distortion without ``K``.
    """

    K: Optional[np.ndarray] = None              # (3, 3) f64 px of the image as it comes
    distortion: Optional[np.ndarray] = None     # (n,) f64, OpenCV's coefficients
    distortion_model: str = 'plumb_bob'         # or 'rational_polynomial', 'equidistant'

    def __post_init__(self):
        if self.K is not None:
            K = freeze(self, 'K', np.float64, 3, 3, finite=True)
            if min(K[0, 0], K[1, 1]) <= 0:
                raise ValueError(f'Camera.K: focal lengths must be positive, got\n{K}')
        if self.distortion is None:
            return
        n = len(freeze(self, 'distortion', np.float64, None, finite=True))
        allowed = N_COEFFICIENTS.get(self.distortion_model)
        if allowed is None:
            raise ValueError(f'Camera.distortion_model: expected one of '
                             f'{", ".join(N_COEFFICIENTS)}, got {self.distortion_model!r}')
        if n not in allowed:
            raise ValueError(f'Camera.distortion: expected {" or ".join(map(str, allowed))} '
                             f'coefficients for {self.distortion_model}, got {n}')
        if self.K is None:
            raise ValueError('Camera.K: expected intrinsics with the distortion, got None')

    def is_like(self, other: 'Camera') -> bool:
        """Tell whether both are the same calibration."""
        return self is other or (
            self.distortion_model == other.distortion_model
            and _same(self.K, other.K) and _same(self.distortion, other.distortion))


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """One frame of an aligned window: what `types.Prediction` holds of it, in odom units.

    The pointmap belongs to the camera's image without distortion, outer corners on outer corners.
    """

    frame_id: int
    T_odom_camera: np.ndarray               # (4, 4) f64 rigid
    local_points: np.ndarray                # (H, W, 3) f32, camera frame
    confidence: np.ndarray                  # (H, W) f32 in [0, 1]; 0: undefined
    K: np.ndarray                           # (3, 3) f64 px at H x W

    def __post_init__(self):
        freeze(self, 'T_odom_camera', np.float64, 4, 4, finite=True)
        h, w = freeze(self, 'local_points', np.float32, None, None, 3).shape[:2]
        freeze(self, 'confidence', np.float32, h, w)
        K = freeze(self, 'K', np.float64, 3, 3, finite=True)
        if min(K[0, 0], K[1, 1]) <= 0:
            raise ValueError(f'Reference.K: focal lengths must be positive, got\n{K}')


@dataclass(frozen=True, slots=True, eq=False)
class TrackedPose:
    """The pose of one image; that of a LOST image is the last good one.

    ``covariance`` is that of ``xi`` with T_odom_camera(true) = T_odom_camera exp(xi), xi being
    translation x y z (odom units) and rotation x y z (rad): in axes and at the place of the
    camera. It holds relative to the reference, whose own error is not in it. A LOST image has an
    infinite diagonal.
    """

    frame_id: int
    stamp_ns: int
    T_odom_camera: np.ndarray               # (4, 4) f64 rigid
    covariance: np.ndarray                  # (6, 6) f64
    n_inliers: int                          # points that agree with the pose
    n_points: int                           # points that were followed into this image
    rmse_px: float                          # of the inliers, px of the working image
    state: FrameState                       # TRACKED or LOST

    def __post_init__(self):
        freeze(self, 'T_odom_camera', np.float64, 4, 4, finite=True)
        freeze(self, 'covariance', np.float64, 6, 6)


def _same(a: Optional[np.ndarray], b: Optional[np.ndarray]) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))
