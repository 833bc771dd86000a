"""From a scene and a pose to an anti-aliased image and the exact depth."""

from dataclasses import dataclass
from typing import Iterator, Tuple

import numpy as np

from .atlas import Atlas
from .camera import SyntheticCamera
from .scene import Scene
from .visibility import look, QuadArrays, RayGrid, resolve, resolve_among, View

_TAPS = ((1, 1.4), (2, 2.8), (4, np.inf))    # samples for footprints up to so many times as long
_CHUNK = 1 << 14         # rays shaded at a time, so that intermediates stay in the cache
_LEAST_AREA = 1e-12      # of a footprint, texels: a rectangle seen edge on has none
_SUBSAMPLES_PX = np.array([(-0.375, -0.125), (-0.125, 0.375), (0.125, -0.375), (0.375, 0.125)],
                          np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Rendering:
    """One noise-free view."""

    color: np.ndarray                       # (H, W, 3) f32 RGB, 0..255
    depth: np.ndarray                       # (H, W) f32 m at the pixel centres; 0 where none


class Renderer:
    """Renders one scene with one camera.

    Depth is that of the pixel centre. Colour is filtered: mipmaps with up to 4 taps along the
    footprint of a pixel (Heckbert, Survey of Texture Mapping, 1986), and 4 samples a pixel where
    two rectangles meet, so that images are consistent under motion.
    """

    def __init__(self, scene: Scene, camera: SyntheticCamera):
        self._quads = QuadArrays.of(scene.quads)
        self._atlas = Atlas([quad.texture for quad in scene.quads])
        self._background = np.array(scene.background, np.float32)
        self._is_backdrop = np.array([quad.is_backdrop for quad in scene.quads])
        x, y = camera.rays()
        self._grid = RayGrid(x, y)
        self._x = np.broadcast_to(self._grid.x, self._grid.shape).ravel()
        self._y = np.broadcast_to(self._grid.y, self._grid.shape).ravel()
        self._pixel = np.float32(1 / camera.K[0, 0]), np.float32(1 / camera.K[1, 1])

    def render(self, T_world_camera: np.ndarray) -> Rendering:
        """Return colour and depth seen from a (4, 4) f64 camera-to-world pose."""
        view = look(self._quads, np.asarray(T_world_camera, np.float64))
        seen, inverse = resolve(view, self._grid)
        edges = np.flatnonzero(_is_edge(seen))
        color = self._shade(view, seen.ravel(), self._x, self._y)
        color[edges] = self._smooth_edges(view, seen, edges)
        return Rendering(color.reshape(*self._grid.shape, 3), self._depth(view, seen, inverse))

    def depth(self, T_world_camera: np.ndarray) -> np.ndarray:
        """Return the (H, W) f32 depth [m] alone, as `render` does."""
        view = look(self._quads, np.asarray(T_world_camera, np.float64))
        return self._depth(view, *resolve(view, self._grid))

    def _depth(self, view: View, seen: np.ndarray, inverse: np.ndarray) -> np.ndarray:
        # seen is -1 where there is nothing: that takes the last entry
        is_solid = np.append(~self._is_backdrop[view.ids], False)
        return np.divide(1, inverse, out=np.zeros_like(inverse), where=is_solid[seen])

    def _smooth_edges(self, view: View, seen: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """Mean colour of 4 samples in each edge pixel, against what its neighbours see."""
        candidates = _neighbourhood(seen, edges)
        total = np.zeros((len(edges), 3), np.float32)
        for offset in _SUBSAMPLES_PX:
            x = self._x[edges] + offset[0] * self._pixel[0]
            y = self._y[edges] + offset[1] * self._pixel[1]
            total += self._shade(view, resolve_among(view, candidates, x, y), x, y)
        return total / len(_SUBSAMPLES_PX)

    def _shade(self, view: View, seen: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Colour (n, 3) f32 of rays ``x, y`` that see the rectangles ``seen`` of ``view``."""
        rows = self._texel_rows(view)
        color = np.empty((len(x), 3), np.float32)
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            hit = seen[part] >= 0
            if hit.all():
                color[part] = self._shade_hits(view, rows, seen[part], x[part], y[part])
                continue
            color[part] = self._background
            hit = start + np.flatnonzero(hit)
            if len(hit):
                color[hit] = self._shade_hits(view, rows, seen[hit], x[hit], y[hit])
        return color

    def _shade_hits(self, view: View, rows: np.ndarray, seen: np.ndarray, x: np.ndarray,
                    y: np.ndarray) -> np.ndarray:
        """As `_shade` for rays that all see something: map, measure the footprint, sample."""
        row = np.ascontiguousarray(np.take(rows, seen, axis=0).T)
        depth = 1 / (x * row[0] + y * row[1] + row[2])
        s = (x * row[3] + y * row[4] + row[5]) * depth
        t = (x * row[6] + y * row[7] + row[8]) * depth
        dx, dy = self._pixel[0] * depth, self._pixel[1] * depth
        sx, sy = (row[3] - s * row[0]) * dx, (row[4] - s * row[1]) * dy
        tx, ty = (row[6] - t * row[0]) * dx, (row[7] - t * row[1]) * dy
        along_x, along_y = sx * sx + tx * tx, sy * sy + ty * ty
        length2 = np.maximum(along_x, along_y)
        area = np.maximum(np.abs(sx * ty - sy * tx), _LEAST_AREA)
        x_is_longer = along_x >= along_y
        step_s, step_t = np.where(x_is_longer, sx, sy), np.where(x_is_longer, tx, ty)
        ids = view.ids[seen]
        color = np.empty((len(x), 3), np.float32)
        for n_taps, part in _by_taps(length2, area):
            width2 = np.maximum(np.square(area[part]) / length2[part],
                                length2[part] / n_taps ** 2)
            color[part] = self._atlas.sample(
                *(v[part] for v in (ids, s, t, step_s, step_t)), n_taps, 0.5 * np.log2(width2))
        return color

    def _texel_rows(self, view: View) -> np.ndarray:
        """(V, 9) f32: as ``view.rows``, with chart coordinates in texels of the textures."""
        half = self._atlas.half_size[view.ids]
        return view.rows * np.repeat(np.insert(half, 0, 1, axis=1), 3, axis=1)


def _by_taps(length2: np.ndarray, area: np.ndarray) -> Iterator[Tuple[int, np.ndarray]]:
    """Group footprints by how many samples they need: by the ratio of length to width."""
    least = 0.0
    for n_taps, greatest in _TAPS:
        part = np.flatnonzero((length2 > least * area) & (length2 <= greatest * area))
        if len(part):
            yield n_taps, part
        least = greatest


def _is_edge(seen: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels with a neighbour, above, below or beside, that sees another thing."""
    edge = np.zeros(seen.shape, bool)
    for axis in (0, 1):
        lower = (slice(None),) * axis + (slice(None, -1),)
        upper = (slice(None),) * axis + (slice(1, None),)
        differs = seen[lower] != seen[upper]
        edge[lower] |= differs
        edge[upper] |= differs
    return edge.ravel()


def _neighbourhood(seen: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(n, 5) i32: what flat ``pixels`` and their four neighbours see."""
    padded = np.pad(seen, 1, mode='edge')
    row, col = np.divmod(pixels, seen.shape[1])
    return np.stack([padded[row + 1 + dr, col + 1 + dc] for dr, dc in
                     ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))], 1)
