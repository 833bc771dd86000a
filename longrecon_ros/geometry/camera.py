"""The pinhole camera: projection, pointmaps, and intrinsics under resize and crop.

Pixel coordinates (u, v) are OpenCV's: the *centre* of the upper left pixel is (0, 0), its outer
corner (-0.5, -0.5), and the centre of an image w px wide is u = (w - 1) / 2. Camera axes: x right,
y down, z forward. ``size`` is (width, height) in px.
"""

from typing import Optional, Tuple

import numpy as np

N_COEFFICIENTS = {'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}
"""OpenCV's models of lens distortion, and how many coefficients each may have."""


def project(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return pixels (..., 2) of camera-frame points (..., 3); NaN where z is not positive.

    K (..., 3, 3) broadcasts against the points' leading dimensions.
    """
    points, K = np.asarray(points, np.float64), _intrinsics(K)
    z = points[..., 2]
    z = np.where(z > 0, z, np.nan)
    u = K[..., 0, 0] * points[..., 0] / z + K[..., 0, 1] * points[..., 1] / z + K[..., 0, 2]
    v = K[..., 1, 1] * points[..., 1] / z + K[..., 1, 2]
    return np.stack([u, v], axis=-1)


def unproject(pixels: np.ndarray, depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return camera-frame points (..., 3) of pixels (..., 2) at depth (...,) along the axis."""
    pixels, depth, K = np.asarray(pixels, np.float64), np.asarray(depth), _intrinsics(K)
    y = (pixels[..., 1] - K[..., 1, 2]) / K[..., 1, 1]
    x = (pixels[..., 0] - K[..., 0, 2] - K[..., 0, 1] * y) / K[..., 0, 0]
    return np.stack([x, y, np.ones_like(x)], axis=-1) * depth[..., None]


def pixel_grid(size: Tuple[int, int]) -> np.ndarray:
    """Return the pixel centres (h, w, 2) f64 of an image."""
    w, h = size
    return np.stack(np.meshgrid(np.arange(w, dtype=np.float64),
                                np.arange(h, dtype=np.float64)), axis=-1)


def pointmap_from_depth(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return pointmaps (..., H, W, 3) f32 of depth maps (..., H, W) with K (..., 3, 3)."""
    depth, K = np.asarray(depth), _intrinsics(K)
    if depth.ndim < 2:
        raise ValueError(f'depth: expected shape (..., H, W), got {depth.shape}')
    h, w = depth.shape[-2:]
    # one set of rays serves all maps of a camera, and rays need no more digits than points
    rays = unproject(pixel_grid((w, h)), np.ones((h, w)), K[..., None, None, :, :])
    return rays.astype(np.float32) * depth[..., None].astype(np.float32, copy=False)


def depth_from_pointmap(points: np.ndarray) -> np.ndarray:
    """Return the depth (..., H, W) along the optical axis of pointmaps (..., H, W, 3)."""
    return np.asarray(points)[..., 2]


def resize_K(K: np.ndarray, size: Tuple[int, int], new_size: Tuple[int, int]) -> np.ndarray:
    """Return K (..., 3, 3) for an image resized from ``size`` to ``new_size``.

    Outer corners map to outer corners, as in `cv2.resize`: u' = (u + 0.5) w'/w - 0.5.
    """
    K = _intrinsics(K).copy()
    scale = np.array(new_size, np.float64) / np.array(size, np.float64)
    K[..., 0, :2] *= scale[0]
    K[..., 1, 1] *= scale[1]
    K[..., :2, 2] = (K[..., :2, 2] + 0.5) * scale - 0.5
    return K


def crop_K(K: np.ndarray, left_px: float, top_px: float) -> np.ndarray:
    """Return K (..., 3, 3) for an image whose first ``left_px`` columns and rows are cut off."""
    K = _intrinsics(K).copy()
    K[..., 0, 2] -= left_px
    K[..., 1, 2] -= top_px
    return K


def estimate_K(points: np.ndarray, weights: Optional[np.ndarray] = None,
               n_iterations: int = 10) -> np.ndarray:
    """Return K (3, 3) of a camera-frame pointmap (H, W, 3), principal point in the centre.

    fx and fy minimise the weighted sum of pixel distances by Weiszfeld iterations on
    (u, v) - c = (fx x/z, fy y/z). ``weights`` (H, W) >= 0 or None; points that are not finite or
    have z <= 0 are left out. Raises ValueError when fewer than 8 points are left or they are
    all on one row or column through the centre.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 3 or points.shape[2] != 3:
        raise ValueError(f'points: expected shape (H, W, 3), got {points.shape}')
    h, w = points.shape[:2]
    weights = np.ones((h, w)) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != (h, w):
        raise ValueError(f'weights: expected shape {(h, w)}, got {weights.shape}')
    used = np.isfinite(points).all(axis=-1) & (points[..., 2] > 0) & (weights > 0)
    centre = np.array([(w - 1) / 2, (h - 1) / 2])
    target = pixel_grid((w, h))[used] - centre
    ray = points[used][:, :2] / points[used][:, 2:]
    if len(ray) < 8 or not ((ray**2).sum(axis=0) > 1e-12).all():
        raise ValueError(f'points: {len(ray)} usable points do not fix the focal lengths')
    weight = weights[used][:, None]
    focal = _ratio(weight, ray, target)
    for _ in range(n_iterations):
        distance = np.linalg.norm(target - focal * ray, axis=1, keepdims=True)
        focal = _ratio(weight / np.maximum(distance, 1e-3), ray, target)
    if not (focal > 0).all():
        raise ValueError(f'points: their focal lengths come out as {focal} px; the pointmap is '
                         'not in camera axes (x right, y down, z forward)')
    return np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]])


def _ratio(weight: np.ndarray, ray: np.ndarray, target: np.ndarray) -> np.ndarray:
    return (weight * ray * target).sum(axis=0) / (weight * ray**2).sum(axis=0)


def _intrinsics(K) -> np.ndarray:
    K = np.asarray(K, np.float64)
    if K.shape[-2:] != (3, 3):
        raise ValueError(f'K: expected shape (..., 3, 3), got {K.shape}')
    return K
