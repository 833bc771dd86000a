"""Depth layers as surfaces: pixels that no jump of depth separates.

Where a camera sees one thing in front of another, inverse depth jumps; on one surface, however
slanted, it changes evenly (on a plane it is linear in the image). So links between neighbours are
cut where inverse depth changes by more than on both sides of the link, relative to itself. That
needs no unit of depth. What hangs together is a layer.
"""

from dataclasses import dataclass
from typing import Tuple

import cv2
import numpy as np

from .segments import means, nearest_known, overlap_counts, relabel

_KERNEL = np.ones((3, 3), np.uint8)
_AROUND = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
_OVER_NOISE = 3.0           # times the usual variation of the field, or bend of a surface
_CREASE_PX = 3
_MOST_OF_BORDER = 0.6
_N_GROW = 6                 # steps by which layers grow over the pixels along their borders


@dataclass(frozen=True, slots=True)
class SurfaceConfig:
    """What counts as a jump, and how small a layer may be."""

    work_pixels: int = 16000        # layers are found on a grid of about so many
    jump: float = 0.04              # of inverse depth, beyond the slope around it
    field_jump: float = 0.025       # of the log scale
    crease: float = 0.012           # of inverse depth, off a plane through 7 pixels
    min_share: float = 0.002        # of the image; smaller layers join what is nearest in depth
    max_layers: int = 200


def work_stride(shape: tuple, work_pixels: int) -> int:
    """Return the step of the grid on which layers of images of this (H, W) are found."""
    return max(1, round((shape[0] * shape[1] / work_pixels)**0.5))


def log_depth(depth: np.ndarray) -> np.ndarray:
    """Return the logarithm (H, W) f32 of a depth map, without single wrong pixels.

    A median over 5 x 5 pixels; NaN where depth is no number above 0.
    """
    with np.errstate(divide='ignore', invalid='ignore'):
        log = np.log(depth)
    bad = ~np.isfinite(log)
    if bad.any():
        log[bad] = np.float32(np.median(log[~bad])) if not bad.all() else 0.0
    smooth = cv2.medianBlur(np.ascontiguousarray(log, np.float32), 5)
    smooth[bad] = np.nan
    return smooth


def find_layers(log: np.ndarray, field: np.ndarray, config: SurfaceConfig) -> np.ndarray:
    """Return layers (h, w) int32, 0 to n - 1, of a smooth log depth (h, w), NaN where unknown.

    ``field`` (h, w) is what is measured of the log scale of the pixels, NaN where nothing is:
    where it jumps there is a border, too, even if depth happens to be even there.
    """
    known = np.isfinite(log)
    if not known.any():
        return np.zeros(log.shape, np.int32)
    log = np.where(known, log, np.nanmedian(log)).astype(np.float32)
    solid = _solid(log, config.jump) & ~_is_uneven(field, config.field_jump) & known
    _, labels = cv2.connectedComponents(solid.astype(np.uint8), connectivity=4)
    labels -= 1                                 # -1: not of any layer yet
    _drop_small(labels, config)
    if labels.max() < 0:
        return np.zeros(log.shape, np.int32)
    _grow(labels, log, np.nan_to_num(field))
    return _join_weak(labels, log, field, config)


