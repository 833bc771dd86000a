"""A stage with a back wall and boards in front of it, filmed by a camera that moves sideways.

Everything is known exactly: depth, poses, which board a pixel shows.
"""

from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import pixel_grid, pointmap_from_depth, unproject
from longrecon_ros.geometry.sim3 import Sim3
from longrecon_ros.types import Frame, Prediction, Window

SIZE = (140, 100)
K = np.array([[120.0, 0, 69.5], [0, 120.0, 49.5], [0, 0, 1]])
BOARDS = ((2.2, -0.9, -0.3, -0.5, 0.4), (2.9, 0.2, 1.0, -0.2, 0.8), (1.6, -2.6, -1.9, -0.3, 0.3),
          (1.6, 1.6, 2.3, -0.3, 0.3))
"""Depth of each board, its left, right, upper and lower edge, m; the wall is 4 m away, slanted."""
N_LAYERS = len(BOARDS) + 1


@dataclass(frozen=True)
class Stage:
    """The camera's step a frame, m, and the noise of depth."""

    step: float = 0.03
    noise: float = 0.0

    def pose(self, t: int) -> np.ndarray:
        """Return T_world_camera (4, 4) of frame t."""
        return se3.from_parts(se3.so3_exp([0.0, 0.002 * t, 0.0]),
                              np.array([self.step * (t - 10), 0.0, 0.002 * t]))

    def depth(self, t: int):
        """Return depth (H, W) m and layer (H, W): 0 the wall, n the n-th board."""
        T = self.pose(t)
        rays = unproject(pixel_grid(SIZE), np.ones(SIZE[::-1]), K) @ T[:3, :3].T
        x, y, z = T[:3, 3]
        # the wall: Z = 4 + 0.2 X
        depth = (4 + 0.2 * x - z) / (rays[..., 2] - 0.2 * rays[..., 0])
        layer = np.zeros(depth.shape, np.int64)
        for n, (Z, left, right, top, bottom) in enumerate(BOARDS, 1):
            s = (Z - z) / rays[..., 2]
            X, Y = x + s * rays[..., 0], y + s * rays[..., 1]
            hit = (X > left) & (X < right) & (Y > top) & (Y < bottom) & (s < depth)
            depth, layer = np.where(hit, s, depth), np.where(hit, n, layer)
        return depth, layer

    def prediction(self, first: int, n: int, factors: Optional[Sequence[float]] = None,
                   gauge: Sim3 = Sim3.identity()) -> Prediction:
        """Return a window whose layers have scale errors, in a gauge (T_window_world)."""
        factors = np.ones(N_LAYERS) if factors is None else np.asarray(factors, float)
        rng = np.random.default_rng(first)
        maps = [self.depth(t) for t in range(first, first + n)]
        depth = np.stack([z * factors[layer] for z, layer in maps]) * gauge.scale
        depth *= 1 + self.noise * rng.normal(size=depth.shape)
        poses = np.stack([self.pose(t) for t in range(first, first + n)])
        points = pointmap_from_depth(depth, K)
        return Prediction(np.arange(first, first + n), gauge.apply_to_poses(poses), points,
                          np.full(depth.shape, 0.9), np.zeros((*depth.shape, 3), np.uint8),
                          np.broadcast_to(K, (n, 3, 3)))

    def absrel(self, prediction: Prediction, rows=slice(None)) -> float:
        """Return the mean relative error of depth, with the best scale of all."""
        ratio = np.stack([prediction.depth[k] / self.depth(int(t))[0]
                          for k, t in enumerate(prediction.frame_ids)])[rows]
        return float(np.abs(ratio / np.median(ratio) - 1).mean())


def window(prediction: Prediction, index: int, n_overlap: int) -> Window:
    """Return a window with empty pictures for a prediction."""
    image = np.zeros((*SIZE[::-1], 3), np.uint8)
    frames = tuple(Frame(int(t), int(t) * 100, image, K) for t in prediction.frame_ids)
    return Window(index, frames, n_overlap)
