"""Depth layers of a window, from true depth: surfaces that occlusion edges separate.

A layer of one frame is a connected part of the image across whose inside the depth never jumps.
Layers of successive frames are one where they cover the same surface: the depth of one frame is
moved into the other by the true poses, which is exact, also under fast motion.
"""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..geometry import se3

_MIN_SHARE = 0.002
"""Smaller components, as a share of the image, join the neighbour they differ from least."""
_MIN_IOU = 0.5
_LINK_STRIDE_PX = 2
_LINK_TOLERANCE = 0.05
"""Log depth; more than that means that one surface hides the other."""
_SKY_FROM_M = 15.0
"""A hole at the upper border is sky where something is so far away; indoors it is a hole."""
_SKY_FACTOR = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """The layers of the frames of a window."""

    labels: np.ndarray                      # (N, H, W) i32, one number a layer of the window
    n_layers: int
    is_edge: np.ndarray                     # (N, H, W) bool, pixels beside an occlusion edge


def fill(depth: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return a depth map (H, W) f32 m without holes, and where it is measured (H, W) bool.

    Holes (0 or not finite) take the nearest measured depth; sky is put beyond everything else. A
    map without any measurement becomes 1 m.
    """
    is_measured = np.isfinite(depth) & (depth > 0)
    if is_measured.all() or not is_measured.any():
        return np.where(is_measured, depth, 1).astype(np.float32), is_measured
    _, nearest = cv2.distanceTransformWithLabels(
        np.uint8(~is_measured), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    values = np.zeros(nearest.max() + 1, np.float32)
    values[nearest[is_measured]] = depth[is_measured]
    filled = values[nearest]
    far_m = float(depth[is_measured].max())
    if far_m > _SKY_FROM_M:
        _, holes = cv2.connectedComponents(np.uint8(~is_measured), connectivity=4)
        at_border = np.unique(holes[0][holes[0] > 0])
        filled[np.isin(holes, at_border)] = _SKY_FACTOR * far_m
    return filled, is_measured


def find_layers(depth: np.ndarray, rays: np.ndarray, K: np.ndarray, T_world_camera: np.ndarray,
                step: float) -> Layers:
    """Return the layers of filled depth maps (N, H, W) m.

    ``rays`` (H, W, 3) are the viewing rays with z = 1 for ``K`` (3, 3) px; poses (N, 4, 4) are
    true; ``step`` is the jump of the log depth, beyond the slope, that makes an occlusion edge.
    """
    log_depth = np.log(depth)
    parts, edges = zip(*(_split(frame, step) for frame in log_depth))
    labels, n_layers = [parts[0]], int(parts[0].max()) + 1
    for t in range(1, len(depth)):
        pairs = _pairs(parts[t - 1], parts[t], log_depth[t - 1], depth[t], rays, K,
                       se3.relative(T_world_camera[t - 1], T_world_camera[t]))
        names = _names_of(labels[-1], parts[t - 1])
        new = np.full(int(parts[t].max()) + 1, -1, np.int32)
        for before, now in _matches(pairs):
            new[now] = names[before]
        is_new = new < 0
        new[is_new] = n_layers + np.arange(np.count_nonzero(is_new))
        n_layers += int(np.count_nonzero(is_new))
        labels.append(new[parts[t]])
    return Layers(np.stack(labels), n_layers, np.stack(edges))


def _split(log_depth: np.ndarray, step: float) -> Tuple[np.ndarray, np.ndarray]:
    """Return connected parts (H, W) i32 from 0 on, and the pixels beside an edge (H, W) bool."""
    h, w = log_depth.shape
    cut_x, cut_y = _cuts(log_depth, step), _cuts(log_depth.T, step).T
    # pixels and the links between them on a grid of twice the density
    cells = np.zeros((2 * h - 1, 2 * w - 1), np.uint8)
    cells[::2, ::2] = 1
    cells[::2, 1::2] = ~cut_x
    cells[1::2, ::2] = ~cut_y
    parts = cv2.connectedComponents(cells, connectivity=4)[1][::2, ::2] - 1
    is_edge = np.zeros((h, w), bool)
    is_edge[:, 1:] |= cut_x
    is_edge[:, :-1] |= cut_x
    is_edge[1:] |= cut_y
    is_edge[:-1] |= cut_y
    return _merge_small(parts, log_depth, max(1, round(_MIN_SHARE * h * w))), is_edge


def _cuts(log_depth: np.ndarray, step: float) -> np.ndarray:
    """Return (H, W - 1) bool: the depth jumps between a pixel and its right neighbour.

    The slopes two pixels to either side are those of the surfaces; a jump is what neither tells.
    One pixel away would miss the pixels in the middle of a blurred edge.
    """
    change = np.diff(log_depth, axis=1)
    padded = np.pad(change, ((0, 0), (2, 2)), mode='symmetric')
    before, after = padded[:, :-4], padded[:, 4:]
    return np.minimum(np.abs(change - before), np.abs(change - after)) > step


def _merge_small(parts: np.ndarray, log_depth: np.ndarray, min_px: int) -> np.ndarray:
    """Join parts of fewer pixels to the neighbour with the smallest jump; renumber from 0."""
    while True:
        sizes = np.bincount(parts.ravel())
        is_small = sizes < min_px
        if not is_small.any() or len(sizes) == 1:
            return parts.astype(np.int32)
        inner, outer, jump = _borders(parts, log_depth)
        order = np.lexsort((outer, jump, inner))
        order = order[is_small[inner[order]]]
        first = order[np.unique(inner[order], return_index=True)[1]]
        graph = coo_matrix((np.ones(len(first)), (inner[first], outer[first])),
                           shape=(len(sizes), len(sizes)))
        parts = connected_components(graph, directed=False)[1][parts]


def _borders(parts: np.ndarray, log_depth: np.ndarray):
    """Return (part, neighbour, mean jump of the log depth between them), in both directions."""
    n = int(parts.max()) + 1
    keys: List[np.ndarray] = []
    jumps: List[np.ndarray] = []
    for a, b, da, db in ((parts[:, :-1], parts[:, 1:], log_depth[:, :-1], log_depth[:, 1:]),
                         (parts[:-1], parts[1:], log_depth[:-1], log_depth[1:])):
        differs = a != b
        a, b = a[differs].astype(np.int64), b[differs].astype(np.int64)
        keys += [a * n + b, b * n + a]
        jumps += 2 * [np.abs(da[differs] - db[differs])]
    unique, inverse, counts = np.unique(np.concatenate(keys), return_inverse=True,
                                        return_counts=True)
    total = np.bincount(inverse, np.concatenate(jumps), len(unique))
    return unique // n, unique % n, total / counts


def _pairs(parts_a: np.ndarray, parts_b: np.ndarray, log_depth_a: np.ndarray,
           depth_b: np.ndarray, rays: np.ndarray, K: np.ndarray,
           T_a_b: np.ndarray) -> np.ndarray:
    """Return the pairs of parts (P, 2) at the points that both frames see."""
    stride = slice(None, None, _LINK_STRIDE_PX)
    points = (rays[stride, stride] * depth_b[stride, stride, None]).reshape(-1, 3)
    points = points @ T_a_b[:3, :3].T.astype(np.float32) + T_a_b[:3, 3].astype(np.float32)
    z = np.maximum(points[:, 2], 1e-6)
    pixels = points @ K[:2].T.astype(np.float32) / z[:, None]
    h, w = parts_a.shape
    is_inside = ((points[:, 2] > 1e-3) & (np.abs(2 * pixels - [w - 1, h - 1])
                                          < [w, h]).all(axis=1))
    x, y = np.rint(np.where(is_inside[:, None], pixels, 0)).astype(int).T
    x, y = np.clip(x, 0, w - 1), np.clip(y, 0, h - 1)
    is_seen = is_inside & (np.abs(np.log(z) - log_depth_a[y, x]) < _LINK_TOLERANCE)
    return np.column_stack([parts_a[y, x], parts_b[stride, stride].ravel()])[is_seen]


def _matches(pairs: np.ndarray) -> Sequence[Tuple[int, int]]:
    """Return the pairs of parts whose common area is over half of their union."""
    if not len(pairs):
        return []
    area_a, area_b = np.bincount(pairs[:, 0]), np.bincount(pairs[:, 1])
    unique, common = np.unique(pairs, axis=0, return_counts=True)
    iou = common / (area_a[unique[:, 0]] + area_b[unique[:, 1]] - common)
    return unique[iou > _MIN_IOU].tolist()


def _names_of(labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return the label of each part of a frame."""
    names = np.zeros(int(parts.max()) + 1, np.int32)
    names[parts] = labels
    return names
