"""Scenes of textured planar rectangles, and how they are put together."""

from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

from .texture import Canvas, Paint

_HAZE = (190.0, 205.0, 220.0)
_LIGHT = np.array([0.35, 0.55, 0.75]) / np.linalg.norm([0.35, 0.55, 0.75])


@dataclass(frozen=True, slots=True, eq=False)
class Quad:
    """A rectangle seen from the side from which its texture reads upright.

    The texture's columns run along ``edge_a``, its rows along ``edge_b``; a viewer who sees
    ``edge_a`` to the right and ``edge_b`` down is in front.
    """

    corner: np.ndarray                      # (3,) f64 m, world; upper left of the texture
    edge_a: np.ndarray                      # (3,) f64 m
    edge_b: np.ndarray                      # (3,) f64 m, at right angles to edge_a
    texture: np.ndarray                     # (h, w, 3) uint8 RGB
    is_backdrop: bool = False               # has colour but no depth (the sky)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Everything there is to see; ``background`` is the colour where there is nothing."""

    quads: Tuple[Quad, ...]
    background: Tuple[float, float, float] = _HAZE


class SceneBuilder:
    """Collects painted rectangles and boxes; each face has its own random stream."""

    def __init__(self, seed: int, texel_m: float):
        self._seed, self._texel_m = seed, texel_m
        self._quads: List[Quad] = []
        self.rng = np.random.default_rng([seed, 0])

    def quad(self, corner, edge_a, edge_b, paint: Paint, texel_m: Optional[float] = None,
             is_backdrop: bool = False) -> None:
        """Add a rectangle (see `Quad`), painted and shaded by the way it faces."""
        corner, edge_a, edge_b = (np.array(v, np.float64) for v in (corner, edge_a, edge_b))
        width_m, height_m = np.linalg.norm(edge_a), np.linalg.norm(edge_b)
        rng = np.random.default_rng([self._seed, 1 + len(self._quads)])
        canvas = Canvas(rng, width_m, height_m, texel_m or self._texel_m)
        paint(canvas)
        if not is_backdrop:
            normal = np.cross(edge_b, edge_a) / (width_m * height_m)
            canvas.image *= np.float32(0.86 + 0.14 * normal @ _LIGHT)
        self._quads.append(Quad(corner, edge_a, edge_b, canvas.finish(), is_backdrop))

    def wall(self, start, end, bottom_m: float, top_m: float, paint: Paint) -> None:
        """Add an upright rectangle; seen from in front, ``start`` (x, y) is on its left."""
        along = np.array([end[0] - start[0], end[1] - start[1], 0.0])
        self.quad((start[0], start[1], top_m), along, (0, 0, bottom_m - top_m), paint)

    def floor(self, x0: float, y0: float, x1: float, y1: float, z: float, paint: Paint,
              faces_up: bool = True) -> None:
        """Add a level rectangle seen from above, or from below."""
        if faces_up:
            self.quad((x0, y1, z), (x1 - x0, 0, 0), (0, y0 - y1, 0), paint)
        else:
            self.quad((x0, y0, z), (x1 - x0, 0, 0), (0, y1 - y0, 0), paint)

    def box(self, center, size, paint: Paint, paint_top: Optional[Paint] = None,
            yaw_rad: float = 0.0, faces: str = 'xXyYZ') -> None:
        """Add a box standing with its lower face at ``center[2]``.

        ``faces`` names the faces to build: x, X, y, Y for the sides at the lower and upper end
        of each axis (before the turn by ``yaw_rad``), z and Z for bottom and top.
        """
        half_x, half_y = size[0] / 2, size[1] / 2
        c, s = np.cos(yaw_rad), np.sin(yaw_rad)
        ex, ey, ez = np.array([c, s, 0]), np.array([-s, c, 0]), np.array([0, 0, 1.0])
        low = np.array(center, np.float64)
        high = low + size[2] * ez
        down = -size[2] * ez
        sides = {
            'x': (-half_x * ex + half_y * ey, -size[1] * ey),
            'X': (half_x * ex - half_y * ey, size[1] * ey),
            'y': (-half_x * ex - half_y * ey, size[0] * ex),
            'Y': (half_x * ex + half_y * ey, -size[0] * ex),
        }
        for face in faces:
            if face == 'Z':
                self.quad(high - half_x * ex + half_y * ey, size[0] * ex, -size[1] * ey,
                          paint_top or paint)
            elif face == 'z':
                self.quad(low - half_x * ex - half_y * ey, size[0] * ex, size[1] * ey, paint)
            else:
                offset, along = sides[face]
                self.quad(high + offset, along, down, paint)

    def build(self) -> Scene:
        """Return the finished scene."""
        return Scene(tuple(self._quads))
