"""The camera that looks at a synthetic world: a pinhole with optional plumb_bob distortion."""

from dataclasses import dataclass
import math
from typing import Optional, Tuple

import numpy as np

_MAX_NEWTON_STEPS = 20


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticCamera:
    """Size and calibration; pixel centres have integer coordinates, as in OpenCV.

    ``distortion`` holds k1, k2, p1, p2 and optionally k3 of the ``plumb_bob`` model.
    """

    width: int
    height: int
    K: np.ndarray                           # (3, 3) f64 px
    distortion: Optional[np.ndarray] = None     # (4,) or (5,) f64

    def __post_init__(self):
        if self.width < 16 or self.height < 16:
            raise ValueError(f'SyntheticCamera: expected at least 16x16 px, '
                             f'got {self.width}x{self.height}')
        K = np.array(self.K, np.float64)
        if K.shape != (3, 3) or not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0:
            raise ValueError(f'SyntheticCamera.K: expected a finite (3, 3) array with positive '
                             f'focal lengths, got shape {K.shape}')
        K.flags.writeable = False
        object.__setattr__(self, 'K', K)
        if self.distortion is not None:
            object.__setattr__(self, 'distortion', _checked_distortion(self.distortion))

    @classmethod
    def from_fov(cls, width: int, height: int, hfov_deg: float = 75.0,
                 distortion: Optional[np.ndarray] = None) -> 'SyntheticCamera':
        """Return a camera with square pixels, a centred principal point and this field of view."""
        focal_px = width / 2 / math.tan(math.radians(hfov_deg) / 2)
        K = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
        return cls(width, height, K, distortion)

    def rays(self) -> Tuple[np.ndarray, np.ndarray]:
        """Return x and y of the ray (x, y, 1) through every pixel centre, f64.

        Without distortion x has shape (1, W) and y (H, 1); else both have shape (H, W).
        Raises ``ValueError`` when the distortion cannot be inverted inside the image.
        """
        K = self.K
        v, u = np.mgrid[0:self.height, 0:self.width].astype(np.float64)
        y = (v - K[1, 2]) / K[1, 1]
        x = (u - K[0, 2] - K[0, 1] * y) / K[0, 0]
        if self.distortion is None and K[0, 1] == 0:
            return x[:1], y[:, :1]
        return (x, y) if self.distortion is None else undistort(x, y, self.distortion)


def _checked_distortion(distortion) -> np.ndarray:
    values = np.array(distortion, np.float64)
    if values.shape not in ((4,), (5,)) or not np.isfinite(values).all():
        raise ValueError(f'SyntheticCamera.distortion: expected 4 or 5 finite numbers, '
                         f'got shape {values.shape}')
    values.flags.writeable = False
    return values


def distort(x, y, distortion) -> Tuple[np.ndarray, np.ndarray]:
    """Apply plumb_bob distortion (Brown-Conrady) to normalised coordinates."""
    k1, k2, p1, p2, k3 = np.resize(np.append(distortion, 0.0), 5)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y)


def undistort(xd, yd, distortion) -> Tuple[np.ndarray, np.ndarray]:
    """Invert `distort` by Newton's method with a numerical Jacobian, to 1e-12.

    Raises ``ValueError`` when the model folds over inside the image, so that no inverse exists.
    """
    x, y = np.array(xd), np.array(yd)
    h = 1e-6
    for _ in range(_MAX_NEWTON_STEPS):
        fx, fy = distort(x, y, distortion)
        ex, ey = fx - xd, fy - yd
        if max(np.abs(ex).max(), np.abs(ey).max()) < 1e-12:
            return x, y
        a, c = ((hi - lo) / (2 * h) for hi, lo in
                zip(distort(x + h, y, distortion), distort(x - h, y, distortion)))
        b, d = ((hi - lo) / (2 * h) for hi, lo in
                zip(distort(x, y + h, distortion), distort(x, y - h, distortion)))
        det = a * d - b * c
        if not (det > 0.05).all():
            break
        x, y = x - (d * ex - b * ey) / det, y - (a * ey - c * ex) / det
    raise ValueError(f'SyntheticCamera.distortion: {np.asarray(distortion).tolist()} folds over '
                     f'inside the image and has no inverse')
