"""The depth layers of all frames of a window, on a coarse grid and of every pixel."""

from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

from ..types import Prediction
from .intrinsics import common_K
from .layer_motion import shared_pixels, View
from .surfaces import find_layers, full_size, layer_depths, log_depth, SurfaceConfig, work_stride


@dataclass(frozen=True, slots=True, eq=False)
class LayerGrid:
    """Layers of the N frames of a window; the grid takes every ``stride``-th pixel."""

    stride: int
    labels: List[np.ndarray]                # N times (h, w) int32
    logs: List[np.ndarray]                  # N times (h, w) f32, smooth log depth
    log_depths: List[np.ndarray]            # N times (n,) f64, mean of each layer
    layers: np.ndarray                      # (N, H, W) i16, of every pixel
    views: List[View]
    K: Optional[np.ndarray]                 # (3, 3) f64, px of the grid

    @classmethod
    def of(cls, prediction: Prediction, config: SurfaceConfig) -> 'LayerGrid':
        """Find the layers of every frame of a window."""
        n, H, W = prediction.confidence.shape
        stride = work_stride((H, W), config.work_pixels)
        layers = np.empty((n, H, W), np.int16)
        labels, logs = [], []
        for k in range(n):
            raw, smooth = log_depth(_defined(prediction, k))
            logs.append(on_grid(smooth, stride))
            labels.append(find_layers(logs[k], config))
            layers[k] = full_size(labels[k], logs[k], raw, stride)
        views = [_view(prediction, k, labels[k], logs[k], stride) for k in range(n)]
        return cls(stride, labels, logs, [layer_depths(a, b) for a, b in zip(logs, labels)],
                   layers, views, _grid_K(prediction, stride))

    @property
    def min_pixels(self) -> int:
        """Pixels of the grid that a layer needs for a measured scale."""
        return max(5, self.labels[0].size // 2000)

    def pixels(self, t: int) -> np.ndarray:
        """Return the size (n,) i64 of the layers of frame t, px of the grid."""
        return np.bincount(self.labels[t].ravel())

    def shared_pixels(self, t: int) -> np.ndarray:
        """Return counts (n_t, n_t+1) of pixels that frames t and t + 1 both see."""
        return shared_pixels(self.views[t], self.views[t + 1], self.K)

    def log_ratio(self, previous: Prediction, row: int, current: Prediction,
                  t: int) -> Tuple[np.ndarray, np.ndarray]:
        """Return ln(previous / current) depth (h, w) of a shared frame, and weights (h, w)."""
        _, smooth = log_depth(_defined(previous, row))
        confidence = previous.confidence[row] * current.confidence[t]
        return (on_grid(smooth, self.stride) - self.logs[t],
                on_grid(confidence, self.stride))


def on_grid(image: np.ndarray, stride: int) -> np.ndarray:
    """Return every ``stride``-th row and column of an image, from the middle of the first."""
    return image[stride // 2::stride, stride // 2::stride]


def _defined(prediction: Prediction, k: int) -> np.ndarray:
    depth = prediction.depth[k]
    return np.where(prediction.confidence[k] > 0, depth, np.float32(np.nan))


def _view(prediction: Prediction, k: int, labels: np.ndarray, log: np.ndarray,
          stride: int) -> View:
    points = on_grid(prediction.local_points[k], stride)
    with np.errstate(divide='ignore', invalid='ignore'):
        points = points * (np.exp(log) / points[..., 2])[..., None]
    return View(prediction.T_window_camera[k], points, labels, log, int(labels.max()) + 1)


def _grid_K(prediction: Prediction, stride: int) -> Optional[np.ndarray]:
    K = common_K(prediction) if prediction.K is None else prediction.K[0].astype(np.float64)
    if K is None:
        return None
    K = K / stride
    K[:2, 2] -= (stride // 2) / stride
    K[2, 2] = 1.0
    return K
