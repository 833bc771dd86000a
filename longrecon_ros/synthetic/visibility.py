"""Which rectangle is seen at which pixel, exactly.

For a point X = z (x, y, 1) on the plane n X = d, 1/z = n (x, y, 1) / d: the inverse depth of a
plane is linear in the ray coordinates x and y, and so is every linear coordinate on the plane
divided by z. Hidden surfaces are removed with a buffer of inverse depth.
"""

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from .scene import Quad

_NEAR_M = 0.05
_SEAM = 2e-5            # rectangles reach so much (relative) over their edges: no cracks between


@dataclass(frozen=True, slots=True, eq=False)
class QuadArrays:
    """The rectangles of a scene as arrays, in the world frame."""

    center: np.ndarray                      # (Q, 3) f64 m
    half_a: np.ndarray                      # (Q, 3) f64 m
    half_b: np.ndarray                      # (Q, 3) f64 m
    normal: np.ndarray                      # (Q, 3) f64 unit, towards the viewer in front

    @classmethod
    def of(cls, quads: Tuple[Quad, ...]) -> 'QuadArrays':
        """Stack the rectangles; raises ``ValueError`` for one without area or right angles."""
        if not quads:
            raise ValueError('QuadArrays: a scene has at least one rectangle')
        corner, a, b = (np.array([getattr(q, name) for q in quads], np.float64)
                        for name in ('corner', 'edge_a', 'edge_b'))
        normal = np.cross(b, a)
        area = np.linalg.norm(normal, axis=1)
        sides = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        bad = np.flatnonzero(~(area > (1 - 1e-9) * sides) | (sides == 0))
        if len(bad):
            raise ValueError(f'QuadArrays: rectangle {bad[0]} has no area or no right angles')
        return cls(corner + (a + b) / 2, a / 2, b / 2, normal / area[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The rectangles that one pose may see, nearest first.

    ``rows`` (V, 9) holds the coefficients over (x, y, 1) of the inverse depth w, of a w and of
    b w, where a and b in [-1, 1] are the chart coordinates of the rectangle.
    """

    ids: np.ndarray                         # (V,) i32, index into the scene's rectangles
    rows: np.ndarray                        # (V, 9) f32
    box: np.ndarray                         # (V, 4) f64: least x, greatest x, least y, greatest y
    nearest: np.ndarray                     # (V,) f32, greatest inverse depth in the box


def look(quads: QuadArrays, T_world_camera: np.ndarray) -> View:
    """Return the rectangles facing a camera and not wholly behind it."""
    R, position = T_world_camera[:3, :3], T_world_camera[:3, 3]
    center = (quads.center - position) @ R
    facing = np.einsum('ij,ij->i', quads.normal, position - quads.center)
    ids = np.flatnonzero(facing > 1e-6)
    center, half_a, half_b = center[ids], quads.half_a[ids] @ R, quads.half_b[ids] @ R
    box, nearest, in_front = _bounds(center, half_a, half_b)
    w = quads.normal[ids] @ R / -facing[ids, None]
    rows = np.concatenate([w, _chart_rows(center, half_a, w), _chart_rows(center, half_b, w)], 1)
    keep = np.flatnonzero(in_front)
    keep = keep[np.argsort(-nearest[keep], kind='stable')]
    return View(ids[keep].astype(np.int32), rows[keep].astype(np.float32), box[keep],
                nearest[keep].astype(np.float32))


def _chart_rows(center, half, w) -> np.ndarray:
    """Coefficients of (chart coordinate along ``half``) x (inverse depth), (V, 3)."""
    length2 = np.einsum('ij,ij->i', half, half)[:, None]
    return (half - np.einsum('ij,ij->i', half, center)[:, None] * w) / length2


def _bounds(center, half_a, half_b) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bound the part in front of the near plane: box in ray coordinates, inverse depth, any."""
    corners = np.stack([center - half_a - half_b, center + half_a - half_b,
                        center + half_a + half_b, center - half_a + half_b], 1)
    following = np.roll(corners, -1, axis=1)
    z, z_next = corners[..., 2], following[..., 2]
    crosses = (z > _NEAR_M) != (z_next > _NEAR_M)
    share = np.divide(_NEAR_M - z, z_next - z, out=np.zeros_like(z), where=crosses)
    points = np.concatenate([corners, corners + share[..., None] * (following - corners)], 1)
    seen = np.concatenate([z > _NEAR_M, crosses], 1)
    inverse = np.divide(1.0, points[..., 2], out=np.zeros(seen.shape), where=seen)
    box = np.empty((len(center), 4))
    for axis in (0, 1):
        ray = points[..., axis] * inverse
        box[:, 2 * axis] = np.where(seen, ray, np.inf).min(1)
        box[:, 2 * axis + 1] = np.where(seen, ray, -np.inf).max(1)
    return box, inverse.max(1), seen.any(1)


class RayGrid:
    """The rays of a camera's pixels, and which rows and columns a box of rays touches."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.shape = (y.shape[0], x.shape[1])
        self.x, self.y = x.astype(np.float32), y.astype(np.float32)
        self._x_low, self._x_high = x.min(0), x.max(0)
        self._y_low, self._y_high = y.min(1), y.max(1)

    def block(self, box: np.ndarray) -> Tuple[slice, slice]:
        """Return the rows and columns whose rays may lie in (x low, x high, y low, y high)."""
        return (_span(self._y_low, self._y_high, box[2], box[3]),
                _span(self._x_low, self._x_high, box[0], box[1]))

    def rays(self, rows: slice, cols: slice) -> Tuple[np.ndarray, np.ndarray]:
        """Return x and y of a block; they broadcast to its shape."""
        return (self.x[rows if len(self.x) > 1 else slice(None), cols],
                self.y[rows, cols if self.y.shape[1] > 1 else slice(None)])


def _span(low, high, least, greatest) -> slice:
    hit = np.flatnonzero((high >= least - 1e-6) & (low <= greatest + 1e-6))
    return slice(hit[0], hit[-1] + 1) if len(hit) else slice(0, 0)


def resolve(view: View, grid: RayGrid) -> Tuple[np.ndarray, np.ndarray]:
    """Return what every pixel centre sees.

    The first result, (H, W) i32, indexes ``view``; -1 where nothing is seen. The second,
    (H, W) f32, is the inverse depth, 1/m.
    """
    seen = np.full(grid.shape, -1, np.int32)
    inverse = np.zeros(grid.shape, np.float32)
    for index, (row, box) in enumerate(zip(view.rows, view.box)):
        block = grid.block(box)
        best = inverse[block]
        if not best.size or best.min() > view.nearest[index]:
            continue
        x, y = grid.rays(*block)
        w = x * row[0] + (y * row[1] + row[2])
        reach = w * np.float32(1 + _SEAM)
        hit = w > best
        hit &= np.abs(x * row[3] + (y * row[4] + row[5])) <= reach
        hit &= np.abs(x * row[6] + (y * row[7] + row[8])) <= reach
        np.copyto(best, w, where=hit)
        np.copyto(seen[block], np.int32(index), where=hit)
    return seen, inverse


def resolve_among(view: View, candidates: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which of a few candidates each ray sees, (n,) i32; -1 for none.

    ``candidates`` (n, m) i32 indexes ``view``, with -1 for none; ``x, y`` (n,) f32 are rays.
    """
    best = np.zeros(len(x), np.float32)
    seen = np.full(len(x), -1, np.int32)
    for candidate in candidates.T:
        row = np.take(view.rows, candidate, axis=0)
        w = x * row[:, 0] + y * row[:, 1] + row[:, 2]
        reach = w * np.float32(1 + _SEAM)
        hit = (w > best) & (candidate >= 0)
        hit &= np.abs(x * row[:, 3] + y * row[:, 4] + row[:, 5]) <= reach
        hit &= np.abs(x * row[:, 6] + y * row[:, 7] + row[:, 8]) <= reach
        np.copyto(best, w, where=hit)
        np.copyto(seen, candidate, where=hit)
    return seen
