"""Aligned prediction -> submap: the new frames' confident points, thinned and coloured."""

import numpy as np

from ..geometry import se3
from ..types import PointCloud, Prediction, Submap


def build_submap(prediction: Prediction, stamps_ns: np.ndarray, n_overlap: int, submap_id: int,
                 min_confidence: float, points_per_frame: int) -> Submap:
    """Return the submap of the frames after the leading ``n_overlap`` of a window in odom.

    Its frame is its first camera's, so that points stay exact in f32 far from the origin.
    ``stamps_ns`` (N,) belongs to all frames of the prediction. Pixels below ``min_confidence``
    or undefined stay out; of the rest each frame gives at most ``points_per_frame``, chosen at
    random but always the same.
    """
    poses = prediction.T_window_camera[n_overlap:]
    T_submap_camera = se3.relative(poses[0], poses)
    points, colors = [], []
    for n, T in enumerate(T_submap_camera, start=n_overlap):
        pixels = _chosen(prediction, n, min_confidence, points_per_frame)
        local = prediction.local_points[n].reshape(-1, 3)[pixels]
        points.append(se3.apply(T, local).astype(np.float32))
        colors.append(prediction.rgb[n].reshape(-1, 3)[pixels])
    return Submap(submap_id, prediction.frame_ids[n_overlap:], stamps_ns[n_overlap:],
                  T_submap_camera, np.concatenate(points), np.concatenate(colors))


def place(submap: Submap, T_odom_submap: np.ndarray) -> PointCloud:
    """Return the submap's cloud in odom, given its pose (4, 4)."""
    return PointCloud(se3.apply(T_odom_submap, submap.points), submap.colors)


def _chosen(prediction: Prediction, n: int, min_confidence: float, limit: int) -> np.ndarray:
    """Return flat pixel positions of frame n, ascending: one at random of each equal part."""
    confidence = prediction.confidence[n].reshape(-1)
    pixels = np.flatnonzero((confidence > 0) & (confidence >= min_confidence))
    if len(pixels) > limit:
        rng = np.random.default_rng(int(prediction.frame_ids[n]))
        part = np.arange(limit) + rng.random(limit)
        pixels = pixels[(part * (len(pixels) / limit)).astype(np.int64)]
    points = prediction.local_points[n].reshape(-1, 3)[pixels]
    return pixels[np.isfinite(points).all(axis=1)]
