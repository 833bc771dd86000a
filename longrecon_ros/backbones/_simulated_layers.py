"""Depth layers of a window, from true depth and poses: surfaces that occlusion edges separate.

Every frame is cut into smooth parts (`_simulated_parts`). Parts that go over into each other
without a jump of the depth attract, by the length of their common border; parts of which one
hides the other repel: so a cabinet on the floor is a thing of its own when more of its outline
hides the wall than touches the floor. The things of the middle frame are the first layers. From
there they are carried to the frames before and after by the true depth and poses, which is exact
however fast the camera is: a point of the scene has one layer in all frames of the window. What no
frame has shown so far joins the layer of the thing that it is part of, or begins one.
"""

from dataclasses import dataclass
from typing import List

import numpy as np

from ..alignment.segments import nearest_known, overlap_counts
from ..geometry import se3
from ._simulated_clusters import cluster
from ._simulated_parts import beside, cuts, Parts, split

_STRIDE_PX = 2
"""Parts are found at half the resolution."""
_TOLERANCE = 0.05
"""Log depth; where two frames differ by more, one surface hides the other."""
_LEAST_SEEN = 0.2
"""Share of a thing that the frame beside must have seen for its layer to go on."""


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """The layers of the frames of a window."""

    labels: np.ndarray                      # (N, H, W) i32, one number a layer of the window
    n_layers: int
    is_edge: np.ndarray                     # (N, H, W) bool, pixels beside an occlusion edge

    def log_depths(self, depth: np.ndarray) -> np.ndarray:
        """Return the mean log depth (n,) of the layers over all frames, for depth (N, H, W)."""
        labels = self.labels.ravel()
        total = np.bincount(labels, np.log(depth).ravel(), minlength=self.n_layers)
        return total / np.maximum(np.bincount(labels, minlength=self.n_layers), 1)


def find_layers(depth: np.ndarray, rays: np.ndarray, K: np.ndarray, T_world_camera: np.ndarray,
                step: float, contact: float) -> Layers:
    """Return the layers of filled depth maps (N, H, W) m.

    ``rays`` (H, W, 3) are the viewing rays with z = 1 for ``K`` (3, 3) px; poses (N, 4, 4) are
    true; ``step`` is the jump of the log depth, beyond the slope, that makes an occlusion edge;
    ``contact`` is how much a border without a jump binds for each pixel, where one with a jump
    parts by 1.
    """
    coarse = slice(None, None, _STRIDE_PX)
    log_depth = np.log(depth)
    things = [_things(split(np.ascontiguousarray(frame[coarse, coarse]), step), contact)
              for frame in log_depth]
    middle = len(depth) // 2
    labels: List[np.ndarray] = list(things)
    n_layers = int(labels[middle].max()) + 1
    order = [(t, t - 1) for t in range(middle + 1, len(depth))]
    order += [(t, t + 1) for t in range(middle - 1, -1, -1)]
    for t, known in order:
        T = se3.relative(T_world_camera[known], T_world_camera[t])
        carried = _carry(labels[known], log_depth[known][coarse, coarse],
                         depth[t][coarse, coarse], rays[coarse, coarse], K, T)
        labels[t] = _complete(carried, things[t], n_layers)
        n_layers = max(n_layers, int(labels[t].max()) + 1)
    full = np.stack([_refine(coarse_labels, frame)
                     for coarse_labels, frame in zip(labels, log_depth)])
    return Layers(full, n_layers, np.stack([beside(*cuts(frame, step)) for frame in log_depth]))


def _things(parts: Parts, contact: float) -> np.ndarray:
    """Return the things (h, w) i32 of one frame: clusters of its parts."""
    return cluster(parts.n_parts, parts.borders,
                   contact * parts.n_joined - parts.n_cut)[parts.labels]


def _complete(carried: np.ndarray, things: np.ndarray, n_layers: int) -> np.ndarray:
    """Return layers (h, w) i32 of a frame from those carried to it, -1 where there are none.

    New pixels of a thing join the layer of the nearest pixel if that is of the thing, too, else
    the layer that most of its pixels have. A thing that the frame beside has hardly seen begins
    a layer.
    """
    n = int(things.max()) + 1
    seen = carried >= 0
    counts = overlap_counts(things, carried, n, n_layers)
    most, share = counts.argmax(axis=1), counts.sum(axis=1) / np.bincount(things.ravel())
    is_new = share < _LEAST_SEEN
    most[is_new] = n_layers + np.arange(np.count_nonzero(is_new))
    if not seen.any():
        return most[things].astype(np.int32)
    beside = nearest_known(seen)
    is_same = (things.ravel()[beside] == things) & ~is_new[things]
    return np.where(is_same, carried.ravel()[beside], most[things]).astype(np.int32)


def _carry(labels_a: np.ndarray, log_depth_a: np.ndarray, depth_b: np.ndarray,
           rays: np.ndarray, K: np.ndarray, T_a_b: np.ndarray) -> np.ndarray:
    """Return the labels (h, w) i32 that the points of b have in a, -1 where a does not see them.

    All maps are decimated; ``K`` is for the full resolution.
    """
    points = (rays * depth_b[..., None]).reshape(-1, 3)
    points = points @ T_a_b[:3, :3].T.astype(np.float32) + T_a_b[:3, 3].astype(np.float32)
    z = np.maximum(points[:, 2], 1e-6)
    pixels = points @ K[:2].T.astype(np.float32) / z[:, None] / _STRIDE_PX
    h, w = labels_a.shape
    is_inside = (points[:, 2] > 1e-3) & (pixels > -0.5).all(axis=1) & (
        pixels < [w - 0.5, h - 0.5]).all(axis=1)
    x, y = np.rint(np.where(is_inside[:, None], pixels, 0)).astype(np.int64).T
    is_seen = is_inside & (np.abs(np.log(z) - log_depth_a[y, x]) < _TOLERANCE)
    return np.where(is_seen, labels_a[y, x], -1).reshape(h, w)


def _refine(labels: np.ndarray, log_depth: np.ndarray) -> np.ndarray:
    """Bring decimated labels to the resolution of the depth.

    A pixel takes the label of the one of its four coarse neighbours whose depth is most similar.
    """
    h, w = log_depth.shape
    rows, columns = np.arange(h) // _STRIDE_PX, np.arange(w) // _STRIDE_PX
    best, result = np.full((h, w), np.inf, np.float32), np.zeros((h, w), np.int32)
    for down in (0, 1):
        for right in (0, 1):
            y = np.minimum(rows + down, len(labels) - 1)[:, None]
            x = np.minimum(columns + right, labels.shape[1] - 1)
            difference = np.abs(log_depth[_STRIDE_PX * y, _STRIDE_PX * x] - log_depth)
            is_better = difference < best
            np.copyto(result, labels[y, x], where=is_better)
            np.copyto(best, difference, where=is_better)
    return result
