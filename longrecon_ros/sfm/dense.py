"""Dense depth of a frame whose pose is known: optical flow without rotation, triangulated.

The source image is warped by the homography at infinity, so that flow is pure parallax (0 for
far points); DIS flow (Kroeger et al., ECCV 2016) is then triangulated along the epipolar
lines in closed form. What the flow leaves off those lines says how far it can be trusted.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import List, Sequence, Tuple

import cv2
import numpy as np

from ..geometry.camera import pixel_grid

_NOISE_PX = 0.15
"""Error of a flow vector where it fits the epipolar line perfectly."""


_MIN_POINTS = 20


@dataclass(frozen=True, slots=True)
class DenseConfig:
    """How dense depth is computed."""

    width_px: int = 320
    """Depth maps are this wide (never wider than the image)."""
    n_sources: int = 2
    baseline: float = 0.08
    """Wanted baseline to a source frame over the median depth."""
    sigma: float = 0.42
    """Relative standard deviation of a depth that gets confidence 0.5."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A posed grey image at depth-map size."""

    gray: np.ndarray            # (h, w) uint8
    K: np.ndarray               # (3, 3) px at h x w
    R: np.ndarray               # (3, 3) window to camera
    t: np.ndarray               # (3,)


def choose_sources(reference: View, others: Sequence[View], median_depth: float,
                   config: DenseConfig) -> List[View]:
    """The views that see the reference's scene with the best baseline, best first."""
    scored = []
    center = -reference.R.T @ reference.t
    for i, view in enumerate(others):
        baseline = np.linalg.norm(-view.R.T @ view.t - center) / median_depth
        turn = np.arccos(np.clip((np.trace(view.R @ reference.R.T) - 1) / 2, -1, 1))
        if baseline > 0.01 and turn < 0.6:
            scored.append((abs(np.log(baseline / config.baseline)) + 3 * turn, i))
    return [others[i] for _, i in sorted(scored)[:config.n_sources]]


def depth_map(reference: View, sources: Sequence[View], depth_range: Tuple[float, float],
              config: DenseConfig) -> Tuple[np.ndarray, np.ndarray]:
    """Depth (h, w) f32 in window units and its confidence (h, w) f32 in [0, 1], 0 = undefined.

    ``depth_range`` holds the nearest and the furthest depth that are believed. Flow is known at
    half resolution, so that is where it is triangulated; both maps are interpolated from there.
    """
    h, w = reference.gray.shape
    half = (w + 1) // 2, (h + 1) // 2
    pixels = _half_pixels((w, h), half)
    shape = half[::-1]
    top, bottom = np.zeros(shape, np.float32), np.full(shape, 1e-12, np.float32)
    flows = [_parallax(reference, source, pixels) for source in sources]
    for c, f, inside, b_z in flows:
        cf, cc = c[0] * f[0] + c[1] * f[1], c[0] * c[0] + c[1] * c[1]
        q = _weight(*_residual2(cf / np.maximum(cc, 1e-12), c, f, b_z)) * inside
        top += q * cf
        bottom += q * cc
    d = top / bottom
    error, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for c, f, inside, b_z in flows:         # of the joint depth: sources that disagree show here
        error += inside * _residual2(d, c, f, b_z)[0]
        weight += inside
    noise = error / np.maximum(weight, 1) + _NOISE_PX ** 2
    near, far = (float(z) for z in depth_range)
    variance = noise / (bottom * np.maximum(d * d, 1e-18))      # relative, of the depth
    confidence = 1.0 / (1.0 + variance / config.sigma ** 2)
    believed = (weight > 0) & (d > 1.0 / far) & (d < 1.0 / near)
    confidence = np.where(believed, confidence, 0).astype(np.float32)
    d = np.clip(d, 1.0 / far, 1.0 / near)
    return (1.0 / cv2.resize(d, (w, h), interpolation=cv2.INTER_LINEAR),
            cv2.resize(confidence, (w, h), interpolation=cv2.INTER_LINEAR))


