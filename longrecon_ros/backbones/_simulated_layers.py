"""Depth layers of a window, from true depth and poses: surfaces that occlusion edges separate.

Every frame is cut into smooth parts (`_simulated_parts`). Parts that go over into each other
without a jump of the depth attract, by the length of their common border; parts of which one
hides the other repel. Parts of successive frames attract by the surface they share: the depth of
one frame is moved into the other by the true poses, which is exact however fast the camera is.
Clusters of all that are the layers, the same in all frames of the window. So a cabinet on the
floor is a layer of its own when more of its outline hides the wall than touches the floor.
"""

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np

from ..geometry import se3
from ._simulated_clusters import cluster
from ._simulated_parts import beside, cuts, Parts, split

_STRIDE_PX = 2
"""Parts are found at half the resolution."""
_TOLERANCE = 0.05
"""Log depth; where two frames differ by more, one surface hides the other."""
_PERMANENCE = 2.0
"""How much more a shared surface binds parts of two frames than borders inside one do."""


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """The layers of the frames of a window."""

    labels: np.ndarray                      # (N, H, W) i32, one number a layer of the window
    n_layers: int
    is_edge: np.ndarray                     # (N, H, W) bool, pixels beside an occlusion edge


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
    parts = [split(np.ascontiguousarray(frame[coarse, coarse]), step) for frame in log_depth]
    first = np.cumsum([0, *(part.n_parts for part in parts)])
    pairs, weights = _bonds_inside(parts, first, contact)
    for t in range(1, len(parts)):
        T = se3.relative(T_world_camera[t - 1], T_world_camera[t])
        shared, bond = _bonds_between(parts[t - 1], parts[t], log_depth[t - 1][coarse, coarse],
                                      depth[t][coarse, coarse], rays[coarse, coarse], K, T)
        pairs.append(shared + [first[t - 1], first[t]])
        weights.append(bond)
    layer_of = cluster(int(first[-1]), np.concatenate(pairs), np.concatenate(weights))
    labels = [_refine(layer_of[part.labels + start], frame)
              for part, start, frame in zip(parts, first, log_depth)]
    edges = [beside(*cuts(frame, step)) for frame in log_depth]
    return Layers(np.stack(labels), int(layer_of.max()) + 1, np.stack(edges))


def _bonds_inside(parts: List[Parts], first: np.ndarray,
                  contact: float) -> Tuple[List[np.ndarray], List[np.ndarray]]:
    """Return pairs of parts (B, 2) of one frame, numbered over all frames, and their weights."""
    pairs = [part.borders + start for part, start in zip(parts, first)]
    weights = [contact * part.n_joined - part.n_cut for part in parts]
    return pairs, weights


def _bonds_between(a: Parts, b: Parts, log_depth_a: np.ndarray, depth_b: np.ndarray,
                   rays: np.ndarray, K: np.ndarray,
                   T_a_b: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return pairs (P, 2) of parts of two frames that show the same surface, and their weights.

    The weight is the circumference of the shared surface if it were square, lowered by what the
    two do not share.
    """
    seen = _seen_by_both(a.labels, b.labels, log_depth_a, depth_b, rays, K, T_a_b)
    if not len(seen):
        return np.zeros((0, 2), np.int64), np.zeros(0)
    area_a, area_b = np.bincount(seen[:, 0]), np.bincount(seen[:, 1])
    keys, common = np.unique(seen[:, 0] * b.n_parts + seen[:, 1], return_counts=True)
    pairs = np.column_stack([keys // b.n_parts, keys % b.n_parts])
    iou = common / (area_a[pairs[:, 0]] + area_b[pairs[:, 1]] - common)
    return pairs, _PERMANENCE * iou * 4 * np.sqrt(common)


def _seen_by_both(labels_a: np.ndarray, labels_b: np.ndarray, log_depth_a: np.ndarray,
                  depth_b: np.ndarray, rays: np.ndarray, K: np.ndarray,
                  T_a_b: np.ndarray) -> np.ndarray:
    """Return the labels (P, 2) i64 in both frames of the points of b that a sees, too.

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
    return np.column_stack([labels_a[y, x], labels_b.ravel()])[is_seen].astype(np.int64)


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
