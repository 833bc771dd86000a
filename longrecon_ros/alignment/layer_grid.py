"""The frames of a window on the coarse grid on which their layers are found."""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

import numpy as np

from ..types import Prediction
from .intrinsics import common_K
from .layer_motion import Correspondence, find_again, View
from .surfaces import (
    continue_layers,
    find_layers,
    full_size,
    log_depth,
    SurfaceConfig,
    work_stride,
)

_DOUBTFUL = 0.4             # of the usual confidence: below it a pixel is no evidence


@dataclass(frozen=True, slots=True, eq=False)
class LayerGrid:
    """A window on a grid that takes every ``stride``-th pixel of every ``stride``-th row."""

    prediction: Prediction
    config: SurfaceConfig
    stride: int
    views: tuple                            # N times View
    K: Optional[np.ndarray]                 # (3, 3) f64, px of the grid
    _found: Dict[Tuple[int, int], Correspondence] = field(default_factory=dict)

    @classmethod
    def of(cls, prediction: Prediction, config: SurfaceConfig) -> 'LayerGrid':
        """Reduce a window to the grid."""
        stride = work_stride(prediction.confidence.shape[1:], config.work_pixels)
        views = tuple(_view(prediction, k, stride) for k in range(len(prediction.frame_ids)))
        return cls(prediction, config, stride, views, _grid_K(prediction, stride))

    def find_again(self, t: int, other: int) -> Correspondence:
        """Return where the pixels of frame t are seen in another frame of the window."""
        if (t, other) not in self._found:
            self._found[t, other] = find_again(self.views[t], self.views[other], self.K)
        return self._found[t, other]

    def layers(self, t: int, field: np.ndarray) -> np.ndarray:
        """Return the layers (h, w) int32 of frame t; see `surfaces.find_layers`."""
        return find_layers(self.views[t].log_depth, field, self.config)

    def continued(self, t: int,
                  before: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the layers (h, w) of frame t that go on from those of frame t - 1.

        With their origin and the share of them that is new; see `surfaces.continue_layers`.
        """
        carried = self.find_again(t, t - 1).carry_labels(before)
        return continue_layers(self.views[t].log_depth, carried, self.config,
                               int(before.max()) + 1)

    def full_size(self, t: int, labels: np.ndarray) -> np.ndarray:
        """Return the layers (H, W) i16 of all pixels of frame t from those on the grid."""
        raw = defined_depth(self.prediction, t)
        return full_size(labels, self.views[t].log_depth, raw, self.stride)

    def log_ratio(self, t: int, previous: Prediction, row: int) -> np.ndarray:
        """Return ln(previous / this) depth (h, w) of frame t, which is ``row`` of previous."""
        smooth = log_depth(defined_depth(previous, row))
        return on_grid(smooth, self.stride) - self.views[t].log_depth

    def inherited(self, previous: Prediction, row: int) -> np.ndarray:
        """Return the variance (h, w) f32 of the log scale of a row of the previous window."""
        shape = on_grid(previous.confidence[row], self.stride).shape
        if previous.layers is None or previous.layer_variance is None:
            return np.zeros(shape, np.float32)
        return previous.layer_variance[row][on_grid(previous.layers[row], self.stride)]

    def weights(self, t: int, previous: Prediction, row: int) -> np.ndarray:
        """Return how much the pixels (h, w) f32 of a shared frame count, 0 for doubtful ones.

        The product of the confidences of both windows, where neither is far below what is usual.
        """
        a, b = (np.where(found >= _DOUBTFUL * _usual(found), found, 0) for found in (
            on_grid(previous.confidence[row], self.stride),
            on_grid(self.prediction.confidence[t], self.stride)))
        return a * b


def _usual(confidence: np.ndarray) -> float:
    """Return the median of what is above 0; 0 when nothing is."""
    defined = confidence[confidence > 0]
    return float(np.median(defined)) if len(defined) else 0.0


def on_grid(image: np.ndarray, stride: int) -> np.ndarray:
    """Return every ``stride``-th row and column of an image, from the middle of the first."""
    return image[stride // 2::stride, stride // 2::stride]


def defined_depth(prediction: Prediction, k: int) -> np.ndarray:
    """Return the depth (H, W) f32 of frame k, NaN where it is not defined."""
    depth = prediction.depth[k]
    return np.where(prediction.confidence[k] > 0, depth, np.float32(np.nan))


def _view(prediction: Prediction, k: int, stride: int) -> View:
    log = on_grid(log_depth(defined_depth(prediction, k)), stride)
    points = on_grid(prediction.local_points[k], stride)
    with np.errstate(divide='ignore', invalid='ignore'):
        points = points * (np.exp(log) / points[..., 2])[..., None]
    return View(prediction.T_window_camera[k], points, log)


def _grid_K(prediction: Prediction, stride: int) -> Optional[np.ndarray]:
    K = common_K(prediction) if prediction.K is None else prediction.K[0].astype(np.float64)
    if K is None:
        return None
    K = K / stride
    K[:2, 2] -= (stride // 2) / stride
    K[2, 2] = 1.0
    return K
