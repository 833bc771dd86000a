"""Dense depth of a frame whose pose is known: optical flow without rotation, triangulated.

The source image is warped by the homography at infinity, so that flow is pure parallax (0 for
far points); DIS flow (Kroeger et al., ECCV 2016) is then triangulated along the epipolar
lines in closed form. What the flow leaves off those lines says how far it can be trusted.
"""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import cv2
import numpy as np

from ..geometry.camera import pixel_grid

_NOISE_PX = 0.15
"""Error of a flow vector where it fits the epipolar line perfectly."""


@dataclass(frozen=True, slots=True)
class DenseConfig:
    """How dense depth is computed."""

    width_px: int = 320
    """Depth maps are this wide (never wider than the image)."""
    n_sources: int = 2
    baseline: float = 0.08
    """Wanted baseline to a source frame over the median depth."""
    sigma: float = 0.25
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

    ``depth_range`` holds the nearest and the furthest depth that are believed.
    """
    h, w = reference.gray.shape
    top, bottom = np.zeros((h, w), np.float32), np.full((h, w), 1e-12, np.float32)
    error = np.zeros((h, w), np.float32)
    weight = np.zeros((h, w), np.float32)
    for source in sources:
        c, f, inside = _parallax(reference, source)
        cf, cc = (c * f).sum(axis=0), (c * c).sum(axis=0)
        d, q, residual = _inverse_depth(c, f, cf, cc, source, reference, inside)
        top += q * cf
        bottom += q * cc
        error += inside * residual * residual
        weight += inside
    d = top / bottom
    noise = error / np.maximum(weight, 1) + _NOISE_PX ** 2
    near, far = depth_range
    sigma = np.sqrt(noise / bottom) / np.maximum(d, 1e-9)
    confidence = 1.0 / (1.0 + (sigma / config.sigma) ** 2)
    believed = (weight > 0) & (d > 1.0 / far) & (d < 1.0 / near)
    depth = 1.0 / np.clip(d, 1.0 / far, 1.0 / near)
    return depth.astype(np.float32), np.where(believed, confidence, 0).astype(np.float32)


def _parallax(reference: View, source: View):
    """Epipolar vectors c and flow f (2, h, w) px with ``f = d c``, and where both are valid."""
    h, w = reference.gray.shape
    A, b = _epipolar(reference, source)
    warped = cv2.warpPerspective(source.gray, A, (w, h),
                                 flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                 borderMode=cv2.BORDER_REPLICATE)
    flow = _flow_solver().calc(reference.gray, warped, None)
    f = np.moveaxis(flow, 2, 0)
    grid = np.moveaxis(pixel_grid((w, h)).astype(np.float32), 2, 0)
    landed = grid + f
    c = np.stack([b[0] - landed[0] * b[2], b[1] - landed[1] * b[2]])
    z = A[2, 0] * landed[0] + A[2, 1] * landed[1] + A[2, 2]
    u = (A[0, 0] * landed[0] + A[0, 1] * landed[1] + A[0, 2]) / z
    v = (A[1, 0] * landed[0] + A[1, 1] * landed[1] + A[1, 2]) / z
    inside = (z > 0) & (u > 0) & (u < w - 1) & (v > 0) & (v < h - 1)
    return c, f, inside


def _flow_solver():
    """DIS at half resolution, a little cheaper than the medium preset for the same depths."""
    solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    solver.setGradientDescentIterations(12)
    solver.setPatchStride(4)
    solver.setVariationalRefinementIterations(2)
    return solver


def _epipolar(reference: View, source: View):
    """``x_source ~ A (x_reference + d b)`` for pixels and inverse depth d."""
    R = source.R @ reference.R.T
    t = source.t - R @ reference.t
    A = source.K @ R @ np.linalg.inv(reference.K)
    return A.astype(np.float32), (np.linalg.inv(A) @ source.K @ t).astype(np.float32)


def _inverse_depth(c, f, cf, cc, source, reference, inside):
    """Inverse depth of one source, weights for joining it with others, residuals in px."""
    b_z = _epipolar(reference, source)[1][2]
    d = cf / np.maximum(cc, 1e-12)
    for _ in range(2):
        iz = 1.0 / np.maximum(1.0 + d * b_z, 0.1)
        residual = iz * np.hypot(d * c[0] - f[0], d * c[1] - f[1])
        q = inside * iz * iz / (1.0 + residual * residual / 0.25)
        d = (q * cf) / np.maximum(q * cc, 1e-12)
    return d, q, residual