def continue_layers(log: np.ndarray, carried: np.ndarray, config: SurfaceConfig,
                    n_before: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return layers (h, w) int32 of a frame that go on from those before.

    The second result is their origin (n,), the third the share (n,) of their pixels that the frame
    before has not seen.

    ``log`` (h, w) is its smooth log depth, ``carried`` (h, w) has the layer (0 to n_before - 1)
    that the frame before gave each pixel, -1 where it did not see it. A patch of such pixels joins
    the layer along most of its border, as far as no jump of depth and no crease is between; its
    pixels join the nearest layer if no layer has most of the border. A patch that touches none is
    a new layer, of origin -1.
    """
    known = np.isfinite(log)
    if not known.any():
        return np.zeros(log.shape, np.int32), np.array([-1]), np.ones(1)
    log = np.where(known, log, np.nanmedian(log)).astype(np.float32)
    solid = _solid(log, config.jump) & _is_flat(log, config.crease) & known
    seen = solid & (carried >= 0)
    n_patches, patch = cv2.connectedComponents((solid & ~seen).astype(np.uint8), connectivity=4)
    counts = _touching(patch, np.where(seen, carried, -1), n_patches, n_before)
    total = counts.sum(axis=1)
    most = counts.argmax(axis=1)
    most[total == 0] = n_before + np.arange(np.count_nonzero(total == 0))
    labels = np.where(seen, carried, most[patch])
    is_torn = (total > 0) & (counts.max(axis=1) < _MOST_OF_BORDER * total)
    if seen.any() and is_torn[1:].any():
        torn = ~seen & is_torn[patch] & (patch > 0)
        labels[torn] = carried.ravel()[nearest_known(seen)[torn]]
    labels[~solid] = -1
    labels = labels.astype(np.int32)
    kept = _drop_small(labels, config)
    if not len(kept):
        return np.zeros(log.shape, np.int32), np.array([-1]), np.ones(1)
    marked = labels[labels >= 0]
    unseen = means((~seen[labels >= 0]).astype(np.float64), marked)
    _grow(labels, log, np.zeros_like(log))
    return labels, np.where(kept < n_before, kept, -1), unseen


def _touching(patch: np.ndarray, labels: np.ndarray, n_patches: int,
              n_labels: int) -> np.ndarray:
    """Return counts (n_patches, n_labels) of links between patches (0: none) and labels."""
    counts = np.zeros((n_patches, n_labels), np.int64)
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        for x, y in ((a, b), (b, a)):
            counts += overlap_counts(np.where(patch[x] > 0, patch[x], -1), labels[y], n_patches,
                                     n_labels)
    return counts


def full_size(labels: np.ndarray, work_log: np.ndarray, depth: np.ndarray,
              stride: int) -> np.ndarray:
    """Return layers (H, W) int16 of all pixels, from those on the grid, exact at the borders.

    A pixel near a border belongs to the layer around it whose depth is nearest to its own.
    ``work_log`` (h, w) is the smooth log depth on the grid, ``depth`` (H, W) that of all pixels.
    """
    H, W = depth.shape
    rows = np.minimum(np.arange(H) // stride, len(labels) - 1)
    columns = np.minimum(np.arange(W) // stride, labels.shape[1] - 1)
    full = labels[rows[:, None], columns]
    border = _is_border(labels)[rows[:, None], columns]
    v, u = np.nonzero(border)
    work = np.pad(work_log, 1, constant_values=np.nan)
    padded = np.pad(labels, 1, mode='edge')
    with np.errstate(divide='ignore', invalid='ignore'):
        own = np.log(depth[v, u])
    best, chosen = np.full(len(v), np.inf, np.float32), full[v, u]
    for dv, du in ((0, 0), *_AROUND):
        at = rows[v] + 1 + dv, columns[u] + 1 + du
        distance = np.abs(work[at] - own)
        nearer = distance < best
        best, chosen = np.where(nearer, distance, best), np.where(nearer, padded[at], chosen)
    full[v, u] = chosen
    return full.astype(np.int16)


def _solid(log: np.ndarray, jump: float) -> np.ndarray:
    """Return (h, w) bool: pixels whose links to the four neighbours are all whole."""
    inverse = np.exp(-log)
    solid = np.ones(log.shape, bool)
    for axis in (0, 1):
        cut = _cut(inverse if axis else inverse.T, jump)
        cut = cut if axis else cut.T
        before = (slice(None), slice(None, -1)) if axis else (slice(None, -1), slice(None))
        after = (slice(None), slice(1, None)) if axis else (slice(1, None), slice(None))
        solid[before] &= ~cut
        solid[after] &= ~cut
    return solid


def _is_flat(log: np.ndarray, crease: float) -> np.ndarray:
    """Return (h, w) bool: pixels where the surface is a plane, more or less, along both axes.

    Inverse depth is linear on a plane. What deviates all over the image is noise.
    """
    inverse = cv2.blur(np.exp(-log), (3, 3))
    flat = np.ones(log.shape, bool)
    for dy, dx in ((0, _CREASE_PX), (_CREASE_PX, 0)):
        padded = cv2.copyMakeBorder(inverse, dy, dy, dx, dx, cv2.BORDER_REFLECT_101)
        h, w = inverse.shape
        bend = np.abs((padded[:h, :w] + padded[2 * dy:2 * dy + h, 2 * dx:2 * dx + w]) / 2
                      - inverse) / inverse
        # a reflected border bends every slope
        inner = bend[dy:h - dy or None, dx:w - dx or None]
        if inner.size:
            bound = max(crease, _OVER_NOISE * float(np.median(inner)))
            flat[dy:h - dy or None, dx:w - dx or None] &= inner < bound
    return flat


def _cut(inverse: np.ndarray, jump: float) -> np.ndarray:
    """Return (h, w - 1) bool: links between horizontal neighbours across a jump."""
    step = np.abs(np.diff(inverse, axis=1))
    padded = np.pad(step, ((0, 0), (2, 2)), mode='edge')
    w = step.shape[1]
    slope = np.minimum.reduce([padded[:, k:k + w] for k in (0, 1, 3, 4)])
    return step - slope > jump * np.minimum(inverse[:, 1:], inverse[:, :-1])


def _is_uneven(field: np.ndarray, jump: float) -> np.ndarray:
    """Return (h, w) bool: pixels around which the field varies by more than ``jump``.

    It has to vary by more than it does all over the image, too: that is noise.
    """
    known = np.isfinite(field)
    if not known.any():
        return np.zeros(field.shape, bool)
    smooth = cv2.medianBlur(np.where(known, field, np.median(field[known])).astype(np.float32), 5)
    high = cv2.dilate(np.where(known, smooth, np.float32(-1e9)), _KERNEL)
    low = cv2.erode(np.where(known, smooth, np.float32(1e9)), _KERNEL)
    variation = np.where(high > -1e9, high - low, 0)
    return variation > max(jump, _OVER_NOISE * float(np.median(variation[known])))


def _drop_small(labels: np.ndarray, config: SurfaceConfig) -> np.ndarray:
    """Number the large layers from 0 and unmark the others, in place; return the old numbers."""
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    least = config.min_share * labels.size
    if len(sizes) > config.max_layers:
        least = max(least, float(np.partition(sizes, -config.max_layers)[-config.max_layers]))
    number = np.full(len(sizes) + 1, -1)
    large = np.flatnonzero(sizes >= max(1, least))
    number[large] = np.arange(len(large))
    labels[:] = number[labels]                  # -1 takes the last entry
    return large


def _grow(labels: np.ndarray, log: np.ndarray, field: np.ndarray) -> None:
    """Give unmarked pixels the layer of the neighbour that is most alike, in place."""
    field = np.pad(field, 1, mode='edge')
    log = np.pad(log, 1, mode='edge')
    for _ in range(_N_GROW):
        v, u = np.nonzero(labels < 0)
        if not len(v):
            return
        padded = np.pad(labels, 1, constant_values=-1)
        own, own_field = log[v + 1, u + 1], field[v + 1, u + 1]
        best, chosen = np.full(len(v), np.inf, np.float32), np.full(len(v), -1, np.int32)
        for dv, du in _AROUND:
            at = v + 1 + dv, u + 1 + du
            distance = np.abs(log[at] - own) + np.abs(field[at] - own_field)
            distance[padded[at] < 0] = np.inf
            nearer = distance < best
            best, chosen = np.where(nearer, distance, best), np.where(nearer, padded[at], chosen)
        labels[v, u] = chosen
    unmarked = labels < 0
    if unmarked.any():
        # far from any layer: the nearest one in the image
        labels[unmarked] = labels.ravel()[nearest_known(~unmarked)[unmarked]]


def _join_weak(labels: np.ndarray, log: np.ndarray, field: np.ndarray,
               config: SurfaceConfig) -> np.ndarray:
    """Join touching layers of one scale whose border is no jump along most of it."""
    n = int(labels.max()) + 1
    a = np.concatenate([labels[:, :-1].ravel(), labels[:-1].ravel()]).astype(np.int64)
    b = np.concatenate([labels[:, 1:].ravel(), labels[1:].ravel()])
    border = np.flatnonzero(a != b)
    weak = _steps(log)[border] < config.jump / 2
    pair = np.minimum(a, b)[border] * n + np.maximum(a, b)[border]
    pairs, at = np.unique(pair, return_inverse=True)
    is_weak = 2 * np.bincount(at, weak) > np.bincount(at)
    low, high = np.divmod(pairs[is_weak], n)
    scale = means(np.nan_to_num(field), labels)
    alike = ~(np.abs(scale[low] - scale[high]) > config.field_jump)
    return relabel(labels, low[alike], high[alike], n)


def _steps(values: np.ndarray) -> np.ndarray:
    """Return the differences of horizontal, then of vertical neighbours, (M,)."""
    return np.concatenate([np.abs(np.diff(values, axis=1)).ravel(),
                           np.abs(np.diff(values, axis=0)).ravel()])


def _is_border(labels: np.ndarray) -> np.ndarray:
    """Return (h, w) bool: cells with another layer among the eight around them."""
    values = labels.astype(np.int16)
    return cv2.dilate(values, _KERNEL) != cv2.erode(values, _KERNEL)
