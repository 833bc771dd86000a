"""Two places in one window: a network that sees both says how they lie, or that they do not.

The two images go through the backbone together, as the loop-centric windows of VGGT-Long (arXiv
2507.16443, section 3.3) do. Their scales are tied to those of the submaps by depths at the same
pixels.
"""

from typing import Optional, Tuple

import numpy as np

from ..geometry import se3
from ..geometry.sim3 import Sim3
from ..types import Frame, FrameState, Prediction, View

_LEAST_PIXELS = 200
_MOST_SPREAD = 0.25                         # of the log of depth ratios, between its quartiles


def frames_of(target: View, source: View) -> Tuple[Frame, Frame]:
    """Return the images of two views as frames of a stream of their own."""
    return tuple(Frame(i, i, view.rgb, view.K) for i, view in enumerate((target, source)))


def place_together(prediction: Prediction, target: View, source: View) -> Optional[Sim3]:
    """Return T_target_source, from camera to camera, by a prediction of both images.

    ``prediction`` holds target and source, in this order. None where a pose is lost, or where
    the depths of a view are not those of the prediction times one factor.
    """
    if (prediction.states == FrameState.LOST).any():
        return None
    scales = [_scale(prediction, n, view) for n, view in enumerate((target, source))]
    if None in scales:
        return None
    T = se3.relative(*prediction.T_window_camera)
    return Sim3(scales[0] / scales[1], se3.nearest_rotation(T[:3, :3]), scales[0] * T[:3, 3])


def _scale(prediction: Prediction, n: int, view: View) -> Optional[float]:
    """Return the factor from the prediction's depths to those of a view of the same image."""
    if prediction.confidence.shape[1:] != view.depth.shape:
        return None
    is_good = (prediction.confidence[n] > 0) & (prediction.depth[n] > 0) & (view.depth > 0)
    if np.count_nonzero(is_good) < _LEAST_PIXELS:
        return None
    log_ratio = np.log(view.depth[is_good] / prediction.depth[n][is_good])
    low, middle, high = np.quantile(log_ratio, [0.25, 0.5, 0.75])
    return float(np.exp(middle)) if high - low < _MOST_SPREAD else None
