"""Depth layers and their scales exactly as LASER's code has them, for comparison.

Segments are those of Felzenszwalb and Huttenlocher 2004 on raw depth (so that the unit of depth
matters), joined where their mean depths are close; layers of two frames belong together where
they overlap at the same pixels.
"""

from typing import List

import numpy as np

from ..errors import AlignmentError, MissingDependency
from .irls import l1_scale, ORIGINAL
from .segments import count, iou, merge_close, overlap_counts

SEGMENT_SCALE, SEGMENT_SIGMA, SEGMENT_MIN_PX = 300, 1.1, 500
MERGE_SHARE = 0.1           # of the confident range of depth of the window
IOU_INSIDE, IOU_BETWEEN = 0.3, 0.4


def segment(depth: np.ndarray) -> np.ndarray:
    """Return segments (H, W) of a depth map (H, W) before joining; MissingDependency."""
    try:
        from skimage.segmentation import felzenszwalb
    except ImportError:
        raise MissingDependency('layerwise.faithful needs scikit-image: '
                                'pip install scikit-image') from None
    return felzenszwalb(depth, scale=SEGMENT_SCALE, sigma=SEGMENT_SIGMA, min_size=SEGMENT_MIN_PX)


def depth_layers(depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return layers (N, H, W) int16 of a window: depth (N, H, W), mask of confident pixels.

    Raises AlignmentError when the mask is empty or depth is not finite.
    """
    confident = depth[mask]
    if not len(confident) or not np.isfinite(depth).all():
        raise AlignmentError('the window has no confident pixels, or depth that is not finite')
    threshold = MERGE_SHARE * (confident.max() - confident.min())
    return np.stack([merge_close(segment(z), z, threshold, is_first_alone=True)
                     for z in depth]).astype(np.int16)


def layer_scales(previous_depth: np.ndarray, previous_layers: np.ndarray, depth: np.ndarray,
                 layers: np.ndarray) -> List[np.ndarray]:
    """Return the scale of every layer (n_t,) f64 of every frame of a window.

    ``previous_depth`` and ``previous_layers`` (O, H, W) are the shared frames in the previous
    window, refined; ``depth`` and ``layers`` (N, H, W) are the window after its Sim(3), shared
    frames first. Measured scales and those handed on from the frame before are averaged by
    IoU; a layer without any keeps 1.
    """
    n_layers = count(layers)
    caches = [[[] for _ in range(n)] for n in n_layers]
    for t in range(len(previous_layers)):
        _measure(caches[t], previous_depth[t], previous_layers[t], depth[t], layers[t])
    for t in range(len(layers) - 1):
        weights = iou(overlap_counts(layers[t], layers[t + 1], n_layers[t], n_layers[t + 1]))
        for i, j in zip(*np.nonzero(weights >= IOU_INSIDE)):
            if caches[t][i]:
                caches[t + 1][j].append((weights[i, j], _mean(caches[t][i])))
    return [np.array([_mean(cache) for cache in frame]) for frame in caches]


def scale_map(layers: np.ndarray, scales: List[np.ndarray]) -> np.ndarray:
    """Return the factor of every pixel (N, H, W) f32."""
    return np.stack([scale.astype(np.float32)[labels] for scale, labels in zip(scales, layers)])


def _measure(cache, previous_depth, previous_layers, depth, layers) -> None:
    n_before, n = int(previous_layers.max()) + 1, int(layers.max()) + 1
    weights = iou(overlap_counts(previous_layers, layers, n_before, n))
    for i, j in zip(*np.nonzero(weights >= IOU_BETWEEN)):
        both = (previous_layers == i) & (layers == j)
        source, target = depth[both].astype(np.float64), previous_depth[both].astype(np.float64)
        scale = l1_scale(source[:, None], target[:, None], solver=ORIGINAL,
                         start=target.mean() / source.mean())
        cache[j].append((weights[i, j], scale))


def _mean(cache) -> float:
    if not cache:
        return 1.0
    weights, scales = np.array(cache).T
    return float(weights @ scales / weights.sum())
