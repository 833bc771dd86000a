"""Aligned prediction -> submap: the new frames' confident points, thinned and coloured."""

from typing import Optional

import numpy as np

from ..geometry import se3
from ..types import FrameState, PointCloud, Prediction, Submap, View
from .depth_edges import floating, floating_at
from .submap_file import rounded_depth


def build_submap(prediction: Prediction, stamps_ns: np.ndarray, n_overlap: int, submap_id: int,
                 min_confidence: float, points_per_frame: int,
                 remove_floating: bool = False, view_of: Optional[int] = None) -> Submap:
    """Return the submap of the frames after the leading ``n_overlap`` of a window in odom.

    Its frame is its first camera's, so that points stay exact in f32 far from the origin.
    ``stamps_ns`` (N,) belongs to all frames of the prediction. Pixels below ``min_confidence`` or
    undefined stay out; of the rest each frame gives at most ``points_per_frame``, chosen at random
    but always the same, less those that float at depth edges (`depth_edges`), if
    ``remove_floating``. ``view_of`` is the position of a frame whose image and depth are kept; it
    needs K.
    """
    poses = prediction.T_window_camera[n_overlap:]
    T_submap_camera = se3.relative(poses[0], poses)
    points, colors, weights = [], [], []
    for n, T in enumerate(T_submap_camera, start=n_overlap):
        pixels = _chosen(prediction, n, min_confidence, points_per_frame)
        if remove_floating:
            defined = prediction.confidence[n] > 0
            pixels = pixels[~floating_at(prediction.depth[n], defined, pixels)]
        local = prediction.local_points[n].reshape(-1, 3)[pixels]
        points.append(se3.apply(T, local).astype(np.float32))
        colors.append(prediction.rgb[n].reshape(-1, 3)[pixels])
        weights.append(prediction.confidence[n].reshape(-1)[pixels])
    views = ()
    if view_of is not None:
        views = (_view(prediction, view_of, stamps_ns, T_submap_camera[view_of - n_overlap],
                       min_confidence, remove_floating),)
    return Submap(submap_id, prediction.frame_ids[n_overlap:].copy(), stamps_ns[n_overlap:].copy(),
                  T_submap_camera, np.concatenate(points), np.concatenate(colors),
                  np.concatenate(weights), views)


def place(submap: Submap, T_odom_submap: np.ndarray) -> PointCloud:
    """Return the submap's cloud in odom, given its pose (4, 4)."""
    return PointCloud(se3.apply(T_odom_submap, submap.points), submap.colors)


def key_frame(prediction: Prediction, n_overlap: int) -> Optional[int]:
    """Return the position of the frame that stands for a window: a measured one in its middle.

    None where all new frames are LOST.
    """
    good = np.flatnonzero(prediction.states[n_overlap:] != FrameState.LOST)
    return None if not len(good) else int(n_overlap + good[len(good) // 2])


def _view(prediction: Prediction, n: int, stamps_ns: np.ndarray, T: np.ndarray,
          min_confidence: float, remove_floating: bool) -> View:
    is_defined = prediction.confidence[n] > 0
    is_good = is_defined & (prediction.confidence[n] >= min_confidence)
    if remove_floating:
        is_good &= ~floating(prediction.depth[n:n + 1], is_defined[None])[0]
    depth = np.where(is_good, prediction.depth[n], 0)
    # a copy: part of an array keeps all of it, here the images of the whole window
    return View(int(prediction.frame_ids[n]), int(stamps_ns[n]), T.copy(),
                prediction.K[n].copy(), prediction.rgb[n].copy(), rounded_depth(depth))


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
