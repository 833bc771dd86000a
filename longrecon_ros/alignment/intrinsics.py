"""One pinhole for a whole stream: only depth and poses of a network are kept, rays are the K's."""

import dataclasses
from typing import Optional

import numpy as np

from ..geometry.camera import estimate_K, pixel_grid, pointmap_from_depth, resize_K
from ..types import Frame, Prediction, Window


class SharedIntrinsics:
    """Gives all predictions of one stream the same K; keeps their depth and poses.

    K is the calibration of the camera where it has one, else what the first window's pointmaps
    agree on (``faithful``: always that of the first frame, as LASER's code estimates it). Without
    either, predictions stay as they are.
    """

    def __init__(self, faithful: bool = False):
        self._faithful = faithful
        self._K: Optional[np.ndarray] = None

    def __call__(self, window: Window, prediction: Prediction) -> Prediction:
        """Return the prediction of a window of the stream with the shared K."""
        if self._K is None:
            self._K = self._first_K(window.frames[0], prediction)
        return prediction if self._K is None else with_shared_K(prediction, self._K)

    def _first_K(self, frame: Frame, prediction: Prediction) -> Optional[np.ndarray]:
        if self._faithful:
            return published_K(prediction.local_points[0])
        if frame.K is not None:
            return resize_K(frame.K, frame.size, prediction.confidence.shape[:0:-1])
        return common_K(prediction)


def with_shared_K(prediction: Prediction, K: np.ndarray) -> Prediction:
    """Return the prediction with its depth unprojected by K (3, 3), px at the size of its maps."""
    n = len(prediction.frame_ids)
    if prediction.K is not None and (prediction.K == K.astype(np.float32)).all():
        return prediction
    return dataclasses.replace(prediction, local_points=pointmap_from_depth(prediction.depth, K),
                               K=np.broadcast_to(K, (n, 3, 3)))


def published_K(points: np.ndarray) -> np.ndarray:
    """Return K (3, 3) of a camera-frame pointmap (H, W, 3) as LASER's code estimates it.

    Focal lengths are lower medians over all pixels, with whole pixel coordinates about
    (W / 2, H / 2).
    """
    h, w = points.shape[:2]
    grid = pixel_grid((w, h)).astype(np.float32) - np.float32([w / 2, h / 2])
    x, y, z = np.moveaxis(points.astype(np.float32), -1, 0)
    fx = _lower_median(grid[..., 0] * z / (x + np.float32(1e-8)))
    fy = _lower_median(grid[..., 1] * z / (y + np.float32(1e-8)))
    return np.array([[fx, 0, w / 2], [0, fy, h / 2], [0, 0, 1]])


def common_K(prediction: Prediction) -> Optional[np.ndarray]:
    """Return K (3, 3) that the pointmaps of a window agree on; None when they fix none.

    The median over its frames of `estimate_K`, weighted by confidence.
    """
    found = []
    for points, confidence in zip(prediction.local_points, prediction.confidence):
        try:
            found.append(estimate_K(points, confidence))
        except ValueError:
            continue        # a frame without depth says nothing
    return np.median(found, axis=0) if found else None


def _lower_median(values: np.ndarray) -> float:
    flat = values.ravel()
    rank = (len(flat) - 1) // 2
    return float(np.partition(flat, rank)[rank])