def scale_to_points(depth: np.ndarray, confidence: np.ndarray, view: View, X: np.ndarray
                    ) -> np.float32:
    """Factor that brings a depth map (h, w) to the depths of mapped points X (P, 3) in the window.

    A depth map hangs on one or two short baselines, the points on the whole window: their median
    ratio takes out the error of those baselines. 1 where too few points lie on sure depth.
    """
    h, w = depth.shape
    Xc = X @ view.R.T + view.t
    Xc = Xc[Xc[:, 2] > 0]
    u, v = np.rint((Xc @ view.K.T)[:, :2] / Xc[:, 2:]).astype(np.int64).T
    inside = (u >= 0) & (u < w) & (v >= 0) & (v < h)
    u, v, z = u[inside], v[inside], Xc[inside, 2]
    sure = confidence[v, u] > 0.5
    if sure.sum() < _MIN_POINTS:
        return np.float32(1)
    return np.float32(np.median(z[sure] / depth[v, u][sure]))


@lru_cache(maxsize=4)
def _half_pixels(size: Tuple[int, int], half: Tuple[int, int]) -> np.ndarray:
    """Pixel coordinates (2, h', w') f32, at full size, of the pixels of the half-size image."""
    factor = np.array(size, np.float64) / half
    grid = (pixel_grid(half) + 0.5) * factor - 0.5
    return np.ascontiguousarray(np.moveaxis(grid, 2, 0), np.float32)


def _parallax(reference: View, source: View, pixels: np.ndarray):
    """Epipolar vectors c and flow f (2, h', w') px with ``f = d c``, where both are valid, b_z."""
    h, w = reference.gray.shape
    A, b = _epipolar(reference, source)
    warped = cv2.warpPerspective(source.gray, A, (w, h),
                                 flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                 borderMode=cv2.BORDER_REPLICATE)
    flow = _flow_solver().calc(reference.gray, warped, None)
    flow = cv2.resize(flow, pixels.shape[:0:-1], interpolation=cv2.INTER_AREA)
    f = flow[..., 0], flow[..., 1]
    x, y = pixels[0] + f[0], pixels[1] + f[1]
    c = b[0] - x * b[2], b[1] - y * b[2]
    z = A[2, 0] * x + A[2, 1] * y + A[2, 2]
    u = A[0, 0] * x + A[0, 1] * y + A[0, 2]
    v = A[1, 0] * x + A[1, 1] * y + A[1, 2]
    inside = (z > 0) & (u > 0) & (u < (w - 1) * z) & (v > 0) & (v < (h - 1) * z)
    return c, f, inside, b[2]


def _flow_solver():
    """DIS at half resolution, a little cheaper than the medium preset for the same depths."""
    solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    solver.setFinestScale(1)
    solver.setGradientDescentIterations(12)
    solver.setPatchStride(5)
    solver.setVariationalRefinementIterations(1)
    return solver


def _epipolar(reference: View, source: View):
    """``x_source ~ A (x_reference + d b)`` for pixels and inverse depth d."""
    R = source.R @ reference.R.T
    t = source.t - R @ reference.t
    A = source.K @ R @ np.linalg.inv(reference.K)
    return A.astype(np.float32), (np.linalg.inv(A) @ source.K @ t).astype(np.float32)


def _residual2(d, c, f, b_z):
    """Squared distance in px^2 between flow and epipolar point, and the zoom it is seen under.

    It is taken in the source image, where points that come nearer move apart.
    """
    iz = 1.0 / np.maximum(1.0 + d * b_z, 0.1)
    iz2 = iz * iz
    ex, ey = d * c[0] - f[0], d * c[1] - f[1]
    return iz2 * (ex * ex + ey * ey), iz2


def _weight(residual2, iz2):
    """Cauchy weight of one source's flow, 0.5 px wide."""
    return iz2 / (1.0 + residual2 * 4.0)
