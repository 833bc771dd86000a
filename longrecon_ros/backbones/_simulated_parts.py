"""Smooth parts of a true depth map: what neither an occlusion edge nor a crease divides."""

from dataclasses import dataclass
from typing import List, Tuple

import cv2
import numpy as np

from ..alignment.segments import nearest_known

_MIN_SHARE = 0.001
"""Smaller parts, as a share of the image, are given to their neighbours."""
_KINK_RADIUS_PX = 3
_KINK = 0.012
"""Relative deviation of the inverse depth from a plane, over the radius, that makes a crease."""
_SKY_FROM_M = 15.0
"""A hole at the upper border is sky where something is so far away; indoors it is a hole."""
_SKY_FACTOR = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The parts of one depth map, and the borders between them."""

    labels: np.ndarray                      # (H, W) i32, from 0 on
    n_parts: int
    borders: np.ndarray                     # (B, 2) i64, pairs of parts that touch, lower first
    n_joined: np.ndarray                    # (B,) i64 pixels along which the surface goes on
    n_cut: np.ndarray                       # (B,) i64 pixels along which the depth jumps


def fill(depth: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return a depth map (H, W) f32 m without holes, and where it is measured (H, W) bool.

    Holes (0 or not finite) take the nearest measured depth; sky is put beyond everything else. A
    map without any measurement becomes 1 m.
    """
    is_measured = np.isfinite(depth) & (depth > 0)
    if is_measured.all() or not is_measured.any():
        return np.where(is_measured, depth, 1).astype(np.float32), is_measured
    filled = depth.ravel()[nearest_known(is_measured)].astype(np.float32)
    far_m = float(depth[is_measured].max())
    if far_m > _SKY_FROM_M:
        _, holes = cv2.connectedComponents(np.uint8(~is_measured), connectivity=4)
        at_border = np.unique(holes[0][holes[0] > 0])
        filled[np.isin(holes, at_border)] = _SKY_FACTOR * far_m
    return filled, is_measured


def cuts(log_depth: np.ndarray, step: float) -> Tuple[np.ndarray, np.ndarray]:
    """Return where the depth jumps to the right (H, W - 1) and to the lower (H - 1, W) pixel.

    A jump is a change of the log depth that differs by more than ``step`` from the slopes two
    pixels to either side, which are those of the surfaces. One pixel away would miss the pixels
    in the middle of a blurred edge.
    """
    return _cuts_along_rows(log_depth, step), _cuts_along_rows(log_depth.T, step).T


def beside(cut_x: np.ndarray, cut_y: np.ndarray) -> np.ndarray:
    """Return the pixels (H, W) bool on both sides of the jumps that `cuts` found."""
    is_edge = np.zeros((len(cut_x), cut_y.shape[1]), bool)
    is_edge[:, 1:] |= cut_x
    is_edge[:, :-1] |= cut_x
    is_edge[1:] |= cut_y
    is_edge[:-1] |= cut_y
    return is_edge


def split(log_depth: np.ndarray, step: float) -> Parts:
    """Return the smooth parts of a log depth map (H, W) without holes."""
    cut_x, cut_y = cuts(log_depth, step)
    _, seeds, stats, _ = cv2.connectedComponentsWithStats(
        np.uint8(_is_smooth(log_depth)), connectivity=4)
    is_large = stats[:, cv2.CC_STAT_AREA] >= _MIN_SHARE * log_depth.size
    is_large[0] = False
    if not is_large.any():
        seeds, is_large = np.ones_like(seeds), np.array([False, True])
    names = np.where(is_large, np.cumsum(is_large), 0).astype(np.int32)
    labels = _grow(names[seeds], cut_x, cut_y)
    labels = labels.ravel()[nearest_known(labels > 0)] - 1
    return Parts(labels, int(is_large.sum()), *_borders(labels, cut_x, cut_y))


def _cuts_along_rows(log_depth: np.ndarray, step: float) -> np.ndarray:
    change = np.diff(log_depth, axis=1)
    padded = np.pad(change, ((0, 0), (2, 2)), mode='symmetric')
    before, after = padded[:, :-4], padded[:, 4:]
    return np.minimum(np.abs(change - before), np.abs(change - after)) > step


def _is_smooth(log_depth: np.ndarray) -> np.ndarray:
    """Return where (H, W) the surface is nearly plane: there inverse depth is linear in pixels."""
    inverse = cv2.blur(np.exp(-log_depth), (3, 3))
    r = _KINK_RADIUS_PX
    padded = cv2.copyMakeBorder(inverse, r, r, r, r, cv2.BORDER_REPLICATE)
    is_smooth = np.ones(inverse.shape, bool)
    for a, b in ((padded[r:-r, :-2 * r], padded[r:-r, 2 * r:]),
                 (padded[:-2 * r, r:-r], padded[2 * r:, r:-r])):
        is_smooth &= np.abs(a + b - 2 * inverse) < 2 * _KINK * inverse
    # at the border of the image there is but one side to tell
    is_smooth[:r] = is_smooth[r]
    is_smooth[-r:] = is_smooth[-r - 1]
    is_smooth[:, :r] = is_smooth[:, r:r + 1]
    is_smooth[:, -r:] = is_smooth[:, -r - 1:-r]
    return is_smooth


def _grow(labels: np.ndarray, cut_x: np.ndarray, cut_y: np.ndarray) -> np.ndarray:
    """Let labels (0: none) spread over creases to unlabelled pixels, but across no jump."""
    labels = labels.copy()
    # a corner of a part is that far from what is smooth of it
    for _ in range(2 * (_KINK_RADIUS_PX + 1)):
        if labels.all():
            break
        old = labels.copy()
        for to, given, cut in ((labels[:, 1:], old[:, :-1], cut_x),
                               (labels[:, :-1], old[:, 1:], cut_x),
                               (labels[1:], old[:-1], cut_y), (labels[:-1], old[1:], cut_y)):
            np.copyto(to, given, where=(to == 0) & ~cut)
    return labels


def _borders(labels: np.ndarray, cut_x: np.ndarray, cut_y: np.ndarray):
    """Return pairs of labels that touch, and the numbers of pixels with and without a jump."""
    pairs: List[np.ndarray] = []
    is_cut: List[np.ndarray] = []
    for a, b, cut in ((labels[:, :-1], labels[:, 1:], cut_x), (labels[:-1], labels[1:], cut_y)):
        differs = a != b
        pairs.append(np.column_stack([a[differs], b[differs]]))
        is_cut.append(cut[differs])
    joined = np.sort(np.concatenate(pairs).astype(np.int64), axis=1)
    n = int(labels.max()) + 1
    keys, inverse = np.unique(joined[:, 0] * n + joined[:, 1], return_inverse=True)
    n_cut = np.bincount(inverse, np.concatenate(is_cut), len(keys)).astype(np.int64)
    n_all = np.bincount(inverse, minlength=len(keys))
    return np.column_stack([keys // n, keys % n]), n_all - n_cut, n_cut
