"""What an aligner is, and how its result moves a prediction into odom."""

import dataclasses
from dataclasses import dataclass
from typing import Optional, Protocol, Tuple

import numpy as np

from ..errors import AlignmentError
from ..geometry.sim3 import Sim3
from ..types import Landmarks, Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """Where one window lies in odom, and how sure that is."""

    T_odom_window: Sim3
    depth_scale: Optional[np.ndarray] = None    # (N, H, W) f32, times local_points before scale
    layers: Optional[np.ndarray] = None         # (N, H, W) i16, the depth layers it comes from
    layer_variance: Optional[np.ndarray] = None     # (N, L) f32, of the log scale of each layer
    n_inliers: int = 0                          # of what the method compares: points or landmarks
    rmse: float = 0.0                           # m, of the positions the method fitted
    log_scale_spread: float = 0.0
    """Robust standard deviation of the single log scales; 0 where the method measures none."""

    def __post_init__(self):
        if not isinstance(self.T_odom_window, Sim3):
            raise ValueError('Alignment.T_odom_window: expected a Sim3, got '
                             f'{type(self.T_odom_window).__name__}')
        if self.depth_scale is not None:
            scale = np.array(self.depth_scale, np.float32)
            if scale.ndim != 3:
                raise ValueError(f'Alignment.depth_scale: expected shape (N, H, W), got '
                                 f'{scale.shape}')
            scale.flags.writeable = False
            object.__setattr__(self, 'depth_scale', scale)


class Aligner(Protocol):
    """Pure: the same two predictions always give the same alignment."""

    def align(self, previous: Prediction, current: Prediction) -> Alignment:
        """Return where ``current`` lies in odom; ``previous`` is in odom units already.

        Raises AlignmentError, with the numbers that were not enough, when the overlap does not
        determine it.
        """


def common_frames(previous: Prediction, current: Prediction) -> Tuple[np.ndarray, np.ndarray]:
    """Return positions (C,) i64 of the shared frames in both predictions, matched by frame id."""
    _, in_previous, in_current = np.intersect1d(previous.frame_ids, current.frame_ids,
                                                assume_unique=True, return_indices=True)
    return in_previous, in_current


def shared_frames(previous: Prediction, current: Prediction) -> Tuple[np.ndarray, np.ndarray]:
    """Return what `common_frames` does; raise AlignmentError when there is no such frame."""
    i, j = common_frames(previous, current)
    if len(i) == 0:
        raise AlignmentError('the windows share no frame; set window.overlap above 0')
    return i, j


def apply(alignment: Alignment, prediction: Prediction) -> Prediction:
    """Return the prediction in odom: ``T_window_camera`` of the result is ``T_odom_camera``.

    Poses stay rigid (camera centres move by the similarity, axes are turned), so local points
    and depths take the scale. The deviations of logarithms of landmark depths do not change.
    """
    T = alignment.T_odom_window
    factor = np.float32(T.scale)
    if alignment.depth_scale is not None:
        if alignment.depth_scale.shape != prediction.confidence.shape:
            raise ValueError(f'alignment.depth_scale: expected shape '
                             f'{prediction.confidence.shape}, got {alignment.depth_scale.shape}')
        factor = factor * alignment.depth_scale[..., None]
    landmarks = prediction.landmarks
    if landmarks is not None:
        landmarks = Landmarks(landmarks.ids, T.apply(landmarks.points),
                              landmarks.sigma_log_depth)
    return dataclasses.replace(
        prediction,
        T_window_camera=T.apply_to_poses(prediction.T_window_camera),
        local_points=prediction.local_points * factor,
        landmarks=landmarks,
        T_odom_gauge=T,
        layers=alignment.layers,
        layer_variance=alignment.layer_variance)
